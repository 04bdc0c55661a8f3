#include "reconciler/compare/verify.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/map.h"
#include "common/memory.h"
#include "common/options.h"
#include "nats/kv.h"
#include "nats/objstore.h"
#include "pg/database.h"
#include "reconciler/publish/checkpoint.h"
#include "reconciler/publish/decided.h"
#include "reconciler/publish/desired.h"
#include "reconciler/publish/signature.h"
#include "reconciler/publish/sink.h"

enum {
    CONNECT_MS = 10000,
    ANSWER_MS = 60000,  /* of the database to one statement */
    SILENCE_MS = 30000, /* of NATS while keys are read */
    NATS_TIMEOUT_MS = 5000,
    POLL_MS = 100, /* the checkpoint; how late a signal may be noticed */
    ROUNDS = 3,    /* of looking for what a key can have come to after the snapshot */
    ROUND_MS = 200,
    BATCH = 500,       /* names in one statement */
    SHOWN_MOST = 1000, /* differences that are printed one by one */
    TERMINAL_MS = 200, /* between two signs of progress on a terminal, and in a log */
    LOG_MS = 5000,
};

static const char begin_sql[] = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/* The control file's timeline lags behind a promotion; the name of a WAL file does not. */
static const char moment_sql[] =
    "SELECT (SELECT max(rev) FROM headwater.changelog),"
    " (SELECT system_identifier FROM pg_control_system()),"
    " CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())"
    " ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,"
    " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
    " ELSE pg_current_wal_insert_lsn() END";
static const char cursor_sql[] = "DECLARE node_rows NO SCROLL CURSOR FOR " REC_SINK_ROWS;
static const char page_sql[] = "FETCH 1000 FROM node_rows";
static const char commit_sql[] = "COMMIT";
static const char nonce_sql[] =
    "SELECT nonce::text FROM headwater.changelog WHERE rev = $1::bigint";
static const char later_sql[] = "SELECT " REC_DESIRED_COLUMNS " FROM headwater.desired_history"
                                " WHERE node = ANY ($1::text[]) AND rev > $2::bigint";
static const char decided_sql[] =
    "SELECT " REC_DECIDED_COLUMNS " FROM headwater.decided WHERE node = $1";
static const char wanted_sql[] =
    "SELECT DISTINCT digest FROM headwater.desired WHERE digest = ANY ($1::text[])";

struct object {
    int64_t size;
    const char *node; /* one of those that it is for */
    char *says;       /* what is wrong with it in NATS, or NULL */
    bool wanted;      /* still, after that was seen */
    char digest[HW_DIGEST_STR_MAX];
};

/* What both sides say of a key of a node; 100,000 of them are to be nothing. */
struct node {
    uint64_t wanted; /* rec_…_hash of the row; 0: there is none */
    uint64_t found;  /* the same of the key's value; 0: not one of ours */
    int64_t revision;
    struct object *object;
    const char *name; /* the end of the key */
    bool decided;     /* what it is told about its proposals, not what it is to run */
    char *says;       /* the key's entry in words, where it is not what the row says */
    bool present;     /* the key has a value */
    bool wrong_fence;
    bool missigned;
    bool is_newer; /* by its fence, than the snapshot */
    bool is_later; /* what stands in NATS is what a change after the snapshot made of it */
    char key[];
};

struct verify {
    const struct rec_verify_config *config;
    struct hw_loop *loop;
    struct hw_db *pg;
    struct hw_nats *nats;
    bool pg_up, nats_up;
    struct hw_error failure; /* what a callback was told: it is over */
    int signals;
    int64_t began, last_sign;
    bool terminal, sign_open;

    /* the answer to a statement */
    bool answered;
    PGresult *answer;
    struct hw_error answer_err;

    /* the snapshot */
    int64_t rev;
    hw_lsn lsn; /* everything behind it is newer */
    uint64_t system_id;
    uint32_t timeline;
    struct hw_map nodes;   /* struct node by key */
    struct hw_map objects; /* struct object by digest */
    size_t desired;        /* nodes with a row */

    /* NATS */
    struct hw_kv_watch *watch;
    bool keys_read;
    uint64_t last_seq; /* of the stream when reading the keys began */
    size_t entries;
    bool has_checkpoint;
    struct rec_checkpoint checkpoint;

    /* what is said in the end */
    size_t differences;
    struct hw_buf list; /* JSON objects, separated by commas */
};

/* ---- events, and waiting for them ---- */

static void is_over(struct verify *v, enum hw_status status, const char *what, const char *why)
{
    if (v->failure.status == HW_OK)
        (void)hw_fail(&v->failure, status, "%s%s", what, why);
}

