#include "api/diagnosis.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "common/clock.h"

enum {
    HELD_MANY = 64 << 20,    /* bytes of log: four files, more than an idle slot holds back */
    LAG_LONG = 30,           /* seconds between a commit and its confirmation */
    PENDING_LONG = 300,      /* seconds that a node may take */
    SAFE_LITTLE = 256 << 20, /* bytes until the slot is lost */
};

#define READ_ITS_LOG "read its log (journalctl -u headwater-reconciler)"

struct diagnosis {
    const json_t *system;
    json_t *problems;
};

/* ---- reading: what is absent or null is unknown ---- */

/* "replication.slot.active" */
static const json_t *at(const struct diagnosis *d, const char *path)
{
    const json_t *value = d->system;

    for (const char *end; *path != '\0'; path = *end == '.' ? end + 1 : end) {
        end = path + strcspn(path, ".");
        HW_AUTO_FREE char *name = hw_strndup(path, (size_t)(end - path));
        value = json_object_get(value, name);
    }
    return value;
}

static bool is_true(const struct diagnosis *d, const char *path)
{
    return json_is_true(at(d, path));
}

static bool is_false(const struct diagnosis *d, const char *path)
{
    return json_is_false(at(d, path));
}

static const char *text(const struct diagnosis *d, const char *path)
{
    const char *found = json_string_value(at(d, path));

    return found != NULL ? found : "";
}

static bool is(const struct diagnosis *d, const char *path, const char *expected)
{
    return strcmp(text(d, path), expected) == 0;
}

/* Unknown numbers are 0. */
static double number(const struct diagnosis *d, const char *path)
{
    return json_number_value(at(d, path));
}

static long long mib(const struct diagnosis *d, const char *path)
{
    return (long long)(number(d, path) / (1 << 20));
}

/* ---- saying ---- */

/* what and how are taken over. */
static void say(struct diagnosis *d, const char *severity, const char *part, const char *code,
                char *what, char *how)
{
    json_array_append_new(d->problems,
                          json_pack("{s:s, s:s, s:s, s:s, s:s}", "code", code, "part", part,
                                    "severity", severity, "what", what, "do", how));
    free(what);
    free(how);
}

/* Changes do not reach nodes, or soon will not. */
static void fault(struct diagnosis *d, const char *part, const char *code, char *what, char *how)
{
    say(d, "error", part, code, what, how);
}

/* Somebody should look at it. */
static void concern(struct diagnosis *d, const char *part, const char *code, char *what, char *how)
{
    say(d, "warning", part, code, what, how);
}

/* ---- the database ---- */

static void judge_database(struct diagnosis *d)
{
    if (is_false(d, "database.reachable"))
        fault(d, "database", "database_unreachable",
              hw_sprintf("headwater-api has no database: %s", text(d, "database.error")),
              hw_strdup("see that PostgreSQL runs, and that headwater-api's --database "
                        "(HEADWATER_DATABASE_URL) names it, its user and its password"));
    if (is_true(d, "database.in_recovery"))
        fault(d, "database", "database_in_recovery",
              hw_strdup("headwater-api is connected to a standby, which takes no changes"),
              hw_strdup("promote it (SELECT pg_promote()), or name the primary in --database; with "
                        "several hosts, target_session_attrs=read-write finds it"));
}

static void judge_schema(struct diagnosis *d)
{
    const long long wanted = (long long)number(d, "database.schema.wanted");
    const json_t *actual = at(d, "database.schema.actual");

    if (!json_is_integer(actual) || json_integer_value(actual) == wanted)
        return;
    if (json_integer_value(actual) < wanted)
        fault(d, "database", "schema_old",
              hw_sprintf("the database's schema is at version %lld, and this headwater-api works "
                         "with %lld",
                         (long long)json_integer_value(actual), wanted),
              hw_strdup("run headwater-api migrate as the database's owner or a superuser"));
    else
        fault(d, "database", "schema_new",
              hw_sprintf("the database's schema is at version %lld, and this headwater-api works "
                         "with %lld",
                         (long long)json_integer_value(actual), wanted),
              hw_strdup("use a headwater-api of the version that migrated the database"));
}

