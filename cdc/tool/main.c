/* headwater-cdc: look at what flows out of PostgreSQL, and at what it needs to flow. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "cdc/orphans.h"
#include "cdc/pg_source.h"
#include "cdc/slot.h"
#include "cdc/tool/replay.h"
#include "cdc/tool/tail.h"
#include "common/log.h"
#include "common/options.h"
#include "common/streams.h"
#include "pg/conninfo.h"

#define APPLICATION "headwater-cdc"

static const char default_slot[] = "headwater";

struct cdc_options {
    const char *database;
    const char *slot;
    const char *tables;
    const char *from, *to;
    int64_t count;
    bool dry_run;
    bool json;
    const char *log_level;
    const char *log_format;
};

#define OPTION(member, ...)    HW_OPTION(struct cdc_options, member, __VA_ARGS__)
#define FLAG_ONLY(member, ...) HW_OPTION_NO_ENV(struct cdc_options, member, __VA_ARGS__)

static const struct hw_option options_table[] = {
    HW_OPTION_DATABASE(struct cdc_options),
    OPTION(slot, STRING, "NAME",
           "replication slot; tail heeds the flag alone, and without it uses a temporary one",
           .preset = default_slot),
    FLAG_ONLY(tables, STRING, "LIST", "tables to stream, schema.table, separated by commas",
              .preset = "headwater.desired,headwater.blob,headwater.changelog"),
    FLAG_ONLY(from, STRING, "LSN|TIME",
              "replay: where to begin; tail --slot: only what ends behind this position"),
    FLAG_ONLY(to, STRING, "LSN|TIME", "replay: where to end, the default is the end of the log"),
    FLAG_ONLY(dry_run, FLAG, NULL, "replay: only say what is in the range"),
    FLAG_ONLY(count, INT, "N", "tail: end after N transactions", .letter = 'n', .max = INT64_MAX),
    FLAG_ONLY(json, FLAG, NULL, "preflight, status, replay: answer in JSON"),
    HW_OPTIONS_LOG(struct cdc_options),
    {.name = NULL},
};

static const struct hw_command commands[] = {
    {.name = "tail", .help = "print each transaction as one line of JSON"},
    {.name = "preflight", .help = "check everything that streaming needs, and say how to get it"},
    {.name = "status", .help = "show the slot and its archive: positions, lag, who streams"},
    {.name = "replay", .help = "have a range of the archive sent once more, and watch"},
    {.name = NULL},
};

static const struct hw_program program = {
    .name = APPLICATION,
    .summary = "look at the stream of changes that leaves PostgreSQL",
    .options = options_table,
    .commands = commands,
    .needs_command = true,
    .notes = "tail takes nothing away: it confirms no position in a slot that it is given.\n"
             "\n"
             "Exit status: 0 when all is well; 1 when a check, the stream or the replay failed, or "
             "status\n"
             "found no usable slot; 2 for wrong usage.\n",
};

/* ---- what preflight and status share ---- */

static enum hw_status read_server(PGconn *conn, const struct cdc_options *o,
                                  struct cdc_server *server, struct hw_error *err)
{
    PGresult *result;
    enum hw_status st =
        hw_db_exec(conn, cdc_server_sql, 2, (const char *[]){o->slot, o->tables}, &result, err);
    if (st != HW_OK)
        return st;
    st = cdc_server_read(result, server, err);
    PQclear(result);
    return st;
}

static enum hw_status read_orphans(PGconn *conn, const struct cdc_options *o, PGresult **orphans,
                                   struct hw_error *err)
{
    return hw_db_exec(conn, cdc_orphans_sql, 1, (const char *[]){o->slot}, orphans, err);
}

static void print_json(json_t *value)
{
    HW_AUTO_FREE char *text = hw_json_dump(value);
    puts(text);
    json_decref(value);
}

/* ---- preflight ---- */

struct preflight {
    bool json;
    bool ok;
    json_t *checks;
};