static void on_signal(void *arg, int signo)
{
    struct verify *v = arg;

    if (++v->signals > 1)
        _exit(HW_EXIT_FAILURE);
    is_over(v, HW_ESTOPPED, "ended by ", signo == SIGINT ? "SIGINT" : "SIGTERM");
}

static void on_pg_up(void *arg)
{
    struct verify *v = arg;

    v->pg_up = true;
}

static void on_pg_down(void *arg, const struct hw_error *why)
{
    struct verify *v = arg;

    is_over(v, why->status, "the database: ", why->message);
}

static void on_nats_up(void *arg)
{
    struct verify *v = arg;

    v->nats_up = true;
}

static void on_nats_down(void *arg, const char *why)
{
    struct verify *v = arg;

    if (v->nats_up)
        is_over(v, HW_EUNAVAIL, "the connection to NATS was lost: ", why);
}

static void on_nats_away(void *arg, const struct hw_nats_away *away)
{
    HW_AUTO_FREE char *said = hw_sprintf("%s: %s", away->url, away->why);

    is_over(arg, HW_EUNAVAIL, "NATS cannot be reached: ", said);
}

/* Overwrites itself on a terminal; elsewhere it is a line of the log now and then. */
static void give_sign(struct verify *v, const char *step, size_t done, size_t total)
{
    const int64_t now = hw_loop_now();

    if (now - v->last_sign < (v->terminal ? TERMINAL_MS : LOG_MS))
        return;
    v->last_sign = now;
    if (!v->terminal) {
        hw_log_info("verifying", HW_S("step", step), HW_I("done", (int64_t)done),
                    HW_I("of", (int64_t)total));
        return;
    }
    v->sign_open = true;
    if (total > 0)
        fprintf(stderr, "\r\033[K%s %zu of %zu", step, done, total);
    else
        fprintf(stderr, "\r\033[K%s", step);
}

static void clear_sign(struct verify *v)
{
    if (v->sign_open)
        fputs("\r\033[K", stderr);
    v->sign_open = false;
}

/* Runs the loop until *flag, at most for a while; HW_OK even when *flag did not come to be. */
static enum hw_status run_until(struct verify *v, const bool *flag, int64_t timeout_ms,
                                struct hw_error *err)
{
    const int64_t until = hw_loop_now() + timeout_ms;

    while (v->failure.status == HW_OK && !*flag) {
        const int64_t left = until - hw_loop_now();

        if (left <= 0)
            break;
        (void)hw_loop_run_until(v->loop, flag, left < POLL_MS ? left : POLL_MS);
    }
    return v->failure.status == HW_OK ? HW_OK
                                      : hw_fail(err, v->failure.status, "%s", v->failure.message);
}

/* ---- the database ---- */

static void on_answer(void *arg, const struct hw_db_outcome *outcome)
{
    struct verify *v = arg;

    v->answered = true;
    if (outcome->status != HW_OK) {
        v->answer_err = outcome->err;
        return;
    }
    v->answer = PQcopyResult(outcome->results[0], PG_COPYRES_ATTRS | PG_COPYRES_TUPLES);
    if (v->answer == NULL)
        abort(); /* out of memory */
}

/* One statement and its result (PQclear); result may be NULL. */
static enum hw_status ask(struct verify *v, const char *sql, int count, const char *const *values,
                          PGresult **result, struct hw_error *err)
{
    const struct hw_db_query query = {.sql = sql, .count = count, .values = values};
    enum hw_status status;

    v->answered = false;
    v->answer_err.status = HW_OK;
    status = hw_db_run(v->pg, HW_DB_SEPARATE, &query, 1, NULL, on_answer, v, err);
    if (status == HW_OK)
        status = run_until(v, &v->answered, ANSWER_MS, err);
    if (status != HW_OK)
        return status;
    if (!v->answered)
        return hw_fail(err, HW_ETIMEOUT, "the database did not answer within %d s",
                       ANSWER_MS / 1000);
    if (v->answer_err.status != HW_OK) {
        *err = v->answer_err;
        return hw_fail_in(err, "reading the database");
    }
    PGresult *answer = HW_TAKE(v->answer);
    if (result != NULL)
        *result = answer;
    else
        PQclear(answer);
    return HW_OK;
}

/* key: one that the sink has. */
static struct node *add_node(struct verify *v, const char *key)
{
    const size_t size = strlen(key) + 1;
    struct node *node = hw_alloc(sizeof(*node) + size);

    memcpy(node->key, key, size);
    node->decided = rec_decided_node(key) != NULL;
    node->name = node->decided ? rec_decided_node(node->key) : rec_desired_node(node->key);
    hw_map_add(&v->nodes, node->key, node);
    return node;
}

