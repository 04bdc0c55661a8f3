#include "cdc/tool/replay.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/map.h"
#include "base/memory.h"
#include "cdc/pg_source.h"
#include "cdc/slot.h"
#include "cdc/tool/signals.h"

#define APPLICATION "headwater-cdc"

#define LOOK_MS       500   /* between two looks at the reconciler's connections */
#define LEADER_MS     10000 /* how long nobody may stream from the slot */
#define DATABASE_MS   30000 /* how long the database may be away */
#define ENOUGH_LOOKS  2     /* in a row that find the replay over */
#define TERMINAL_MS   200   /* between two states of the line on a terminal */
#define FIRST_LINE_MS 1000  /* before the first line of progress elsewhere, */
#define LINES_MS      5000  /* and between two */
#define BYTES_OF_MB   1e6

/* ---- progress, on standard error ---- */

struct progress {
    bool terminal;
    bool shown;    /* a line on the terminal is not ended */
    int64_t next;  /* when to tell again */
    hw_lsn start;  /* where it was when it was first told of, */
    int64_t since; /* and when; 0: not yet */
};

static void clear_progress(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}

static bool progress_is_due(struct progress *p)
{
    const int64_t now = hw_loop_now();

    if (p->next == 0 && !p->terminal)
        p->next = now + FIRST_LINE_MS;
    if (now < p->next)
        return false;
    p->next = now + (p->terminal ? TERMINAL_MS : LINES_MS);
    return true;
}

static void print_progress(struct progress *p, const char *text)
{
    fprintf(stderr, p->terminal ? "\r\033[K%s" : "%s\n", text);
    fflush(stderr);
    p->shown = p->terminal;
}

/* position lies between begin and end, or close to it. */
static void show_progress(struct progress *p, const char *doing, hw_lsn begin, hw_lsn position,
                          hw_lsn end)
{
    char rest[64] = "";
    const int64_t now = hw_loop_now();

    if (p->since == 0 || position < p->start) {
        p->since = now;
        p->start = position;
    }
    if (!progress_is_due(p))
        return;
    const double seconds = (double)(now - p->since) / 1000;
    const double rate = seconds > 0 ? (double)(position - p->start) / seconds : 0;
    const hw_lsn done = position > begin ? position - begin : 0;
    const double share =
        end <= begin || position >= end ? 100 : 100 * (double)done / (double)(end - begin);

    if (rate > 0 && position < end)
        snprintf(rest, sizeof(rest), ", %.0f s left", (double)(end - position) / rate);
    HW_AUTO_FREE char *text =
        hw_sprintf("%s: %s of %s, %.1f %%, %.1f MB/s of WAL%s", doing, HW_LSN(position),
                   HW_LSN(end), share, rate / BYTES_OF_MB, rest);
    print_progress(p, text);
}

/* ---- the command ---- */

/* One end of the range. */
struct place {
    const char *option; /* "--from", "--to" */
    const char *text;   /* as given, or NULL */
    hw_lsn lsn;         /* HW_LSN_NONE: not known (yet) */
    char time[40];      /* like a transaction's committed_at; "" for a position */
};

struct replay {
    const struct cdc_replay_options *options;
    struct cdc_server server;
    hw_lsn flushed; /* the log's end when the command began */
    char *archive;
    struct place from, to;
    struct hw_loop *loop;
    struct progress progress;
    bool interrupted;
    struct hw_error err; /* of what runs on the loop; HW_OK: none */

    /* reading */
    hw_lsn start, limit; /* where it begins and ends */
    hw_lsn last;         /* end of the last transaction, or start */
    int64_t seen;        /* transactions, those before the range as well */
    bool over;
    bool counted; /* the transaction is, since it changed something */
    int64_t transactions, changes;
    struct hw_map nodes, objects;
    struct cdc_transaction first_counted, last_counted;

    /* following */
    struct hw_db *pg;
    struct hw_timer timer;
    hw_lsn command;   /* what headwater.replay() returned */
    hw_lsn carried;   /* once the slot is confirmed up to it, the command was carried out */
    int64_t led;      /* when somebody streamed from the slot last */
    int64_t answered; /* when the database did */
    int looks_over;
    bool replaying; /* the connection was there at the last look */
};