static void add_check(void *arg, const char *name, bool ok, const char *text)
{
    struct preflight *p = arg;
    p->ok &= ok;
    json_array_append_new(p->checks,
                          json_pack("{s:s, s:b, s:s}", "name", name, "ok", ok, "text", text));
    if (!p->json)
        printf("%-5s %-10s %s\n", ok ? "ok" : "FAIL", name, text);
}

/* What fails no check. drop: the statement that mends it, or NULL. */
static void add_warning(struct preflight *p, const char *name, const char *text, const char *drop)
{
    json_t *check =
        json_pack("{s:s, s:b, s:b, s:s}", "name", name, "ok", true, "warning", true, "text", text);

    if (drop != NULL)
        json_object_set_new(check, "drop", json_string(drop));
    json_array_append_new(p->checks, check);
    if (!p->json)
        printf("%-5s %-10s %s\n", "warn", name, text);
}

/* Orphan slots are told of, but fail no check: they do no harm until the disk is full. */
static void add_orphans(struct preflight *p, const PGresult *orphans)
{
    for (int i = 0; i < PQntuples(orphans); i++) {
        const struct cdc_orphan orphan = cdc_orphan_at(orphans, i);
        HW_AUTO_FREE char *text = cdc_orphan_text(&orphan);
        HW_AUTO_FREE char *drop = cdc_orphan_drop_sql(orphan.slot);

        add_warning(p, "orphan", text, drop);
    }
}

/* ---- the trial: a stream from a temporary slot, as far as it starts ---- */

#define TRIAL_TIMEOUT_MS 10000

struct trial {
    bool over;
    struct hw_error err; /* HW_OK: it started */
};

static void trial_started(void *arg)
{
    struct trial *trial = arg;
    trial->over = true;
}

static void trial_failed(void *arg, const struct hw_error *err)
{
    struct trial *trial = arg;
    trial->err = *err;
    trial->over = true;
}

static enum hw_status trial_nothing(void *arg, const struct cdc_transaction *tx,
                                    struct hw_error *err)
{
    (void)arg, (void)tx, (void)err;
    return HW_OK;
}

static enum hw_status trial_change(void *arg, const struct cdc_transaction *tx,
                                   const struct cdc_change *change, struct hw_error *err)
{
    (void)arg, (void)tx, (void)change, (void)err;
    return HW_OK;
}

static void trial_progress(void *arg, hw_lsn position)
{
    (void)arg, (void)position;
}

static enum hw_status try_streaming(const struct cdc_options *o, struct hw_error *err)
{
    HW_AUTO_FREE char *slot = hw_sprintf("headwater_preflight_%ld", (long)getpid());
    HW_AUTO_FREE char *prepare = cdc_slot_temporary_sql(slot);
    struct trial trial = {0};
    struct cdc_source *source = NULL;
    struct hw_loop *loop = NULL;
    enum hw_status st = hw_loop_new(&loop, err);
    if (st == HW_OK)
        st = cdc_pg_open(loop,
                         &(struct cdc_pg_options){.conninfo = o->database,
                                                  .slot = slot,
                                                  .tables = o->tables,
                                                  .read_only = true,
                                                  .application_name = APPLICATION,
                                                  .prepare = prepare},
                         &(struct cdc_handler){.begin = trial_nothing,
                                               .change = trial_change,
                                               .commit = trial_nothing,
                                               .started = trial_started,
                                               .progress = trial_progress,
                                               .failed = trial_failed,
                                               .arg = &trial},
                         &source, err);
    if (st == HW_OK && !hw_loop_run_until(loop, &trial.over, TRIAL_TIMEOUT_MS))
        st = hw_fail(err, HW_ETIMEOUT,
                     "no new slot got ready within %d s: it waits for the transactions that run "
                     "now (pg_stat_activity, oldest xact_start) to end",
                     TRIAL_TIMEOUT_MS / 1000);
    else if (st == HW_OK && trial.err.status != HW_OK)
        st = hw_fail(err, trial.err.status, "%s", trial.err.message);
    cdc_source_close(source);
    hw_loop_free(loop);
    return st;
}