static void add_desired(struct verify *v, const struct rec_desired *row)
{
    HW_AUTO_FREE char *key = hw_sprintf(REC_DESIRED_PREFIX "%s", row->node);
    struct node *node = add_node(v, key);
    struct object *object = hw_map_get(&v->objects, row->digest);

    if (object == NULL) {
        object = hw_alloc(sizeof(*object));
        object->size = row->size;
        object->node = node->name;
        snprintf(object->digest, sizeof(object->digest), "%s", row->digest);
        hw_map_add(&v->objects, object->digest, object);
    }
    node->wanted = rec_desired_hash(row);
    node->revision = row->revision;
    node->object = object;
    v->desired++;
}

static void add_decided(struct verify *v, const struct rec_decided *row)
{
    HW_AUTO_FREE char *key = hw_sprintf(REC_DECIDED_PREFIX "%s", row->node);

    add_node(v, key)->wanted = rec_decided_hash(row);
}

static enum hw_status read_page(struct verify *v, bool *last, struct hw_error *err)
{
    PGresult *page = NULL;
    enum hw_status status = ask(v, page_sql, 0, NULL, &page, err);

    if (status != HW_OK)
        return status;
    *last = PQntuples(page) == 0;
    for (int i = 0; i < PQntuples(page) && status == HW_OK; i++) {
        struct rec_desired desired;
        struct rec_decided decided;

        if (rec_sink_is_decided(page, i)) {
            status = rec_decided_from_result(page, i, &decided, err);
            if (status == HW_OK)
                add_decided(v, &decided);
        } else {
            status = rec_desired_from_result(page, i, &desired, err);
            if (status == HW_OK)
                add_desired(v, &desired);
        }
    }
    PQclear(page);
    give_sign(v, "rows", v->desired, 0);
    return status;
}

static enum hw_status read_snapshot(struct verify *v, struct hw_error *err)
{
    PGresult *moment = NULL;
    bool last = false;
    enum hw_status status = ask(v, begin_sql, 0, NULL, NULL, err);

    if (status == HW_OK)
        status = ask(v, moment_sql, 0, NULL, &moment, err);
    if (status != HW_OK)
        return status;
    v->rev = strtoll(PQgetvalue(moment, 0, 0), NULL, 10);
    /* A signed number in SQL. */
    v->system_id = (uint64_t)strtoll(PQgetvalue(moment, 0, 1), NULL, 10);
    v->timeline = (uint32_t)strtoul(PQgetvalue(moment, 0, 2), NULL, 10);
    status = hw_lsn_parse(PQgetvalue(moment, 0, 3), &v->lsn, err);
    PQclear(moment);
    if (status == HW_OK)
        status = ask(v, cursor_sql, 0, NULL, NULL, err);
    while (status == HW_OK && !last)
        status = read_page(v, &last, err);
    return status == HW_OK ? ask(v, commit_sql, 0, NULL, NULL, err) : status;
}

/* Adds a name that needs no escapes to the text of an array. */
static void add_name(struct hw_buf *array, const char *name)
{
    hw_buf_puts(array, array->len == 0 ? "{\"" : ",\"");
    hw_buf_puts(array, name);
    hw_buf_putc(array, '"');
}

/* ---- what is different ---- */

static void add_difference(struct verify *v, const char *kind, const char *node, const char *object,
                           const char *sql, const char *nats)
{
    const struct {
        const char *name, *value;
    } members[] = {{"node", node}, {"object", object}, {"sql", sql}, {"nats", nats}};
    struct hw_buf line = {0};

    if (v->differences++ >= SHOWN_MOST)
        return;
    clear_sign(v);
    hw_buf_puts(&line, kind);
    hw_buf_printf(&v->list, "%s{\"kind\":\"%s\"", v->list.len > 0 ? "," : "", kind);
    for (size_t i = 0; i < HW_COUNT(members); i++) {
        hw_buf_printf(&v->list, ",\"%s\":", members[i].name);
        if (members[i].value == NULL) {
            hw_buf_puts(&v->list, "null");
            continue;
        }
        hw_buf_json_string(&v->list, members[i].value, strlen(members[i].value));
        hw_buf_printf(&line, " %s=", members[i].name);
        hw_buf_json_string(&line, members[i].value, strlen(members[i].value));
    }
    hw_buf_putc(&v->list, '}');
    if (!v->config->json)
        puts(hw_buf_str(&line));
    hw_buf_free(&line);
}

/* ---- the checkpoint ---- */

struct finding {
    bool good;
    char sql[100], nats[HW_ERROR_MAX];
};

static enum hw_status check_nonce(struct verify *v, struct finding *f, struct hw_error *err)
{
    const struct rec_checkpoint *c = &v->checkpoint;
    HW_AUTO_FREE char *rev = hw_sprintf("%" PRId64, c->rev);
    PGresult *result = NULL;
    enum hw_status status = ask(v, nonce_sql, 1, (const char *[]){rev}, &result, err);