static void on_signal(void *arg, int signo)
{
    (void)signo;
    struct replay *r = arg;
    if (r->interrupted)
        _exit(EXIT_FAILURE);
    r->interrupted = true;
    hw_loop_stop(r->loop);
}

/* The one way out of the loop; err is NULL when all is well. */
static void finish(struct replay *r, const struct hw_error *err)
{
    r->over = true;
    if (err != NULL)
        r->err = *err;
    hw_loop_stop(r->loop);
}

/* ---- reading the archive slot ---- */

static bool is_timed(const struct place *p)
{
    return p->time[0] != '\0';
}

static bool found(const struct place *p)
{
    return p->lsn != HW_LSN_NONE;
}

static void found_from(struct replay *r, const struct cdc_transaction *tx)
{
    struct hw_error err;

    if (r->seen == 0) {
        (void)hw_fail(&err, HW_ELIMIT,
                      "--from %s: the archive slot %s reaches back to %s only, and the first "
                      "transaction behind it was committed at %s; give --from %s to begin there, "
                      "or headwater.resync() compares everything instead",
                      r->from.text, r->archive, HW_LSN(r->start), tx->committed_at,
                      HW_LSN(r->start));
        finish(r, &err);
        return;
    }
    r->from.lsn = r->last;
    if (!r->options->dry_run && !is_timed(&r->to))
        finish(r, NULL);
}

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    (void)err;
    struct replay *r = arg;

    r->counted = false;
    if (!r->over && tx->lsn > r->limit)
        finish(r, NULL);
    if (!r->over && !found(&r->from) && strcmp(tx->committed_at, r->from.time) >= 0)
        found_from(r, tx);
    if (!r->over && found(&r->from) && is_timed(&r->to) &&
        strcmp(tx->committed_at, r->to.time) > 0) {
        r->to.lsn = r->last;
        finish(r, NULL);
    }
    if (!r->over)
        show_progress(&r->progress, "reading", r->start, tx->lsn, r->limit);
    return HW_OK;
}

static void note(struct hw_map *map, const struct cdc_change *change, const char *column)
{
    const struct cdc_row *row = change->columns != NULL ? change->columns : change->identity;
    const char *key;

    if (row == NULL || cdc_row_string(row, column, &key, NULL) != HW_OK ||
        hw_map_get(map, key) != NULL)
        return;
    char *copy = hw_strdup(key);
    hw_map_add(map, copy, copy);
}

static enum hw_status on_change(void *arg, const struct cdc_transaction *tx,
                                const struct cdc_change *change, struct hw_error *err)
{
    (void)err;
    struct replay *r = arg;

    if (r->over || !found(&r->from) || change->action == CDC_MESSAGE)
        return HW_OK;
    if (!r->counted && r->transactions++ == 0)
        r->first_counted = *tx;
    r->last_counted = *tx;
    r->counted = true;
    r->changes++;
    if (strcmp(change->table, "desired") == 0)
        note(&r->nodes, change, "node");
    else if (strcmp(change->table, "blob") == 0)
        note(&r->objects, change, "digest");
    return HW_OK;
}

static enum hw_status on_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    (void)err;
    struct replay *r = arg;

    if (r->over)
        return HW_OK;
    r->last = tx->lsn;
    r->seen++;
    if (tx->lsn >= r->limit)
        finish(r, NULL);
    return HW_OK;
}

static void on_progress(void *arg, hw_lsn position)
{
    struct replay *r = arg;

    if (r->over)
        return;
    show_progress(&r->progress, "reading", r->start, position, r->limit);
    if (position >= r->limit)
        finish(r, NULL);
}

static void on_failed(void *arg, const struct hw_error *err)
{
    struct replay *r = arg;

    if (!r->over)
        finish(r, err);
}