/* What is otherwise in the schema than its migrations made it, where it can tell that by itself. It
 * may let changes pass that the stream should have; headwater-api migrate mends it. */
static enum hw_status read_defects(PGconn *conn, PGresult **defects, struct hw_error *err)
{
    static const char there_sql[] = "SELECT to_regprocedure('headwater.defects()') IS NOT NULL";
    PGresult *there;
    enum hw_status st = hw_db_exec(conn, there_sql, 0, NULL, &there, err);
    if (st != HW_OK)
        return st;
    const bool exists = strcmp(PQgetvalue(there, 0, 0), "t") == 0;
    PQclear(there);
    return hw_db_exec(conn,
                      exists ? "SELECT kind, object, problem, mend FROM headwater.defects()"
                             : "SELECT '', '', '', '' WHERE false",
                      0, NULL, defects, err);
}

static void add_defects(struct preflight *p, const PGresult *defects)
{
    for (int i = 0; i < PQntuples(defects); i++) {
        const char *const mend = PQgetvalue(defects, i, 3);
        HW_AUTO_FREE char *text =
            hw_sprintf("%s: %s%s%s", PQgetvalue(defects, i, 1), PQgetvalue(defects, i, 2),
                       *mend != '\0' ? "; headwater-api migrate mends it: " : "", mend);

        add_check(p, PQgetvalue(defects, i, 0), false, text);
    }
}

static int preflight(const struct cdc_options *o)
{
    struct preflight p = {.json = o->json, .ok = true, .checks = json_array()};
    struct cdc_server server;
    struct hw_error err;
    PGconn *conn = NULL;
    PGresult *orphans = NULL, *defects = NULL;
    enum hw_status st = hw_db_connect(o->database, APPLICATION, &conn, &err);
    struct hw_error untold = {0}; /* why the schema does not tell of defects */
    if (st == HW_OK)
        st = read_server(conn, o, &server, &err);
    if (st == HW_OK)
        st = read_orphans(conn, o, &orphans, &err);
    if (st == HW_OK)
        (void)!read_defects(conn, &defects, &untold);
    if (st == HW_OK)
        cdc_server_probe(conn, o->slot, &server);
    PQfinish(conn);
    if (st != HW_OK) {
        add_check(&p, "connection", false, err.message);
    } else {
        cdc_server_report(&server, o->slot, false, add_check, &p);
        if (cdc_wal_is_gone(server.archive_wal_status) &&
            cdc_archive_check(&server, o->slot, HW_LSN_NONE, &err) != HW_OK)
            add_warning(&p, "archive", err.message, NULL);
        add_orphans(&p, orphans);
        add_defects(&p, defects);
        if (untold.status != HW_OK)
            add_warning(&p, "defects", untold.message, NULL);
        if (p.ok && (server.free_slots < 1 || server.free_senders < 1))
            add_check(&p, "trial", true, "not tried: it needs a slot and a WAL sender");
        else if (p.ok && try_streaming(o, &err) != HW_OK)
            add_check(&p, "trial", false, err.message);
        else if (p.ok)
            add_check(&p, "trial", true, "wal2json streams from a temporary slot");
    }
    PQclear(orphans);
    PQclear(defects);
    if (p.json)
        print_json(json_pack("{s:b, s:o}", "ok", p.ok, "checks", p.checks));
    else
        json_decref(p.checks);
    return p.ok ? HW_EXIT_OK : HW_EXIT_FAILURE;
}

/* ---- status ---- */

/* A role that may not see what others do gets NULLs, shown as "?". */
static const char streams_sql[] =
    "SELECT pid::text, coalesce(usename, '?'), coalesce(application_name, '?'),\n"
    "       coalesce(host(client_addr), '?'), coalesce(state, '?'), coalesce(sent_lsn::text, '?')\n"
    "FROM pg_stat_replication WHERE pid = $1::int";

static const char *const stream_fields[] = {"pid",     "user",  "application",
                                            "address", "state", "sent_lsn"};