    if (status != HW_OK)
        return status;
    const char *nonce = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
    if (strcmp(nonce, c->nonce) != 0) {
        f->good = false;
        snprintf(f->sql, sizeof(f->sql), *nonce != '\0' ? "change %s is %s" : "no change %s", rev,
                 nonce);
        snprintf(f->nats, sizeof(f->nats), "change %s is %s: of another history of the database",
                 rev, c->nonce);
    }
    PQclear(result);
    return HW_OK;
}

static enum hw_status look_at_checkpoint(struct verify *v, struct finding *f, struct hw_error *err)
{
    struct rec_checkpoint *c = &v->checkpoint;
    const enum hw_status status = rec_checkpoint_read(v->nats, v->config->bucket, c, err);

    *f = (struct finding){.good = false};
    v->has_checkpoint = status == HW_OK;
    if (status == HW_ENOENT || status == HW_ECORRUPT) {
        snprintf(f->sql, sizeof(f->sql), "change %" PRId64, v->rev);
        snprintf(f->nats, sizeof(f->nats), "%s",
                 status == HW_ECORRUPT ? err->message
                 : c->seq > 0          ? "the checkpoint was deleted"
                                       : "there is no checkpoint");
        return HW_OK;
    }
    if (status != HW_OK)
        return status;
    if (c->system_id != v->system_id) {
        snprintf(f->sql, sizeof(f->sql), "system %" PRIu64, v->system_id);
        snprintf(f->nats, sizeof(f->nats), "system %" PRIu64 ": of another database", c->system_id);
        return HW_OK;
    }
    if (c->timeline != v->timeline) {
        snprintf(f->sql, sizeof(f->sql), "timeline %" PRIu32, v->timeline);
        snprintf(f->nats, sizeof(f->nats), "timeline %" PRIu32, c->timeline);
        return HW_OK;
    }
    f->good = c->rev >= v->rev;
    if (!f->good) {
        snprintf(f->sql, sizeof(f->sql), "change %" PRId64, v->rev);
        snprintf(f->nats, sizeof(f->nats),
                 "change %" PRId64 ": the reconciler is %" PRId64 " behind", c->rev,
                 v->rev - c->rev);
    }
    return c->rev > 0 ? check_nonce(v, f, err) : HW_OK;
}

/* Gives the reconciler time to bring what the snapshot saw; what it lacks then is a difference. */
static enum hw_status wait_for_checkpoint(struct verify *v, struct hw_error *err)
{
    static const bool never = false;
    const int64_t until = hw_loop_now() + v->config->timeout_ms;
    struct finding finding;

    for (;;) {
        enum hw_status status = look_at_checkpoint(v, &finding, err);

        if (status != HW_OK || finding.good)
            return status;
        if (hw_loop_now() >= until)
            break;
        give_sign(v, "waiting for the checkpoint", 0, 0);
        status = run_until(v, &never, POLL_MS, err);
        if (status != HW_OK)
            return status;
    }
    add_difference(v, "checkpoint", NULL, NULL, finding.sql, finding.nats);
    return HW_OK;
}

/* ---- keys ---- */

static bool is_different(const struct node *node)
{
    return node->wanted == 0 ? node->present : !node->present || node->found != node->wanted;
}

/* Forgets what the key said. */
static void forget(struct node *node)
{
    free(node->says);
    node->says = NULL;
    node->found = 0;
    node->present = node->wrong_fence = node->missigned = node->is_newer = false;
}

/* What the value says in words; *fence is what it carries, if it is an entry. */
static char *describe(const struct hw_kv_entry *entry, bool decided, struct hw_fence *fence)
{
    HW_AUTO_JSON json_t *root = NULL;
    const char *digest = NULL, *lsn;
    json_int_t revision = 0, size = 0, epoch;
    json_t *decisions = NULL;

    if (hw_json_parse_object(entry->value, entry->size, &root, NULL) != HW_OK ||
        hw_json_unpack(root, NULL, "{s:I, s:s}", "epoch", &epoch, "lsn", &lsn) != HW_OK ||
        (decided ? hw_json_unpack(root, NULL, "{s:o}", "decisions", &decisions)
                 : hw_json_unpack(root, NULL, "{s:I, s:s, s:I}", "revision", &revision, "digest",
                                  &digest, "size", &size)) != HW_OK ||
        epoch < 1 || hw_lsn_parse(lsn, &fence->lsn, NULL) != HW_OK)
        return hw_sprintf("no entry of ours, %zu bytes", entry->size);
    fence->epoch = (uint64_t)epoch;
    if (decided)
        return hw_sprintf("%zu decisions", json_array_size(decisions));
    return hw_sprintf("revision %" PRId64 " %.80s, %" PRId64 " bytes", (int64_t)revision, digest,
                      (int64_t)size);
}