/* Reading has ended: sets the ends of the range that were not found by then. */
static enum hw_status settle(struct replay *r, struct hw_error *err)
{
    if (!found(&r->from))
        return hw_fail(err, HW_EINVAL,
                       "--from %s: nothing was committed then or later, up to %s, where the %s",
                       r->from.text, HW_LSN(r->limit),
                       r->to.text != NULL && !is_timed(&r->to) ? "range would end" : "log ends");
    if (is_timed(&r->to) && !found(&r->to))
        r->to.lsn = r->limit;
    if (is_timed(&r->to) && !is_timed(&r->from) && r->to.lsn <= r->from.lsn)
        return hw_fail(err, HW_EINVAL,
                       "--to %s: nothing behind --from %s was committed up to that time",
                       r->to.text, r->from.text);
    if (found(&r->to) && r->to.lsn < r->from.lsn)
        return hw_fail(err, HW_EINVAL, "--to %s: it is before --from %s, which is %s", r->to.text,
                       r->from.text, HW_LSN(r->from.lsn));
    return HW_OK;
}

static enum hw_status read_archive(struct replay *r, struct hw_error *err)
{
    HW_AUTO_FREE char *copy = hw_sprintf("headwater_replay_%ld", (long)getpid());
    HW_AUTO_FREE char *prepare = cdc_slot_copy_sql(r->archive, copy);
    struct cdc_source *source = NULL;

    r->start = found(&r->from) ? r->from.lsn : r->server.archive_confirmed;
    r->limit = found(&r->to) ? r->to.lsn : r->flushed;
    r->last = r->start;
    if (r->limit <= r->start)
        return settle(r, err);
    enum hw_status st = cdc_pg_open(r->loop,
                                    &(struct cdc_pg_options){.conninfo = r->options->conninfo,
                                                             .slot = copy,
                                                             .start = r->start,
                                                             .tables = r->options->tables,
                                                             .read_only = true,
                                                             .application_name = APPLICATION,
                                                             .prepare = prepare},
                                    &(struct cdc_handler){.begin = on_begin,
                                                          .change = on_change,
                                                          .commit = on_commit,
                                                          .progress = on_progress,
                                                          .failed = on_failed,
                                                          .arg = r},
                                    &source, err);
    if (st == HW_OK)
        st = hw_loop_run(r->loop, err);
    cdc_source_close(source);
    clear_progress(&r->progress);
    if (st == HW_OK && r->interrupted)
        return hw_fail(err, HW_ESTOPPED, "stopped while reading; nothing was changed");
    if (st == HW_OK && r->err.status != HW_OK)
        return hw_fail(err, r->err.status, "%s", r->err.message);
    return st == HW_OK ? settle(r, err) : st;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *names_of(const struct hw_map *map)
{
    json_t *names = json_array();
    const char **sorted = hw_alloc((map->count + 1) * sizeof(*sorted));
    size_t at = 0, count = 0;

    for (const char *name; (name = hw_map_next(map, &at)) != NULL;)
        sorted[count++] = name;
    qsort(sorted, count, sizeof(*sorted), compare_names);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(names, json_string(sorted[i]));
    free(sorted);
    return names;
}

static void print_json(json_t *value)
{
    HW_AUTO_FREE char *text = hw_json_dump(value);

    puts(text);
    json_decref(value);
}

static json_t *transaction_json(const struct replay *r, const struct cdc_transaction *tx)
{
    return r->transactions == 0
               ? json_null()
               : json_pack("{s:s, s:s}", "lsn", HW_LSN(tx->lsn), "committed_at", tx->committed_at);
}

static hw_lsn end_of_range(const struct replay *r)
{
    return found(&r->to) ? r->to.lsn : r->flushed;
}

static void print_contents(const struct replay *r)
{
    const hw_lsn begin = r->from.lsn, end = end_of_range(r);

    if (r->options->json) {
        print_json(
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "from", HW_LSN(begin),
                      "to", HW_LSN(end), "bytes", (json_int_t)(end - begin), "transactions",
                      (json_int_t)r->transactions, "changes", (json_int_t)r->changes, "nodes",
                      (json_int_t)r->nodes.count, "objects", (json_int_t)r->objects.count, "first",
                      transaction_json(r, &r->first_counted), "last",
                      transaction_json(r, &r->last_counted), "node_names", names_of(&r->nodes)));
        return;
    }
    printf("range         %s to %s, %.1f MB of WAL\n", HW_LSN(begin), HW_LSN(end),
           (double)(end - begin) / BYTES_OF_MB);
    printf("transactions  %" PRId64 " with %" PRId64 " changes\n", r->transactions, r->changes);
    printf("nodes         %zu\n", r->nodes.count);
    printf("objects       %zu\n", r->objects.count);
    if (r->transactions == 0)
        return;
    printf("first         %s, committed at %s\n", HW_LSN(r->first_counted.lsn),
           r->first_counted.committed_at);
    printf("last          %s, committed at %s\n", HW_LSN(r->last_counted.lsn),
           r->last_counted.committed_at);
}