static json_t *stream_json(const PGresult *streams)
{
    if (PQntuples(streams) == 0)
        return json_null();
    json_t *object = json_object();
    json_object_set_new(object, stream_fields[0],
                        json_integer(strtol(PQgetvalue(streams, 0, 0), NULL, 10)));
    for (int i = 1; i < (int)HW_COUNT(stream_fields); i++)
        json_object_set_new(object, stream_fields[i], json_string(PQgetvalue(streams, 0, i)));
    return object;
}

static json_t *lsn_json(hw_lsn lsn)
{
    return lsn == HW_LSN_NONE ? json_null() : json_string(HW_LSN(lsn));
}

/* How much log lies between a position of the slot and the end. */
static int64_t bytes_behind(const struct cdc_server *s, hw_lsn position)
{
    return (int64_t)(s->current - position);
}

static json_t *behind_json(const struct cdc_server *s, hw_lsn position)
{
    return position == HW_LSN_NONE ? json_null() : json_integer(bytes_behind(s, position));
}

static json_t *archive_json(const struct cdc_server *s, const char *archive)
{
    if (!s->archive_exists)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:o, s:s}", "slot", archive, "from_lsn",
                     lsn_json(s->archive_confirmed), "restart_lsn", lsn_json(s->archive_restart),
                     "retained_bytes", behind_json(s, s->archive_restart), "wal_status",
                     s->archive_wal_status);
}

static void print_archive(const struct cdc_server *s, const char *archive)
{
    if (!s->archive_exists)
        printf("archive    there is none\n");
    else if (cdc_wal_is_gone(s->archive_wal_status))
        printf("archive    %s, %s: the reconciler that leads makes it anew\n", archive,
               s->archive_wal_status);
    else
        printf("archive    %s, from %s, %s held, %s\n", archive, HW_LSN(s->archive_confirmed),
               CDC_BYTES(bytes_behind(s, s->archive_restart)), s->archive_wal_status);
}

/* The checks of preflight that fail on the same server. */
struct problems {
    json_t *list; /* of {"name", "text"} */
    bool of_slot;
};

static void add_problem(void *arg, const char *name, bool ok, const char *text)
{
    struct problems *problems = arg;
    if (ok)
        return;
    problems->of_slot |= strcmp(name, "slot") == 0;
    json_array_append_new(problems->list, json_pack("{s:s, s:s}", "name", name, "text", text));
}

static json_t *orphans_json(const PGresult *orphans)
{
    json_t *list = json_array();
    for (int i = 0; i < PQntuples(orphans); i++) {
        const struct cdc_orphan orphan = cdc_orphan_at(orphans, i);
        HW_AUTO_FREE char *drop = cdc_orphan_drop_sql(orphan.slot);
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:s}", "slot", orphan.slot, "retained_bytes",
                                        (json_int_t)orphan.retained, "drop", drop));
    }
    return list;
}

static void print_problems(const struct problems *problems, const PGresult *orphans)
{
    size_t i;
    json_t *problem;
    json_array_foreach(problems->list, i, problem) {
        printf("PROBLEM    %s: %s\n", json_string_value(json_object_get(problem, "name")),
               json_string_value(json_object_get(problem, "text")));
    }
    for (int row = 0; row < PQntuples(orphans); row++) {
        const struct cdc_orphan orphan = cdc_orphan_at(orphans, row);
        HW_AUTO_FREE char *text = cdc_orphan_text(&orphan);
        printf("orphan     %s\n", text);
    }
}