static void take_entry(struct verify *v, struct node *node, const struct hw_kv_entry *entry)
{
    struct hw_error why;
    const bool missigned = v->config->trust != NULL && !node->decided &&
                           rec_signature_check(v->config->trust, entry, &why) != HW_OK;

    forget(node);
    node->missigned = missigned;
    node->is_newer = entry->fenced && entry->fence.lsn > v->lsn;
    if (entry->deleted) {
        node->says = node->wanted != 0 ? hw_strdup("deleted")
                     : missigned       ? hw_strdup(why.message)
                                       : NULL;
        return;
    }
    struct hw_fence fence = {0};
    HW_AUTO_FREE char *says = describe(entry, node->decided, &fence);
    node->present = true;
    node->found = fence.epoch != 0 ? rec_sink_hash_of_entry(entry) : 0;
    node->wrong_fence =
        !entry->fenced || entry->fence.epoch != fence.epoch || entry->fence.lsn != fence.lsn;
    if (is_different(node))
        node->says = HW_TAKE(says);
    else if (node->wrong_fence)
        node->says = entry->fenced ? hw_sprintf("headers: epoch %" PRIu64
                                                ", LSN %s; value: epoch %" PRIu64 ", LSN %s",
                                                entry->fence.epoch, HW_LSN(entry->fence.lsn),
                                                fence.epoch, HW_LSN(fence.lsn))
                                   : hw_strdup("the headers have no fence");
    else if (missigned)
        node->says = hw_strdup(why.message);
}

static void on_entry(void *arg, struct hw_kv_entry *entry)
{
    struct verify *v = arg;
    struct node *node;

    v->entries++;
    v->keys_read = entry->seq >= v->last_seq;
    if (!rec_sink_has_key(entry->key))
        return;
    node = hw_map_get(&v->nodes, entry->key);
    if (node == NULL && entry->deleted && v->config->trust == NULL)
        return;
    if (node == NULL)
        node = add_node(v, entry->key);
    take_entry(v, node, entry);
}

static enum hw_status on_starting(void *arg, struct hw_error *err)
{
    struct verify *v = arg;
    struct hw_kv_stream stream;
    struct node *node;
    size_t at = 0;
    const enum hw_status status = hw_kv_stat(v->nats, v->config->bucket, &stream, err);

    if (status != HW_OK)
        return status;
    while ((node = hw_map_next(&v->nodes, &at)) != NULL)
        forget(node);
    v->entries = 0;
    v->last_seq = stream.last_seq; /* what is written later must not keep us reading */
    return HW_OK;
}

static void on_caught_up(void *arg)
{
    struct verify *v = arg;

    v->keys_read = true;
}

static void on_restarting(void *arg, const struct hw_error *why)
{
    is_over(arg, why->status, "reading the keys: ", why->message);
}

static enum hw_status read_keys(struct verify *v, struct hw_error *err)
{
    const struct hw_kv_watch_events events = {.starting = on_starting,
                                              .entry = on_entry,
                                              .caught_up = on_caught_up,
                                              .restarting = on_restarting,
                                              .arg = v};
    int64_t until = hw_loop_now() + SILENCE_MS;
    size_t before = 0;
    enum hw_status status = hw_kv_watch_start(v->nats, v->config->bucket, REC_SINK_KEYS,
                                              HW_DELIVER_LAST, &events, &v->watch, err);

    while (status == HW_OK && !v->keys_read) {
        status = run_until(v, &v->keys_read, POLL_MS, err);
        give_sign(v, "keys", v->entries, v->desired);
        if (v->entries != before)
            until = hw_loop_now() + SILENCE_MS;
        else if (status == HW_OK && !v->keys_read && hw_loop_now() >= until)
            status = hw_fail(err, HW_ETIMEOUT, "reading the keys: NATS says nothing more");
        before = v->entries;
    }
    hw_kv_watch_stop(HW_TAKE(v->watch));
    return status;
}

/* ---- what changed meanwhile ---- */

/* The history, read after the keys, has every state that a key can have come to since. */
static enum hw_status look_up_later(struct verify *v, const char *names, struct hw_error *err)
{
    HW_AUTO_FREE char *rev = hw_sprintf("%" PRId64, v->rev);
    PGresult *result = NULL;
    enum hw_status status = ask(v, later_sql, 2, (const char *[]){names, rev}, &result, err);

