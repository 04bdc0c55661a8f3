#include "cdc/archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cdc/slot.h"
#include "pg/aside.h"
#include "pg/database.h"

#define CHECK_MS 30000

/* A mark is set every hundredth of keep_ms, so about 100 of them are young enough to be kept. */
#define MARKS_WITHIN 100
#define MARKS        (MARKS_WITHIN + 4)

struct mark {
    int64_t time; /* hw_loop_now() */
    hw_lsn at;    /* the log's end then */
};

struct cdc_archive {
    struct hw_loop *loop;
    struct hw_db *pg;
    struct hw_route *replication; /* for commands that SQL does not have … */
    struct hw_aside *command;     /* … such as the one that runs, or NULL */
    struct hw_timer timer;
    char *slot, *name; /* the slot, and its archive */
    int64_t keep_bytes, keep_ms, check_ms;
    struct cdc_archive_events events;

    struct mark marks[MARKS]; /* a ring, oldest first */
    int first, count;

    hw_lsn advanced_from; /* restart_lsn before the last advance; HW_LSN_NONE: no other is due */
    bool failover_asked;  /* standbys are to keep a copy of it; tried once */
    bool was_read;        /* its log is there: it was read from the beginning */
    bool hindered;        /* the last look found the archive slot in use */
    struct hw_error told; /* the trouble that was told and still lasts; HW_OK: none */
};

/* What one look finds. */
struct sight {
    bool slot_exists, exists, same, lost, failover;
    hw_lsn slot_confirmed, confirmed, restart, current;
};

static void look(void *arg);
static void drop(struct cdc_archive *a);

static void again(struct cdc_archive *a, int64_t after_ms)
{
    hw_timer_start(a->loop, &a->timer, after_ms, look, a);
}

/* ---- telling: the last that a function does, since the owner may stop the archive from it ---- */

static void tell(struct cdc_archive *a, const struct hw_error *err)
{
    if (a->told.status == err->status && strcmp(a->told.message, err->message) == 0)
        return;
    a->told = *err;
    if (a->events.trouble != NULL)
        a->events.trouble(a->events.arg, err);
}

static void tell_change(struct cdc_archive *a, const struct cdc_archive_state *state)
{
    if (a->events.changed != NULL)
        a->events.changed(a->events.arg, state);
}

/* A statement failed: tells of it, and tries again at the next look. */
static void failed(struct cdc_archive *a, const struct hw_db_outcome *outcome, const char *doing)
{
    struct hw_error err = outcome->err;
    const bool in_use = strcmp(outcome->sqlstate, "55006") == 0; /* object_in_use */
    const bool first = !a->hindered;

    a->hindered = in_use;
    again(a, a->check_ms);
    /* The loss of the connection is told by on_down. A slot in use is told only when the next look
     * finds it in use again, for a predecessor's last statement may still run. SQLSTATE 42710: the
     * slot exists by now, somebody else made it. */
    if (err.status == HW_EUNAVAIL || (in_use && first) || strcmp(outcome->sqlstate, "42710") == 0)
        return;
    const bool gone = cdc_slot_judge(outcome->sqlstate, a->name, &err) == CDC_LOG_REMOVED;
    (void)hw_fail_in(&err, "%s %s", doing, a->name);
    if (gone) {
        err.status = HW_ELIMIT;
        drop(a); /* and it is made anew; nothing before that can be replayed */
    }
    tell(a, &err);
}

/* ---- marks ---- */

static void set_mark(struct cdc_archive *a, hw_lsn at)
{
    const int64_t now = hw_loop_now();

    if (a->keep_ms == 0)
        return;
    if (a->count > 0) {
        const struct mark *last = &a->marks[(a->first + a->count - 1) % MARKS];

        if (now - last->time < a->keep_ms / MARKS_WITHIN)
            return;
    }
    if (a->count == MARKS) {
        a->first = (a->first + 1) % MARKS;
        a->count--;
    }
    a->marks[(a->first + a->count++) % MARKS] = (struct mark){.time = now, .at = at};
}