static void judge_wal_level(struct diagnosis *d)
{
    if (*text(d, "database.wal_level") != '\0' && !is(d, "database.wal_level", "logical"))
        fault(d, "database", "wal_level",
              hw_sprintf("wal_level is %s: changes can be decoded from \"logical\" only",
                         text(d, "database.wal_level")),
              hw_strdup("as a superuser: ALTER SYSTEM SET wal_level = 'logical'; then restart "
                        "PostgreSQL"));
}

/* ---- NATS ---- */

static void judge_nats(struct diagnosis *d)
{
    if (is_false(d, "nats.connected"))
        fault(d, "nats", "nats_unreachable",
              hw_sprintf("headwater-api cannot reach NATS: %s", *text(d, "nats.error") != '\0'
                                                                    ? text(d, "nats.error")
                                                                    : "it has not answered yet"),
              hw_strdup("see that nats-server runs, and that --nats (HEADWATER_NATS_URL) of "
                        "headwater-api and headwater-reconciler names it"));
    if (is_false(d, "nats.jetstream"))
        fault(d, "nats", "jetstream_off",
              hw_strdup("NATS answers, but has no JetStream for this account"),
              hw_strdup("start nats-server with JetStream (jetstream {} in its configuration, or "
                        "-js)"));
}

static void judge_streams(struct diagnosis *d)
{
    struct hw_buf names = {0};
    const json_t *stream;
    size_t i;

    json_array_foreach(at(d, "nats.streams"), i, stream) {
        if (json_is_false(json_object_get(stream, "exists")))
            hw_buf_printf(&names, "%s%s", names.len > 0 ? ", " : "",
                          json_string_value(json_object_get(stream, "name")));
    }
    if (names.len > 0)
        fault(d, "nats", "stream_missing",
              hw_sprintf("NATS does not have the streams %s", names.data),
              hw_strdup("a reconciler that leads makes them: start headwater-reconciler, or see "
                        "that it has the same --nats and --bucket as headwater-api"));
    hw_buf_free(&names);
}

/* ---- the slot ---- */

static bool is_led(const struct diagnosis *d)
{
    return is_true(d, "leader.leads");
}

/* A slot that lost its log keeps nobody from leading: it is made anew, or waited for. */
static void judge_slot(struct diagnosis *d)
{
    const char *name = text(d, "replication.slot.name");

    if (is_false(d, "replication.slot.of_this_database")) {
        fault(d, "slot", "slot_of_another_database",
              hw_sprintf("the slot %s is another database's of this server", name),
              hw_strdup("give each database its own --slot and --bucket, for headwater-reconciler "
                        "and headwater-api alike"));
        return;
    }
    if (is(d, "replication.slot.wal_status", "lost"))
        fault(d, "slot", "slot_lost",
              hw_sprintf("the slot %s has lost log that it needs: changes cannot be read from it",
                         name),
              hw_sprintf("headwater-reconciler makes it anew and compares everything; with "
                         "--on-lost-slot stop it waits for: SELECT pg_drop_replication_slot('%s'). "
                         "Raise max_slot_wal_keep_size",
                         name));
    else if (is(d, "replication.slot.wal_status", "unreserved") ||
             (json_is_number(at(d, "replication.slot.safe_wal_bytes")) &&
              number(d, "replication.slot.safe_wal_bytes") < SAFE_LITTLE &&
              number(d, "replication.slot.retained_bytes") > HELD_MANY))
        fault(d, "slot", "slot_at_risk",
              hw_sprintf("the slot %s is about to lose log that it needs: %lld MiB are left", name,
                         mib(d, "replication.slot.safe_wal_bytes")),
              hw_strdup("raise max_slot_wal_keep_size (ALTER SYSTEM SET …; SELECT "
                        "pg_reload_conf()), and see what holds up the reconciler"));
}