    if (status != HW_OK)
        return status;
    for (int i = 0; i < PQntuples(result) && status == HW_OK; i++) {
        HW_AUTO_FREE char *key = hw_sprintf(REC_DESIRED_PREFIX "%s", PQgetvalue(result, i, 0));
        struct node *node = hw_map_get(&v->nodes, key);
        struct rec_desired row;

        if (node == NULL)
            continue;
        if (PQgetisnull(result, i, 2)) {
            node->is_later |= !node->present;
            continue;
        }
        status = rec_desired_from_result(result, i, &row, err);
        if (status == HW_OK && node->present && node->found == rec_desired_hash(&row))
            node->is_later = true;
    }
    PQclear(result);
    return status;
}

/* There is no history of what nodes are told: both sides are read once more, until they agree. */
static enum hw_status look_again(struct verify *v, struct node *node, struct hw_error *err)
{
    struct hw_kv_entry entry = {0};
    PGresult *result = NULL;
    struct rec_decided row;
    enum hw_status status = ask(v, decided_sql, 1, (const char *[]){node->name}, &result, err);

    if (status != HW_OK)
        return status;
    node->wanted = 0;
    if (PQntuples(result) > 0) {
        status = rec_decided_from_result(result, 0, &row, err);
        if (status == HW_OK)
            node->wanted = rec_decided_hash(&row);
    }
    PQclear(result);
    if (status == HW_OK)
        status = hw_kv_get(v->nats, v->config->bucket, node->key, &entry, err);
    if (status == HW_ENOENT) {
        forget(node);
        return HW_OK;
    }
    if (status != HW_OK)
        return status;
    take_entry(v, node, &entry);
    hw_kv_entry_clear(&entry);
    return HW_OK;
}

static bool is_unexplained(const struct node *node)
{
    return is_different(node) && !node->is_later;
}

/* *left, *newer: how many stay unexplained, and how many of these by their fence need not. */
static enum hw_status look_up_round(struct verify *v, size_t *left, size_t *newer,
                                    struct hw_error *err)
{
    enum hw_status status = HW_OK;
    struct hw_buf names = {0};
    struct node *node;
    size_t at = 0, count = 0;

    do {
        node = hw_map_next(&v->nodes, &at);
        /* A key that is no name of a node is none that SQL could ever have had. */
        if (node != NULL && is_unexplained(node) && hw_kv_key_valid(node->name)) {
            if (node->decided) {
                status = look_again(v, node, err);
            } else {
                add_name(&names, node->name);
                count++;
            }
        }
        if (status == HW_OK && (count == BATCH || (node == NULL && count > 0))) {
            hw_buf_putc(&names, '}');
            status = look_up_later(v, hw_buf_str(&names), err);
            hw_buf_reset(&names);
            count = 0;
            give_sign(v, "looking for later changes", 0, 0);
        }
    } while (node != NULL && status == HW_OK);
    hw_buf_free(&names);
    at = *left = *newer = 0;
    while ((node = hw_map_next(&v->nodes, &at)) != NULL) {
        *left += is_unexplained(node);
        *newer += is_unexplained(node) && node->is_newer;
    }
    return status;
}

/*
 * A transaction is streamed once its commit is in the log, and may be seen by others only a moment
 * later; with a synchronous standby that can take long. So it is looked for more than once.
 */
static enum hw_status look_up_all_later(struct verify *v, struct hw_error *err)
{
    static const bool never = false;
    const int64_t until = hw_loop_now() + v->config->timeout_ms;
    size_t left, newer;

    for (int round = 1;; round++) {
        enum hw_status status = look_up_round(v, &left, &newer, err);

        if (status != HW_OK || left == 0)
            return status;
        if (round >= ROUNDS && (newer == 0 || hw_loop_now() >= until))
            return HW_OK;
        status = run_until(v, &never, ROUND_MS, err);
        if (status != HW_OK)
            return status;
    }
}

static void add_decided_difference(struct verify *v, const struct node *node)
{
    add_difference(v, "decided", node->name, NULL,
                   node->wanted == 0 ? "nothing is decided" : "what headwater.decided has",
                   node->says != NULL ? node->says : "no key");
}

static void add_node_difference(struct verify *v, const struct node *node)
{
    if (node->decided) {
        add_decided_difference(v, node);
        return;
    }
    HW_AUTO_FREE char *sql =
        node->wanted == 0 ? hw_strdup("nothing is desired")
                          : hw_sprintf("revision %" PRId64 " %s, %" PRId64 " bytes", node->revision,
                                       node->object->digest, node->object->size);
    const char *kind = is_unexplained(node) ? node->wanted == 0 ? "unknown"
                                              : node->present   ? "changed"
                                                                : "missing"
                       : node->wrong_fence  ? "fence"
                                            : "signature";
    const char *says = node->says != NULL ? node->says : "no key";

    if (strcmp(kind, "changed") == 0 && strcmp(sql, says) == 0)
        says = "the same document; another media type, other sources, or another node";
    add_difference(v, kind, node->name, NULL, sql, says);
}