/* The youngest position that is old enough to be given up. Older marks are dropped. */
static hw_lsn old_enough(struct cdc_archive *a)
{
    const int64_t now = hw_loop_now();
    hw_lsn at = HW_LSN_NONE;

    while (a->count > 0 && now - a->marks[a->first].time >= a->keep_ms) {
        at = a->marks[a->first].at;
        if (a->count == 1 || now - a->marks[(a->first + 1) % MARKS].time < a->keep_ms)
            break;
        a->first = (a->first + 1) % MARKS;
        a->count--;
    }
    return at;
}

/* ---- making, dropping, moving ---- */

static void run(struct cdc_archive *a, const char *sql, const char *const *values, int count,
                hw_db_done_fn *done)
{
    const struct hw_db_query query = {.sql = sql, .count = count, .values = values};

    /* When the connection is down, on_up looks again. */
    (void)!hw_db_run(a->pg, HW_DB_SEPARATE, &query, 1, NULL, done, a, NULL);
}

static void on_copied(void *arg, const struct hw_db_outcome *outcome)
{
    struct cdc_archive *a = arg;
    struct cdc_archive_state state = {.exists = true};

    if (outcome->status != HW_OK) {
        failed(a, outcome, "making the slot");
        return;
    }
    (void)!hw_lsn_parse(PQgetvalue(outcome->results[0], 0, 0), &state.from, NULL);
    state.held_bytes = strtoll(PQgetvalue(outcome->results[0], 0, 1), NULL, 10);
    a->told.status = HW_OK;
    a->was_read = true;
    a->failover_asked = false;
    again(a, hw_db_server_version(a->pg) >= CDC_KNOWS_FAILOVER ? 0 : a->check_ms);
    tell_change(a, &state);
}

static void make(struct cdc_archive *a)
{
    static const char sql[] =
        "SELECT c.lsn, (SELECT pg_current_wal_insert_lsn() - restart_lsn FROM pg_replication_slots "
        "WHERE slot_name = c.slot_name) FROM pg_copy_logical_replication_slot($1, $2, false) c";

    run(a, sql, (const char *[]){a->slot, a->name}, 2, on_copied);
}

static void on_dropped(void *arg, const struct hw_db_outcome *outcome)
{
    struct cdc_archive *a = arg;

    if (outcome->status != HW_OK) {
        failed(a, outcome, "dropping the slot");
        return;
    }
    again(a, a->keep_bytes > 0 ? 0 : a->check_ms);
    tell_change(a, &(struct cdc_archive_state){0});
}

static void drop(struct cdc_archive *a)
{
    run(a, "SELECT pg_drop_replication_slot($1)", (const char *[]){a->name}, 1, on_dropped);
}

static void on_advanced(void *arg, const struct hw_db_outcome *outcome)
{
    struct cdc_archive *a = arg;

    if (outcome->status != HW_OK) {
        a->advanced_from = HW_LSN_NONE;
        failed(a, outcome, "moving the slot");
        return;
    }
    again(a, 0);
}

static void on_read(void *arg, const struct hw_db_outcome *outcome)
{
    struct cdc_archive *a = arg;

    if (outcome->status != HW_OK) {
        failed(a, outcome, "reading the log of the slot");
        return;
    }
    a->was_read = true;
    again(a, 0);
}

/* Advancing the slot to where it stands reads the log from its beginning. That is how one finds out
 * that files were removed: the server does not know, and nobody else reads there until a replay is
 * needed. */
static void read_log(struct cdc_archive *a, const struct sight *sight)
{
    run(a, "SELECT pg_replication_slot_advance($1, $2)",
        (const char *[]){a->name, HW_LSN(sight->confirmed)}, 2, on_read);
}

static void on_commanded(void *arg, const PGresult *result, bool answered)
{
    struct cdc_archive *a = arg;

    (void)result, (void)answered; /* the next look shows what came of it */
    a->command = NULL;
    again(a, 0);
}