/* ---- following the reconciler ---- */

static void look(void *arg);

/* The sentence for a command that was given, and whose end is not seen. */
static void give_up(struct replay *r, const char *why)
{
    struct hw_error err;

    (void)hw_fail(&err, HW_EUNAVAIL, "%s", why);
    finish(r, &err);
}

static void take_look(struct replay *r, const PGresult *result)
{
    const bool active = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    const bool confirmed = strcmp(PQgetvalue(result, 0, 1), "t") == 0;
    const int64_t now = hw_loop_now();
    hw_lsn position;

    r->replaying = strcmp(PQgetvalue(result, 0, 2), "t") == 0;
    if (active || r->replaying)
        r->led = now;
    r->looks_over = confirmed && !r->replaying ? r->looks_over + 1 : 0;
    if (r->looks_over >= ENOUGH_LOOKS) {
        finish(r, NULL);
    } else if (now - r->led >= LEADER_MS) {
        give_up(r, "no reconciler leads; the command waits in the log and is carried out by the "
                   "next one");
    } else if (r->replaying && hw_lsn_parse(PQgetvalue(result, 0, 3), &position, NULL) == HW_OK) {
        if (position < r->from.lsn)
            position = r->from.lsn;
        show_progress(&r->progress, "replaying", r->from.lsn, position, end_of_range(r));
    } else if (progress_is_due(&r->progress)) {
        print_progress(&r->progress, r->replaying ? "the replay begins"
                                     : active     ? "waiting for the reconciler"
                                                  : "waiting for a reconciler to lead");
    }
}

static void on_looked(void *arg, const struct hw_db_outcome *outcome)
{
    struct replay *r = arg;

    if (outcome->status == HW_EUNAVAIL)
        return;
    if (outcome->status != HW_OK) {
        finish(r, &outcome->err);
        return;
    }
    r->answered = hw_loop_now();
    take_look(r, outcome->results[0]);
}

/*
 * The reconciler's connections. How far the replay is stands in pg_stat_replication, for roles that
 * may see it (pg_read_all_stats); any other role looks at what the slot has confirmed. A role that
 * is not the reconciler's does not see the names of its connections, and only learns of the end.
 */
static void look(void *arg)
{
    static const char sql[] =
        "SELECT coalesce(s.active, false), coalesce(s.confirmed_flush_lsn >= $2::pg_lsn, false),\n"
        "       r.pid IS NOT NULL, coalesce(r.write_lsn, c.confirmed_flush_lsn)\n"
        "FROM (SELECT) one LEFT JOIN pg_replication_slots s ON s.slot_name = $1\n"
        "     LEFT JOIN (SELECT pid, write_lsn FROM pg_stat_replication\n"
        "                WHERE application_name = 'headwater-reconciler: replay'\n"
        "                ORDER BY backend_start DESC LIMIT 1) r ON true\n"
        "     LEFT JOIN pg_replication_slots c ON c.active_pid = r.pid";
    struct replay *r = arg;
    const struct hw_db_query query = {
        .sql = sql,
        .count = 2,
        .values = (const char *[]){r->options->slot, HW_LSN(r->carried)},
    };

    hw_timer_start(r->loop, &r->timer, LOOK_MS, look, r);
    if (hw_db_idle(r->pg)) {
        (void)!hw_db_run(r->pg, HW_DB_SEPARATE, &query, 1, NULL, on_looked, r, NULL);
    } else if (hw_loop_now() - r->answered >= DATABASE_MS) {
        give_up(r, "the database does not answer; the command waits in its log, and a reconciler "
                   "carries it out");
    }
}