static int by_name(const void *a, const void *b)
{
    const struct node *const *one = a, *const *other = b;
    const int order = strcmp((*one)->name, (*other)->name);

    return order != 0 ? order : (*one)->decided - (*other)->decided;
}

static void add_node_differences(struct verify *v)
{
    const struct node **found = hw_alloc((v->nodes.count + 1) * sizeof(struct node *));
    const struct node *node;
    size_t at = 0, count = 0;

    while ((node = hw_map_next(&v->nodes, &at)) != NULL)
        if (is_unexplained(node) || node->wrong_fence || node->missigned)
            found[count++] = node;
    qsort(found, count, sizeof(struct node *), by_name);
    for (size_t i = 0; i < count; i++)
        add_node_difference(v, found[i]);
    free(found);
}

/* ---- objects ---- */

static enum hw_status check_object(struct verify *v, struct object *object, struct hw_error *err)
{
    const char *name = object->digest + strlen("sha256:");
    char text[HW_DIGEST_STR_MAX];
    unsigned char *data = NULL;
    struct hw_digest digest;
    struct hw_error why;
    size_t size = 0;
    const enum hw_status status = hw_obj_get(v->nats, v->config->bucket, name, (size_t)object->size,
                                             &data, &size, &digest, &why);

    free(data);
    switch (status) {
    case HW_OK:
        hw_digest_format(&digest, text);
        if (strcmp(text, object->digest) != 0 || size != (size_t)object->size)
            object->says = hw_sprintf("%s, %zu bytes", text, size);
        return HW_OK;
    case HW_ENOENT:
    case HW_ECORRUPT:
    case HW_ELIMIT:
        object->says = hw_strdup(why.message);
        return HW_OK;
    default:
        return hw_fail(err, status, "%s", why.message);
    }
}

/* An object that nothing refers to any more may be gone. */
static enum hw_status look_up_wanted(struct verify *v, const char *digests, struct hw_error *err)
{
    PGresult *result = NULL;
    const enum hw_status status = ask(v, wanted_sql, 1, &digests, &result, err);

    if (status != HW_OK)
        return status;
    for (int i = 0; i < PQntuples(result); i++) {
        struct object *object = hw_map_get(&v->objects, PQgetvalue(result, i, 0));

        if (object != NULL)
            object->wanted = true;
    }
    PQclear(result);
    return HW_OK;
}

static enum hw_status check_objects(struct verify *v, struct hw_error *err)
{
    static const bool never = false;
    int64_t last_turn = hw_loop_now();
    enum hw_status status = HW_OK;
    struct hw_buf digests = {0};
    struct object *object;
    size_t at = 0, count = 0, done = 0;

    while (status == HW_OK && (object = hw_map_next(&v->objects, &at)) != NULL) {
        status = check_object(v, object, err);
        give_sign(v, "objects", ++done, v->objects.count);
        if (status == HW_OK && hw_loop_now() - last_turn >= POLL_MS) {
            status = run_until(v, &never, 1, err);
            last_turn = hw_loop_now();
        }
    }
    at = 0;
    while (status == HW_OK && (object = hw_map_next(&v->objects, &at)) != NULL) {
        if (object->says == NULL)
            continue;
        add_name(&digests, object->digest);
        if (++count % BATCH == 0) {
            hw_buf_putc(&digests, '}');
            status = look_up_wanted(v, hw_buf_str(&digests), err);
            hw_buf_reset(&digests);
        }
    }
    if (status == HW_OK && digests.len > 0) {
        hw_buf_putc(&digests, '}');
        status = look_up_wanted(v, hw_buf_str(&digests), err);
    }
    hw_buf_free(&digests);
    at = 0;
    while (status == HW_OK && (object = hw_map_next(&v->objects, &at)) != NULL) {
        HW_AUTO_FREE char *sql = hw_sprintf("%" PRId64 " bytes", object->size);

        if (object->says != NULL && object->wanted)
            add_difference(v, "object", object->node, object->digest + strlen("sha256:"), sql,
                           object->says);
    }
    return status;
}

/* ---- the whole ---- */

static enum hw_status start(struct verify *v, struct hw_error *err)
{
    const struct hw_db_events pg_events = {.up = on_pg_up, .down = on_pg_down, .arg = v};
    const struct hw_nats_events nats_events = {
        .up = on_nats_up, .down = on_nats_down, .away = on_nats_away, .arg = v};
    const struct hw_nats_options nats_options = {.url = v->config->nats,
                                                 .files = v->config->nats_files,
                                                 .name = "headwater-reconciler: verify",
                                                 .timeout_ms = NATS_TIMEOUT_MS};
    struct hw_kv_stream stream;
    enum hw_status status = hw_loop_new(&v->loop, err);