static void print_status_json(const struct cdc_server *s, const char *slot, const PGresult *streams,
                              const struct problems *problems, const PGresult *orphans)
{
    HW_AUTO_FREE char *system_id = hw_sprintf("%" PRIu64, s->system_id);
    json_t *status =
        json_pack("{s:s, s:s, s:i, s:o, s:b}", "slot", slot, "system_id", system_id, "timeline",
                  (int)s->timeline, "current_lsn", lsn_json(s->current), "exists", s->slot_exists);
    if (s->slot_exists) {
        json_t *more = json_pack(
            "{s:s, s:b, s:b, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:b, s:o}", "plugin",
            s->slot_plugin, "temporary", s->slot_temporary, "active", s->slot_active,
            "confirmed_lsn", lsn_json(s->slot_confirmed), "restart_lsn", lsn_json(s->slot_restart),
            "wal_status", s->slot_wal_status, "safe_wal_bytes",
            s->slot_safe_wal_size < 0 ? json_null() : json_integer(s->slot_safe_wal_size),
            "lag_bytes", behind_json(s, s->slot_confirmed), "retained_bytes",
            behind_json(s, s->slot_restart), "stream", stream_json(streams), "failover",
            s->slot_failover, "waits_for", s->slot_waits ? json_string(s->standbys) : json_null());
        json_object_update(status, more);
        json_decref(more);
    }
    HW_AUTO_FREE char *archive = cdc_archive_name(slot);
    json_object_set_new(status, "archive", archive_json(s, archive));
    json_object_set(status, "problems", problems->list);
    json_object_set_new(status, "orphans", orphans_json(orphans));
    print_json(status);
}

static void print_status(const struct cdc_server *s, const char *slot, const PGresult *streams)
{
    printf("server     PostgreSQL %d.%d, system %" PRIu64 ", timeline %" PRIu32 "\n",
           s->version / 10000, s->version % 10000, s->system_id, s->timeline);
    printf("current    %s\n", HW_LSN(s->current));
    if (!s->slot_exists) {
        printf("slot       %s does not exist; the reconciler makes it when it starts\n", slot);
        return;
    }
    printf("slot       %s (%s%s)\n", slot, s->slot_plugin, s->slot_temporary ? ", temporary" : "");
    if (PQntuples(streams) > 0)
        printf("stream     to %s of %s at %s, PID %s, %s, sent %s\n", PQgetvalue(streams, 0, 2),
               PQgetvalue(streams, 0, 1), PQgetvalue(streams, 0, 3), PQgetvalue(streams, 0, 0),
               PQgetvalue(streams, 0, 4), PQgetvalue(streams, 0, 5));
    else if (s->slot_active)
        printf("stream     in use by PID %d\n", s->slot_active_pid);
    else
        printf("stream     nobody streams from it\n");
    if (s->slot_waits)
        printf("waits      for standbys (synchronized_standby_slots): %s\n", s->standbys);
    printf("confirmed  %s, %s behind\n", HW_LSN(s->slot_confirmed),
           CDC_BYTES(bytes_behind(s, s->slot_confirmed)));
    if (s->slot_restart != HW_LSN_NONE)
        printf("retained   %s, from %s\n", CDC_BYTES(bytes_behind(s, s->slot_restart)),
               HW_LSN(s->slot_restart));
    if (cdc_wal_is_gone(s->slot_wal_status))
        printf("WAL        %s: the slot cannot be used any more\n", s->slot_wal_status);
    else if (s->slot_safe_wal_size >= 0)
        printf("WAL        %s, lost after %s more\n", s->slot_wal_status,
               CDC_BYTES(s->slot_safe_wal_size));
    else
        printf("WAL        %s, without a limit\n", s->slot_wal_status);
    HW_AUTO_FREE char *archive = cdc_archive_name(slot);
    print_archive(s, archive);
}

static int status(const struct cdc_options *o)
{
    struct cdc_server server;
    struct hw_error err;
    PGconn *conn = NULL;
    PGresult *streams = NULL, *orphans = NULL;
    struct problems problems = {.list = json_array()};
    enum hw_status st = hw_db_connect(o->database, APPLICATION, &conn, &err);
    if (st == HW_OK)
        st = read_server(conn, o, &server, &err);
    if (st == HW_OK) {
        HW_AUTO_FREE char *pid = hw_sprintf("%d", server.slot_active_pid);
        st = hw_db_exec(conn, streams_sql, 1, (const char *[]){pid}, &streams, &err);
    }
    if (st == HW_OK)
        st = read_orphans(conn, o, &orphans, &err);
    if (st == HW_OK)
        cdc_server_probe(conn, o->slot, &server);
    PQfinish(conn);
    if (st != HW_OK) {
        hw_log_error("status failed", HW_E(&err));
    } else {
        cdc_server_report(&server, o->slot, false, add_problem, &problems);
        if (o->json)
            print_status_json(&server, o->slot, streams, &problems, orphans);
        else
            print_status(&server, o->slot, streams);
        if (!o->json)
            print_problems(&problems, orphans);
    }
    const bool well = st == HW_OK && server.slot_exists && !problems.of_slot;
    json_decref(problems.list);
    PQclear(streams);
    PQclear(orphans);
    return well ? HW_EXIT_OK : HW_EXIT_FAILURE;
}