static void judge_leader(struct diagnosis *d)
{
    const char *name = text(d, "replication.slot.name");
    const bool connected = number(d, "reconcilers.connected") > 0;

    if (!is_false(d, "leader.leads"))
        return;
    if (connected)
        fault(d, "leader", "no_leader",
              hw_sprintf("no reconciler leads: one is connected, but none streams from the slot %s",
                         name),
              hw_sprintf("headwater-cdc preflight --slot %s says what is in the way, as does the "
                         "reconciler's log (journalctl -u headwater-reconciler)",
                         name));
    else
        fault(d, "leader", "no_leader",
              hw_sprintf("no reconciler leads: %s the slot %s",
                         is_false(d, "replication.slot.exists") ? "none is connected, and there is "
                                                                  "not even"
                                                                : "none is connected, and nobody "
                                                                  "streams from",
                         name),
              hw_sprintf("start headwater-reconciler, and " READ_ITS_LOG
                         "; if it has another --slot, tell headwater-api the same"));
    if (number(d, "replication.slot.retained_bytes") >= HELD_MANY)
        concern(d, "slot", "slot_inactive",
                hw_sprintf("nobody reads from the slot %s, which holds back %lld MiB of log", name,
                           mib(d, "replication.slot.retained_bytes")),
                hw_sprintf("let a reconciler read it before the disk is full; if none ever will: "
                           "SELECT pg_drop_replication_slot('%s')",
                           name));
}

/* ---- the leader, as it says itself ---- */

static bool is_same(const struct diagnosis *d, const char *ours, const char *theirs)
{
    return *text(d, ours) == '\0' || *text(d, theirs) == '\0' || is(d, ours, text(d, theirs));
}

/* Copies of one cluster have the same identifier: which of them runs, its start tells. */
static bool is_same_server(const struct diagnosis *d)
{
    int64_t ours, theirs;

    return is_same(d, "database.system_id", "leader.said.database.system_id") &&
           (!hw_clock_parse(text(d, "database.started_at"), &ours) ||
            !hw_clock_parse(text(d, "leader.said.database.started_at"), &theirs) || ours == theirs);
}

static void judge_identity(struct diagnosis *d)
{
    if (!is_same_server(d) || !is_same(d, "database.name", "leader.said.database.name"))
        fault(d, "leader", "leader_of_another_database",
              hw_sprintf("the reconciler that leads the bucket %s reads another database: %s",
                         text(d, "nats.bucket"), text(d, "leader.said.database.address")),
              hw_strdup("give headwater-reconciler and headwater-api the same --database, or each "
                        "database a --bucket of its own"));
    else if (!is_same(d, "replication.slot.name", "leader.said.slot"))
        fault(d, "leader", "leader_of_another_slot",
              hw_sprintf("the reconciler that leads the bucket %s streams from the slot %s, not "
                         "from %s",
                         text(d, "nats.bucket"), text(d, "leader.said.slot"),
                         text(d, "replication.slot.name")),
              hw_strdup("give headwater-reconciler and headwater-api the same --slot"));
}

static void judge_silence(struct diagnosis *d)
{
    if (!is_led(d) || !is_true(d, "nats.connected"))
        return;
    if (is(d, "leader.answer", "nobody") || is(d, "leader.answer", "silent"))
        concern(d, "leader", "leader_silent",
                hw_sprintf("%s streams from the slot %s, and does not answer on NATS",
                           *text(d, "replication.slot.holder.application") != '\0'
                               ? text(d, "replication.slot.holder.application")
                               : "somebody",
                           text(d, "replication.slot.name")),
                hw_sprintf("see that it is a reconciler with the same --nats and --bucket, that it "
                           "is not stopped, and " READ_ITS_LOG));
}

static void judge_progress(struct diagnosis *d)
{
    const char *error = text(d, "leader.said.last_error.text");

    if (is(d, "leader.said.state", "yielded"))
        fault(
            d, "leader", "leader_yielded",
            hw_sprintf("the reconciler does not lead any more: %s", text(d, "leader.said.yielded")),
            hw_sprintf("see the database at %s; the reconciler goes on by itself when that can be "
                       "written again",
                       text(d, "leader.said.database.address")));
    else if (is_false(d, "leader.said.database.writable"))
        fault(d, "leader", "leader_database_read_only",
              hw_strdup("the reconciler's database cannot be written, and takes no reports"),
              hw_sprintf("see the database at %s: is it a standby, or read-only?",
                         text(d, "leader.said.database.address")));
    if (is(d, "leader.said.state", "stalled"))
        fault(d, "leader", "leader_stalled",
              hw_sprintf("the reconciler cannot write to NATS, and holds the stream: %s",
                         *error != '\0' ? error : "NATS was away"),
              hw_strdup("see to nats-server; the reconciler goes on by itself when it is back"));
    if (is(d, "leader.said.state", "loading") || is(d, "leader.said.state", "replaying") ||
        is(d, "leader.said.state", "rebuilding"))
        concern(d, "leader", "leader_busy",
                hw_sprintf("the reconciler is %s, and passes changes on when that is done",
                           text(d, "leader.said.state")),
                hw_strdup("wait; its log says how far it is"));
    if (is_led(d) && (number(d, "replication.slot.lag_seconds") > LAG_LONG ||
                      number(d, "replication.slot.lag_bytes") > HELD_MANY))
        concern(d, "slot", "replication_lag",
                hw_sprintf("the slot is %lld MiB and %.0f s behind",
                           mib(d, "replication.slot.lag_bytes"),
                           number(d, "replication.slot.lag_seconds")),
                hw_sprintf("see that the reconciler reaches NATS: " READ_ITS_LOG));
}