/* The time without the database does not count as time without a leader. */
static void on_up(void *arg)
{
    struct replay *r = arg;

    r->answered = r->led = hw_loop_now();
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct replay *r = arg;

    if (progress_is_due(&r->progress))
        print_progress(&r->progress, why->message);
}

static enum hw_status follow(struct replay *r, struct hw_error *err)
{
    const int64_t began = hw_loop_now();

    r->answered = r->led = began;
    r->progress = (struct progress){.terminal = r->progress.terminal};
    r->over = false;
    enum hw_status st =
        hw_db_open(r->loop, r->options->conninfo, APPLICATION,
                   &(struct hw_db_events){.up = on_up, .down = on_down, .arg = r}, &r->pg, err);
    if (st == HW_OK) {
        hw_timer_start(r->loop, &r->timer, 0, look, r);
        st = hw_loop_run(r->loop, err);
    }
    hw_timer_stop(&r->timer);
    hw_db_close(r->pg);
    clear_progress(&r->progress);
    if (st == HW_OK && r->interrupted)
        return hw_fail(err, HW_ESTOPPED,
                       "no longer watching; the command stays in the log, at %s, and the "
                       "reconciler carries it out",
                       HW_LSN(r->command));
    if (st == HW_OK && r->err.status != HW_OK)
        return hw_fail(err, r->err.status, "%s", r->err.message);
    if (st != HW_OK)
        return st;

    const double seconds = (double)(hw_loop_now() - began) / 1000;
    const hw_lsn end = end_of_range(r);
    if (r->options->json)
        print_json(json_pack("{s:s, s:s, s:s, s:I, s:f}", "from", HW_LSN(r->from.lsn), "to",
                             HW_LSN(end), "command", HW_LSN(r->command), "bytes",
                             (json_int_t)(end - r->from.lsn), "seconds", seconds));
    else
        printf("replayed %s to %s, %.1f MB of WAL, in %.1f s\n", HW_LSN(r->from.lsn), HW_LSN(end),
               (double)(end - r->from.lsn) / BYTES_OF_MB, seconds);
    return HW_OK;
}

/* Asked after the commit, the log's end is behind the command's transaction. */
static enum hw_status give_command(struct replay *r, PGconn *conn, struct hw_error *err)
{
    const char *const values[] = {HW_LSN(r->from.lsn), found(&r->to) ? HW_LSN(r->to.lsn) : NULL};
    PGresult *result;
    enum hw_status st =
        hw_db_exec(conn, "SELECT headwater.replay($1, $2)", 2, values, &result, err);

    if (st != HW_OK)
        return st;
    st = hw_lsn_parse(PQgetvalue(result, 0, 0), &r->command, err);
    PQclear(result);
    if (st == HW_OK)
        st = hw_db_exec(conn, "SELECT greatest(pg_current_wal_flush_lsn(), $1::pg_lsn)", 1,
                        (const char *[]){HW_LSN(r->command)}, &result, err);
    if (st != HW_OK)
        return st;
    st = hw_lsn_parse(PQgetvalue(result, 0, 0), &r->carried, err);
    PQclear(result);
    return st;
}

/* ---- what was asked for ---- */

static enum hw_status parse_place(PGconn *conn, struct place *p, struct hw_error *err)
{
    static const char sql[] =
        "SELECT isfinite(t), to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')\n"
        "FROM (SELECT $1::timestamptz AS t) AS given";
    PGresult *result;

    if (p->text == NULL)
        return HW_OK;
    if (hw_lsn_parse(p->text, &p->lsn, NULL) == HW_OK)
        return found(p) ? HW_OK
                        : hw_fail(err, HW_EINVAL, "%s %s: not a position", p->option, p->text);
    if (hw_db_exec(conn, sql, 1, (const char *[]){p->text}, &result, err) != HW_OK)
        return hw_fail_in(err, "%s: neither an LSN nor a time", p->option);
    const bool finite = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    snprintf(p->time, sizeof(p->time), "%s", PQgetvalue(result, 0, 1));
    PQclear(result);
    return finite ? HW_OK
                  : hw_fail(err, HW_EINVAL, "%s %s: not a point in time", p->option, p->text);
}