/* ---- tail ---- */

/* HEADWATER_SLOT is usually the reconciler's: only a flag means that tail shall read from it. */
static bool slot_is_by_flag(const struct cdc_options *o)
{
    return o->slot != default_slot && o->slot != getenv("HEADWATER_SLOT");
}

static enum hw_status tail_options(const struct cdc_options *o, struct cdc_tail_options *tail,
                                   struct hw_error *err)
{
    *tail = (struct cdc_tail_options){
        .conninfo = o->database,
        .slot = slot_is_by_flag(o) ? o->slot : NULL,
        .tables = o->tables,
        .count = o->count,
    };
    if (o->from == NULL)
        return HW_OK;
    if (tail->slot == NULL)
        return hw_fail(err, HW_EINVAL, "--from needs --slot: a temporary slot begins now");
    enum hw_status st = hw_lsn_parse(o->from, &tail->from, err);
    return st == HW_OK ? st : hw_fail_in(err, "--from");
}

static int tail(const struct cdc_options *o)
{
    struct cdc_tail_options options;
    struct hw_error err;
    if (tail_options(o, &options, &err) != HW_OK)
        return hw_options_usage_error(&program, &err);
    if (cdc_tail_run(&options, &err) != HW_OK) {
        hw_log_error("the stream ended", HW_E(&err));
        return HW_EXIT_FAILURE;
    }
    return HW_EXIT_OK;
}

/* ---- replay ---- */

static int replay(const struct cdc_options *o)
{
    const struct cdc_replay_options options = {
        .conninfo = o->database,
        .slot = o->slot,
        .tables = o->tables,
        .from = o->from,
        .to = o->to,
        .dry_run = o->dry_run,
        .json = o->json,
    };
    struct hw_error err;
    if (o->from == NULL) {
        (void)hw_fail(&err, HW_EINVAL, "replay needs --from");
        return hw_options_usage_error(&program, &err);
    }
    if (cdc_replay_run(&options, &err) != HW_OK) {
        hw_log_error(o->dry_run ? "the archive was not read" : "the replay was not seen through",
                     HW_E(&err));
        return HW_EXIT_FAILURE;
    }
    return HW_EXIT_OK;
}

int main(int argc, char **argv)
{
    struct cdc_options o = {0};
    struct hw_error err;
    const char *command;
    char **operands;
    int count;
    hw_streams_open(program.name, HW_EXIT_FAILURE);
    if (hw_options_parse(&program, argc, argv, &o, &command, &operands, &count, &err) != HW_OK ||
        hw_options_log(o.log_level, o.log_format, &err) != HW_OK ||
        cdc_slot_check_name(o.slot, &err) != HW_OK)
        return hw_options_usage_error(&program, &err);
    if (command == NULL)
        (void)hw_fail(&err, HW_EINVAL, "a command is missing: tail, preflight, status or replay");
    else if (count > 0)
        (void)hw_fail(&err, HW_EINVAL, "%s: not understood", operands[0]);
    else if (o.database == NULL)
        (void)hw_fail(&err, HW_EINVAL, "--database or HEADWATER_DATABASE_URL is missing");
    else if (strcmp(command, "tail") == 0)
        return tail(&o);
    else if (strcmp(command, "preflight") == 0)
        return preflight(&o);
    else if (strcmp(command, "replay") == 0)
        return replay(&o);
    else
        return status(&o);
    return hw_options_usage_error(&program, &err);
}