    /* Before libnats starts its threads: they inherit which signals are blocked. */
    if (status == HW_OK)
        status = hw_loop_on_signal(v->loop, SIGINT, on_signal, v, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(v->loop, SIGTERM, on_signal, v, err);
    if (status == HW_OK)
        status = hw_db_open(v->loop, v->config->database, "headwater-reconciler: verify",
                            &pg_events, &v->pg, err);
    if (status == HW_OK)
        status = run_until(v, &v->pg_up, CONNECT_MS, err);
    if (status == HW_OK && !v->pg_up)
        status = hw_fail(err, HW_ETIMEOUT, "the database does not answer");
    if (status == HW_OK)
        status = hw_nats_open(v->loop, &nats_options, &nats_events, &v->nats, err);
    if (status == HW_OK)
        status = run_until(v, &v->nats_up, CONNECT_MS, err);
    if (status == HW_OK && !v->nats_up)
        status = hw_fail(err, HW_ETIMEOUT, "NATS does not answer");
    if (status != HW_OK)
        return status;
    status = hw_kv_stat(v->nats, v->config->bucket, &stream, err);
    if (status == HW_ENOENT)
        hw_fail_in(err, "the bucket is not in NATS; the reconciler makes it when it starts");
    return status;
}

static enum hw_status compare(struct verify *v, struct hw_error *err)
{
    enum hw_status status = read_snapshot(v, err);

    if (status == HW_OK)
        status = wait_for_checkpoint(v, err);
    if (status == HW_OK)
        status = read_keys(v, err);
    if (status == HW_OK)
        status = look_up_all_later(v, err);
    if (status != HW_OK)
        return status;
    add_node_differences(v);
    return check_objects(v, err);
}

static void print_json(const struct verify *v, double seconds, const struct hw_error *failure)
{
    HW_AUTO_FREE char *checkpoint =
        v->has_checkpoint ? rec_checkpoint_value(&v->checkpoint) : hw_strdup("null");
    struct hw_buf text = {0};

    hw_buf_printf(&text, "{\"ok\":%s", failure == NULL && v->differences == 0 ? "true" : "false");
    if (failure != NULL) {
        hw_buf_puts(&text, ",\"error\":");
        hw_buf_json_string(&text, failure->message, strlen(failure->message));
    }
    hw_buf_printf(&text,
                  ",\"nodes\":%zu,\"objects\":%zu,\"rev\":%" PRId64 ",\"seconds\":%.3f"
                  ",\"difference_count\":%zu,\"differences\":[%s],\"checkpoint\":%s}",
                  v->desired, v->objects.count, v->rev, seconds, v->differences,
                  hw_buf_str(&v->list), checkpoint);
    puts(hw_buf_str(&text));
    hw_buf_free(&text);
}

static void print_summary(const struct verify *v, double seconds)
{
    if (v->differences > SHOWN_MOST)
        printf("... and %zu more\n", v->differences - SHOWN_MOST);
    printf("%zu nodes, %zu objects, %zu differences, %.3f seconds, change %" PRId64 "\n",
           v->desired, v->objects.count, v->differences, seconds, v->rev);
}

static void release(struct verify *v)
{
    struct node *node;
    struct object *object;
    size_t at = 0;

    hw_kv_watch_stop(v->watch);
    hw_nats_close(v->nats);
    hw_db_close(v->pg);
    hw_loop_free(v->loop);
    PQclear(v->answer);
    hw_buf_free(&v->list);
    while ((node = hw_map_next(&v->nodes, &at)) != NULL) {
        free(node->says);
        free(node);
    }
    at = 0;
    while ((object = hw_map_next(&v->objects, &at)) != NULL) {
        free(object->says);
        free(object);
    }
    hw_map_clear(&v->nodes);
    hw_map_clear(&v->objects);
}

enum hw_status rec_verify_run(const struct rec_verify_config *config, bool *equal,
                              struct hw_error *err)
{
    struct verify v = {.config = config,
                       .began = hw_loop_now(),
                       .last_sign = hw_loop_now(),
                       .terminal = isatty(STDERR_FILENO) != 0};
    enum hw_status status = start(&v, err);

    if (status == HW_OK)
        status = compare(&v, err);
    clear_sign(&v);
    const double seconds = (double)(hw_loop_now() - v.began) / 1000;
    if (config->json)
        print_json(&v, seconds, status == HW_OK ? NULL : err);
    else if (status == HW_OK)
        print_summary(&v, seconds);
    if ((fflush(stdout) != 0 || ferror(stdout) != 0) && status == HW_OK)
        status = hw_fail_errno(err, "writing to standard output");
    *equal = v.differences == 0;
    release(&v);
    return status;
}