static enum hw_status look_at_server(struct replay *r, PGconn *conn, struct hw_error *err)
{
    PGresult *result;
    const char *const values[] = {r->options->slot, r->options->tables};
    enum hw_status st = hw_db_exec(conn, cdc_server_sql, 2, values, &result, err);

    if (st != HW_OK)
        return st;
    st = cdc_server_read(result, &r->server, err);
    PQclear(result);
    if (st != HW_OK)
        return st;
    /* A slot that the leader streams from is in use, and that is as it should be. */
    st = cdc_server_check(&r->server, r->options->slot, true, err);
    if (st != HW_OK && st != HW_ECONFLICT)
        return st;
    st = hw_db_exec(conn, "SELECT pg_current_wal_flush_lsn()", 0, NULL, &result, err);
    if (st != HW_OK)
        return st;
    st = hw_lsn_parse(PQgetvalue(result, 0, 0), &r->flushed, err);
    PQclear(result);
    return st;
}

static enum hw_status check_range(const struct replay *r, struct hw_error *err)
{
    const struct place *const places[] = {&r->from, &r->to};

    for (size_t i = 0; i < HW_COUNT(places); i++)
        if (places[i]->lsn > r->server.current)
            return hw_fail(err, HW_EINVAL, "%s %s: the server's WAL ends before it, at %s",
                           places[i]->option, places[i]->text, HW_LSN(r->server.current));
    if (r->to.text != NULL && (is_timed(&r->from) && is_timed(&r->to)
                                   ? strcmp(r->to.time, r->from.time) < 0
                                   : found(&r->from) && found(&r->to) && r->to.lsn < r->from.lsn))
        return hw_fail(err, HW_EINVAL, "--to %s: it is before --from %s", r->to.text, r->from.text);
    return cdc_archive_check(&r->server, r->options->slot, r->from.lsn, err);
}

static enum hw_status carry_out(struct replay *r, PGconn *conn, struct hw_error *err)
{
    const struct cdc_replay_options *o = r->options;
    enum hw_status st = HW_OK;

    if (o->dry_run || is_timed(&r->from) || is_timed(&r->to))
        st = read_archive(r, err);
    if (st != HW_OK)
        return st;
    if (o->dry_run) {
        print_contents(r);
        return HW_OK;
    }
    st = give_command(r, conn, err);
    return st == HW_OK ? follow(r, err) : st;
}

enum hw_status cdc_replay_run(const struct cdc_replay_options *options, struct hw_error *err)
{
    struct replay r = {
        .options = options,
        .archive = cdc_archive_name(options->slot),
        .from = {.option = "--from", .text = options->from},
        .to = {.option = "--to", .text = options->to},
        .progress = {.terminal = isatty(STDERR_FILENO) == 1},
    };
    struct hw_map *const maps[] = {&r.nodes, &r.objects};
    PGconn *conn = NULL;
    enum hw_status st = hw_db_connect(options->conninfo, APPLICATION, &conn, err);

    if (st == HW_OK)
        st = parse_place(conn, &r.from, err);
    if (st == HW_OK)
        st = parse_place(conn, &r.to, err);
    if (st == HW_OK)
        st = look_at_server(&r, conn, err);
    if (st == HW_OK)
        st = check_range(&r, err);
    if (st == HW_OK)
        st = hw_loop_new(&r.loop, err);
    if (st == HW_OK)
        st = cdc_signals_end(r.loop, on_signal, &r, err);
    if (st == HW_OK)
        st = carry_out(&r, conn, err);
    hw_loop_free(r.loop);
    PQfinish(conn);
    for (size_t i = 0; i < HW_COUNT(maps); i++) {
        size_t at = 0;
        for (char *key; (key = hw_map_next(maps[i], &at)) != NULL;)
            free(key);
        hw_map_clear(maps[i]);
    }
    free(r.archive);
    return st;
}