/* A copy of a slot is none that standbys keep, and SQL cannot change that. */
static void have_copies(struct cdc_archive *a)
{
    HW_AUTO_FREE char *command = cdc_slot_failover_command(CDC_KNOWS_FAILOVER, a->name);

    a->failover_asked = true;
    a->command = hw_aside_ask(a->loop, a->replication, NULL, command, NULL, on_commanded, a);
}

/* ---- looking ---- */

static bool read_sight(const PGresult *result, struct sight *sight)
{
    const struct {
        int column;
        hw_lsn *lsn;
    } positions[] = {
        {5, &sight->slot_confirmed},
        {6, &sight->confirmed},
        {7, &sight->restart},
        {8, &sight->current},
    };
    bool *const flags[] = {&sight->slot_exists, &sight->exists, &sight->same, &sight->lost,
                           &sight->failover};

    if (PQntuples(result) != 1)
        return false;
    for (int i = 0; i < (int)HW_COUNT(flags); i++)
        *flags[i] = strcmp(PQgetvalue(result, 0, i), "t") == 0;
    for (size_t i = 0; i < HW_COUNT(positions); i++)
        if (hw_lsn_parse(PQgetvalue(result, 0, positions[i].column), positions[i].lsn, NULL) !=
            HW_OK)
            return false;
    return true;
}

/* The position at which the archive should begin, by size and by age. */
static hw_lsn target_of(struct cdc_archive *a, const struct sight *sight)
{
    hw_lsn target = old_enough(a);

    if (sight->current > (hw_lsn)a->keep_bytes && sight->current - (hw_lsn)a->keep_bytes > target)
        target = sight->current - (hw_lsn)a->keep_bytes;
    return target < sight->slot_confirmed ? target : sight->slot_confirmed;
}

/*
 * pg_replication_slot_advance moves confirmed_flush_lsn at once, but restart_lsn, which decides how
 * much log the server keeps, only up to positions that were confirmed before the call. So the slot
 * is advanced to the same place once more, as long as that moves restart_lsn.
 */
static void keep(struct cdc_archive *a, const struct sight *sight)
{
    const hw_lsn target = target_of(a, sight);
    const bool over = sight->current - sight->restart > (hw_lsn)a->keep_bytes;
    const bool followed = a->advanced_from != HW_LSN_NONE;
    const bool moved = followed && sight->restart > a->advanced_from;

    if (target > sight->confirmed || (over && moved)) {
        a->advanced_from = sight->restart;
        run(a, "SELECT pg_replication_slot_advance($1, $2)",
            (const char *[]){a->name,
                             HW_LSN(target > sight->confirmed ? target : sight->confirmed)},
            2, on_advanced);
        return;
    }
    a->advanced_from = HW_LSN_NONE;
    again(a, a->check_ms);
    if (followed)
        tell_change(a, &(struct cdc_archive_state){.exists = true,
                                                   .from = sight->confirmed,
                                                   .held_bytes =
                                                       (int64_t)(sight->current - sight->restart)});
}

static void on_seen(void *arg, const struct hw_db_outcome *outcome)
{
    struct cdc_archive *a = arg;
    struct sight sight;
    struct hw_error err;

    if (outcome->status != HW_OK) {
        failed(a, outcome, "looking at the slot");
        return;
    }
    if (!read_sight(outcome->results[0], &sight)) {
        again(a, a->check_ms);
        (void)hw_fail(&err, HW_EPROTO, "the server described the slot %s in a way not understood",
                      a->name);
        tell(a, &err);
        return;
    }
    a->hindered = false;
    set_mark(a, sight.current);
    if (sight.exists && !sight.same) {
        again(a, a->check_ms);
        (void)hw_fail(
            &err, HW_EINVAL,
            "the slot %s is temporary, or belongs to another plug-in or database: drop it "
            "or choose another name for the slot %s",
            a->name, a->slot);
        tell(a, &err);
    } else if (a->keep_bytes == 0 && sight.exists) {
        drop(a);
    } else if (a->keep_bytes == 0) {
        again(a, a->check_ms);
    } else if (!sight.slot_exists) {
        again(a, a->check_ms);
        (void)hw_fail(&err, HW_ENOENT, "there is no slot %s that %s could follow", a->slot,
                      a->name);
        tell(a, &err);
    } else if (!sight.exists) {
        make(a);
    } else if (sight.lost) {
        drop(a);
        (void)hw_fail(&err, HW_ELIMIT,
                      "the slot %s has lost WAL that it still needed (max_slot_wal_keep_size); it "
                      "is made anew, and nothing before that can be replayed",
                      a->name);
        tell(a, &err);
    } else if (!sight.failover && !a->failover_asked &&
               hw_db_server_version(a->pg) >= CDC_KNOWS_FAILOVER) {
        have_copies(a);
    } else if (!a->was_read) {
        read_log(a, &sight);
    } else {
        a->told.status = HW_OK;
        keep(a, &sight);
    }
}