static void judge_archive(struct diagnosis *d)
{
    const char *name = text(d, "replication.archive.name");

    if (is(d, "replication.archive.wal_status", "lost"))
        concern(d, "archive", "archive_lost",
                hw_sprintf("the archive slot %s has lost its log: nothing can be replayed from it",
                           name),
                hw_strdup("the reconciler that leads makes it anew; raise "
                          "max_slot_wal_keep_size, or lower its --archive-bytes"));
    else if (is_false(d, "replication.archive.exists") && is_true(d, "leader.said.keeps_archive") &&
             is(d, "leader.said.state", "streaming"))
        concern(d, "archive", "archive_missing",
                hw_sprintf("there is no archive slot %s: the log cannot be replayed", name),
                hw_strdup("the reconciler makes it; where it cannot, its log says why: raise "
                          "max_replication_slots, perhaps"));
    else if (is_true(d, "replication.archive.ahead"))
        concern(d, "archive", "archive_short",
                hw_sprintf("the archive slot %s does not reach back to where the slot is", name),
                hw_sprintf("drop it, and the reconciler makes it anew: SELECT "
                           "pg_drop_replication_slot('%s')",
                           name));
}

/* ---- the fleet ---- */

static void judge_fleet(struct diagnosis *d)
{
    const long long failed = (long long)number(d, "fleet.counts.failed");
    const long long unknown = (long long)number(d, "fleet.counts.unknown");
    const long long conflict = (long long)number(d, "fleet.counts.conflict");
    const double lag = number(d, "fleet.worst_lag_seconds");

    if (conflict > 0)
        concern(d, "fleet", "nodes_in_conflict",
                hw_sprintf("%lld %s several agents of its name that are alive at once", conflict,
                           conflict == 1 ? "node has" : "nodes have each"),
                hw_strdup("headwater fleet --state conflict names the agents: stop the one that is "
                          "not meant; until then, headwater choose NODE INSTANCE says which is"));
    if (failed > 0)
        concern(d, "fleet", "nodes_failed",
                hw_sprintf("%lld %s failed to apply what %s should run", failed,
                           failed == 1 ? "node" : "nodes", failed == 1 ? "it" : "they"),
                hw_strdup("headwater fleet --state failed shows each with its error"));
    if (unknown > 0)
        concern(d, "fleet", "nodes_unknown",
                hw_sprintf("%lld %s silent, or never reported", unknown,
                           unknown == 1 ? "node is" : "nodes are"),
                hw_strdup("headwater fleet --state unknown names them: see that headwater-agent "
                          "runs there, with this name and this NATS"));
    if (lag > PENDING_LONG)
        concern(d, "fleet", "nodes_pending",
                hw_sprintf("a node has not applied for %.0f s what it should run", lag),
                hw_strdup("headwater fleet --state pending names it; headwater-agent status says "
                          "there what it waits for"));
}

json_t *api_diagnosis(const json_t *system)
{
    static void (*const judges[])(struct diagnosis * d) = {
        judge_database, judge_schema,   judge_wal_level, judge_nats,
        judge_slot,     judge_leader,   judge_streams,   judge_identity,
        judge_silence,  judge_progress, judge_archive,   judge_fleet};
    struct diagnosis d = {.system = system, .problems = json_array()};

    for (size_t i = 0; i < HW_COUNT(judges); i++)
        judges[i](&d);
    return d.problems;
}