static void look(void *arg)
{
    static const char sql[] =
        "SELECT s.slot_name IS NOT NULL, a.slot_name IS NOT NULL,\n"
        "       coalesce(a.plugin = 'wal2json' AND NOT a.temporary\n"
        "                AND a.database = current_database(), false),\n"
        "       coalesce(a.wal_status = 'lost', false),\n"
        "       coalesce((to_jsonb(a) ->> 'failover')::boolean, false),\n"
        "       coalesce(s.confirmed_flush_lsn, '0/0'), coalesce(a.confirmed_flush_lsn, '0/0'),\n"
        "       coalesce(a.restart_lsn, '0/0'), pg_current_wal_insert_lsn()\n"
        "FROM (SELECT) one LEFT JOIN pg_replication_slots s ON s.slot_name = $1\n"
        "     LEFT JOIN pg_replication_slots a ON a.slot_name = $2";
    struct cdc_archive *a = arg;

    run(a, sql, (const char *[]){a->slot, a->name}, 2, on_seen);
}

static void on_up(void *arg)
{
    again(arg, 0);
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct cdc_archive *a = arg;
    struct hw_error err = *why;

    hw_timer_stop(&a->timer);
    hw_aside_cancel(HW_TAKE(a->command));
    a->failover_asked = false;
    a->advanced_from = HW_LSN_NONE;
    (void)hw_fail_in(&err, "keeping the slot %s", a->name);
    tell(a, &err);
}

/* ---- the interface ---- */

enum hw_status cdc_archive_start(struct hw_loop *loop, const char *conninfo,
                                 const struct cdc_archive_options *options,
                                 const struct cdc_archive_events *events,
                                 struct cdc_archive **archive, struct hw_error *err)
{
    const struct hw_route_options way = {.conninfo = conninfo,
                                         .application_name = "headwater-reconciler: archive",
                                         .replication = true};
    struct cdc_archive *a;
    enum hw_status st = cdc_slot_check_name(options->slot, err);

    if (st != HW_OK)
        return st;
    a = hw_alloc(sizeof(*a));
    a->loop = loop;
    a->slot = hw_strdup(options->slot);
    a->name = cdc_archive_name(options->slot);
    a->keep_bytes = options->keep_bytes;
    a->keep_ms = options->keep_ms;
    a->check_ms = options->check_ms > 0 ? options->check_ms : CHECK_MS;
    a->events = *events;

    const struct hw_db_events pg_events = {.up = on_up, .down = on_down, .arg = a};

    st = hw_route_new(&way, &a->replication, err);
    if (st == HW_OK)
        st = hw_db_open(loop, conninfo, way.application_name, &pg_events, &a->pg, err);
    if (st != HW_OK) {
        cdc_archive_stop(a);
        return st;
    }
    *archive = a;
    return HW_OK;
}

void cdc_archive_stop(struct cdc_archive *a)
{
    if (a == NULL)
        return;
    hw_timer_stop(&a->timer);
    hw_aside_cancel(a->command);
    hw_db_close(a->pg);
    hw_route_free(a->replication);
    free(a->slot);
    free(a->name);
    free(a);
}
