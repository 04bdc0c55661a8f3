#include "api/transaction.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/contention.h"
#include "api/problem.h"
#include "api/refusal.h"
#include "api/request/parameter.h"
#include "api/row.h"
#include "api/warnings.h"
#include "base/json.h"
#include "base/memory.h"
#include "common/log.h"
#include "http/answer.h"
#include "pg/pool.h"

enum {
    STATEMENTS_MAX = 12,
    VALUES_MAX = 12,
    ATTEMPTS_MAX = 6,
    PAUSE_FIRST_MS = 5,
};

#define PLAN_MOST "1000" /* nodes that a dry run lists */

/*
 * The step of a transaction that its running batch carries out. Most transactions are one batch. A
 * write with an Idempotency-Key keeps its answer in the same transaction, and the answer is made of
 * the results of the statements, so it takes several batches:
 *
 *   CLAIM     BEGIN, and the key       then WORK; where the key is taken, an answer and ROLLBACK
 *   WORK      the handler's statements then KEEP with the answer; where it refuses, ROLLBACK
 *   KEEP      the answer, and COMMIT   then the end
 *   ROLLBACK  also after a failure     then the end, or another attempt
 */
enum step { STEP_WHOLE, STEP_CLAIM, STEP_WORK, STEP_KEEP, STEP_ROLLBACK };

struct api_transaction {
    struct http_request *request;
    bool write, dry_run, keyed;
    enum hw_pool_lane lane;
    bool again; /* another attempt follows the rollback */
    enum step step;
    int first; /* how many statements stand before the handler's own */
    int count;
    struct hw_db_query queries[STATEMENTS_MAX];
    const char *values[STATEMENTS_MAX][VALUES_MAX];
    struct hw_db_query tail;
    struct hw_pool_job job;
    api_transaction_done_fn *done;
    const void *arg;
    int attempts;
    struct {
        char status[16];
        const char *values[5];
        struct hw_db_query queries[2];
    } keep;
};

static struct api_transaction *new_transaction(struct http_request *request, bool write)
{
    struct api_transaction *tx = hw_alloc(sizeof(*tx));

    tx->request = request;
    tx->write = write;
    tx->lane = write ? HW_POOL_WRITES : HW_POOL_READS;
    return tx;
}

struct api_transaction *api_transaction_read(struct http_request *request)
{
    return new_transaction(request, false);
}

struct api_transaction *api_transaction_write(struct http_request *request)
{
    struct api_transaction *tx = new_transaction(request, true);
    const char *message = http_request_parameter(request, "message");

    /* For a transaction of several batches; one that is a single batch leaves it out. */
    api_transaction_add(tx, "BEGIN", 0);
    api_transaction_add(tx,
                        "SELECT set_config('headwater.author', $1, true), "
                        "set_config('headwater.message', $2, true)",
                        2, request->author, message != NULL ? message : "");
    tx->keyed = request->idempotency_key != NULL;
    if (tx->keyed)
        api_transaction_add(tx, "SELECT * FROM headwater.claim_idempotency_key($1, $2)", 2,
                            request->idempotency_key, request->idempotency_request);
    tx->first = tx->count;
    return tx;
}

void api_transaction_without_lock(struct api_transaction *tx)
{
    tx->lane = HW_POOL_READS;
}

void api_transaction_add(struct api_transaction *tx, const char *sql, int count, ...)
{
    va_list values;

    if (tx->count == STATEMENTS_MAX || count > VALUES_MAX)
        abort(); /* no handler needs that many */
    va_start(values, count);
    for (int i = 0; i < count; i++)
        tx->values[tx->count][i] = va_arg(values, const char *);
    va_end(values);
    tx->queries[tx->count] =
        (struct hw_db_query){.sql = sql, .count = count, .values = tx->values[tx->count]};
    tx->count++;
}

/* ---- batches ---- */

static void finish(void *arg, const struct hw_db_outcome *outcome);

static void set_job(struct api_transaction *tx, enum step step, const struct hw_db_query *queries,
                    int count, const char *tail)
{
    tx->step = step;
    tx->job.lane = tx->lane;
    tx->tail = (struct hw_db_query){.sql = tail};
    tx->job.mode = HW_DB_ATOMIC;
    tx->job.queries = queries;
    tx->job.count = count;
    tx->job.tail = tail != NULL ? &tx->tail : NULL;
    tx->job.done = finish;
    tx->job.arg = tx;
}

static void set_first_job(struct api_transaction *tx)
{
    if (tx->keyed)
        set_job(tx, STEP_CLAIM, tx->queries, tx->first, NULL);
    else if (tx->dry_run)
        set_job(tx, STEP_WHOLE, tx->queries, tx->count, "ROLLBACK");
    else if (tx->write)
        set_job(tx, STEP_WHOLE, tx->queries + 1, tx->count - 1,
                "SELECT pg_current_wal_insert_lsn()");
    else
        set_job(tx, STEP_WHOLE, tx->queries, tx->count, NULL);
}

/* The answer is held until the rollback is done, so that a client that comes back at once finds the
 * key free. */
static void roll_back(struct api_transaction *tx, bool again)
{
    static const struct hw_db_query rollback = {.sql = "ROLLBACK"};

    tx->again = again;
    set_job(tx, STEP_ROLLBACK, &rollback, 1, NULL);
    hw_pool_go_on(&tx->job);
}

static void submit_again(struct api_transaction *tx)
{
    const int64_t most = (int64_t)PAUSE_FIRST_MS << (tx->attempts - 1);

    set_first_job(tx);
    api_contention_watch(api_of(tx->request)->contention);
    hw_pool_submit_after(api_of(tx->request)->pool, &tx->job, 1 + random() % most);
}

/* ---- answers ---- */

/* The header fields of a write that is committed. change: the statement whose one value is the rev
 * of the change, or NULL where nothing was changed; the last statement asked for the position,
 * perhaps in vain. */
static void set_positions(struct http_request *request, const struct hw_db_outcome *outcome,
                          int change)
{
    const PGresult *rev = outcome->results[change];

    if (outcome->status == HW_OK)
        http_answer_header(request, HTTP_HEADWATER_LSN,
                           PQgetvalue(outcome->results[outcome->count - 1], 0, 0));
    else
        hw_log_warn("a write is committed, and the position behind it is not known",
                    HW_E(&outcome->err));
    if (!PQgetisnull(rev, 0, 0))
        http_answer_header(request, HTTP_HEADWATER_CHANGE, PQgetvalue(rev, 0, 0));
}

static json_t *document_json(const PGresult *rows, int row, const struct api_column *columns)
{
    return api_row_text(rows, row, columns[0].name) != NULL ? api_row_object(rows, row, columns)
                                                            : json_null();
}

/* count: how many nodes would change; rows: those of headwater.plan(). */
static json_t *plan_json(const PGresult *count, const PGresult *rows, const PGresult *warnings)
{
    static const struct api_column old[] = {
        {.name = "old_revision", .type = API_COLUMN_INTEGER, .member = "revision"},
        {.name = "old_digest", .type = API_COLUMN_STRING, .member = "digest"},
        {.name = "old_media_type", .type = API_COLUMN_STRING, .member = "media_type"},
        {.name = NULL},
    };
    static const struct api_column new[] = {
        {.name = "new_revision", .type = API_COLUMN_INTEGER, .member = "revision"},
        {.name = "new_digest", .type = API_COLUMN_STRING, .member = "digest"},
        {.name = "new_media_type", .type = API_COLUMN_STRING, .member = "media_type"},
        {.name = NULL},
    };
    json_t *nodes = api_row_value(count, 0, "nodes", API_COLUMN_INTEGER);
    json_t *changes = json_array();

    for (int i = 0; i < PQntuples(rows); i++)
        json_array_append_new(
            changes, json_pack("{s:o, s:o, s:o, s:o, s:o}", "node",
                               api_row_value(rows, i, "node", API_COLUMN_STRING), "change",
                               api_row_value(rows, i, "change", API_COLUMN_STRING), "old",
                               document_json(rows, i, old), "new", document_json(rows, i, new),
                               "diff", api_row_value(rows, i, "diff", API_COLUMN_JSON)));
    return json_pack("{s:b, s:o, s:o, s:b, s:o}", "dry_run", true, "nodes", nodes, "changes",
                     changes, "truncated", json_integer_value(nodes) > PQntuples(rows), "warnings",
                     api_warnings_json(warnings));
}

/* Adds the results that the write itself would have answered for each of its resources, without
 * their versions, which were rolled back. */
static void add_results(json_t *plan, const char *answer, size_t len)
{
    HW_AUTO_JSON json_t *object = json_loadb(answer, len, 0, NULL);
    json_t *results = json_object_get(object, "results"), *result;
    size_t i;

    if (results == NULL)
        return;
    json_array_foreach(results, i, result)
        json_object_del(result, "etag");
    json_object_set(plan, "results", results);
}

/* A refusal of the handler is the answer; its success becomes the list of nodes that would change.
 */
static void answer_dry_run(struct api_transaction *tx, const struct hw_db_outcome *outcome)
{
    struct http_request *request = tx->request;
    PGresult *const *plan = outcome->results + tx->count - 3;

    http_answer_hold(request);
    tx->done(request, tx->arg, outcome->results + tx->first);
    if (request->held.status >= HTTP_BAD_REQUEST) {
        http_answer_release(request);
        return;
    }
    json_t *answer = plan_json(plan[0], plan[1], plan[2]);
    if (request->held.data != NULL)
        add_results(answer, request->held.data, request->held.len);
    http_answer_drop(request);
    http_answer_json_as(request, HTTP_OK, answer, "application/vnd.headwater.dry-run+json");
}

static void answer_whole(struct api_transaction *tx, const struct hw_db_outcome *outcome)
{
    struct http_request *request = tx->request;

    if (tx->dry_run) {
        answer_dry_run(tx, outcome);
        return;
    }
    if (!tx->write) {
        tx->done(request, tx->arg, outcome->results);
        return;
    }
    http_answer_owe(request); /* it is committed */
    http_answer_hold(request);
    tx->done(request, tx->arg, outcome->results + tx->first - 1);
    /* A refusal committed nothing; an answer that is still to come is none. */
    if (request->held.status < HTTP_BAD_REQUEST)
        set_positions(request, outcome, outcome->count - 2);
    http_answer_release(request);
}

/* Gives the answer that the first request with this key got. Only the position is the present one.
 */
static void answer_kept(struct http_request *request, const PGresult *row)
{
    const char *etag = api_row_text(row, 0, "etag");
    const char *location = api_row_text(row, 0, "location");
    const char *body = api_row_text(row, 0, "body");
    const char *change = api_row_text(row, 0, "change");
    const int status = (int)strtol(api_row_text(row, 0, "status"), NULL, 10);

    http_answer_header(request, "Idempotency-Replayed", "true");
    http_answer_header(request, HTTP_HEADWATER_LSN, api_row_text(row, 0, "lsn"));
    if (change != NULL)
        http_answer_header(request, HTTP_HEADWATER_CHANGE, change);
    if (etag != NULL)
        snprintf(request->etag, sizeof(request->etag), "%s", etag);
    if (location != NULL)
        http_answer_header(request, HTTP_LOCATION, location);
    if (body != NULL)
        http_answer_bytes(request, status, hw_strdup(body), strlen(body), "application/json");
    else
        http_answer_empty(request, status);
}

/* ---- steps ---- */

static void after_claim(struct api_transaction *tx, const struct hw_db_outcome *outcome)
{
    struct http_request *request = tx->request;
    const PGresult *row = outcome->results[tx->first - 1];
    const char *state = api_row_text(row, 0, "state");

    if (strcmp(state, "new") == 0) {
        set_job(tx, STEP_WORK, tx->queries + tx->first, tx->count - tx->first, NULL);
        hw_pool_go_on(&tx->job);
        return;
    }
    if (strcmp(state, "kept") == 0)
        http_answer_owe(request); /* it is committed */
    http_answer_hold(request);
    if (strcmp(state, "kept") == 0)
        answer_kept(request, row);
    else if (strcmp(state, "reused") == 0)
        http_answer_problem(request, &api_idempotency_key_reused,
                            "Idempotency-Key: it came with another request within the last 24 "
                            "hours; take a new key for a new request");
    else
        http_answer_problem(request, &api_idempotency_key_in_use,
                            "Idempotency-Key: a request with this key still runs; try again for "
                            "its answer");
    roll_back(tx, false);
}

static void after_work(struct api_transaction *tx, const struct hw_db_outcome *outcome)
{
    struct http_request *request = tx->request;

    http_answer_hold(request);
    tx->done(request, tx->arg, outcome->results);
    if (request->held.status >= HTTP_BAD_REQUEST) {
        roll_back(tx, false); /* nothing was done, so there is nothing to keep */
        return;
    }
    snprintf(tx->keep.status, sizeof(tx->keep.status), "%d", request->held.status);
    tx->keep.values[0] = request->idempotency_key;
    tx->keep.values[1] = tx->keep.status;
    tx->keep.values[2] = *request->etag != '\0' ? request->etag : NULL;
    tx->keep.values[3] = http_answer_header_set(request, HTTP_LOCATION);
    tx->keep.values[4] = request->held.data;
    tx->keep.queries[0] = (struct hw_db_query){
        .sql = "SELECT headwater.keep_answer($1, $2::int, $3, $4, $5)",
        .count = HW_COUNT(tx->keep.values),
        .values = tx->keep.values,
    };
    tx->keep.queries[1] = (struct hw_db_query){.sql = "COMMIT"};
    set_job(tx, STEP_KEEP, tx->keep.queries, HW_COUNT(tx->keep.queries),
            "SELECT pg_current_wal_insert_lsn()");
    hw_pool_go_on(&tx->job);
}

static void after_rollback(struct api_transaction *tx, const struct hw_db_outcome *outcome)
{
    if (tx->again && outcome->status == HW_OK) {
        submit_again(tx);
        return;
    }
    if (tx->again)
        api_refusal_answer(tx->request, outcome, false);
    else
        http_answer_release(tx->request);
    free(tx);
}

static void after_failure(struct api_transaction *tx, const struct hw_db_outcome *outcome)
{
    /* Serialization failures and deadlocks are tried again. A timeout of a lock (55P03) is not: the
     * client has waited long enough. */
    const bool again = strncmp(outcome->sqlstate, "40", 2) == 0 && ++tx->attempts < ATTEMPTS_MAX;
    const bool is_open = tx->step != STEP_WHOLE && outcome->status != HW_EUNAVAIL &&
                         outcome->status != HW_ESTOPPED && outcome->sent;
    /* Without a COMMIT on its way, nothing can have been done. */
    const bool may_be_done =
        tx->step == STEP_KEEP || (tx->step == STEP_WHOLE && tx->write && !tx->dry_run);

    if (tx->step == STEP_KEEP)
        http_answer_drop(tx->request);
    if (is_open && !again)
        http_answer_hold(tx->request);
    if (!again)
        api_refusal_answer(tx->request, outcome, may_be_done);
    if (is_open)
        roll_back(tx, again);
    else if (again)
        submit_again(tx);
    else
        free(tx);
}

static void finish(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_transaction *tx = arg;

    if (tx->step == STEP_ROLLBACK) {
        after_rollback(tx, outcome);
        return;
    }
    /* What is committed is answered as such, whatever went wrong behind it. */
    if (outcome->status != HW_OK && (tx->dry_run || !outcome->committed)) {
        after_failure(tx, outcome);
        return;
    }
    switch (tx->step) {
    case STEP_CLAIM:
        after_claim(tx, outcome);
        return;
    case STEP_WORK:
        after_work(tx, outcome);
        return;
    case STEP_KEEP:
        http_answer_owe(tx->request);
        set_positions(tx->request, outcome, 0);
        http_answer_release(tx->request);
        break;
    default:
        answer_whole(tx, outcome);
    }
    free(tx);
}

void api_transaction_run(struct api_transaction *tx, api_transaction_done_fn *done, const void *arg)
{
    struct hw_db_outcome outcome = {.constraint = "", .detail = "", .hint = ""};

    tx->done = done;
    tx->arg = arg;
    if (tx->write && !api_parameter_flag(tx->request, "dry_run", &tx->dry_run)) {
        free(tx);
        return;
    }
    if (tx->dry_run) {
        /* It changes nothing that could be changed twice by mistake, so its key does not matter. */
        if (tx->keyed) {
            tx->queries[tx->first - 1] = (struct hw_db_query){.sql = "SELECT 1"};
            tx->keyed = false;
        }
        /* Constraints that are checked at the commit must be checked before the rollback. */
        api_transaction_add(tx, "SET CONSTRAINTS ALL IMMEDIATE", 0);
        api_transaction_add(tx, "SELECT count(*) AS nodes FROM headwater.planned()", 0);
        api_transaction_add(tx, "SELECT * FROM headwater.plan($1::int)", 1, PLAN_MOST);
        api_transaction_add(tx, api_warnings_sql, 0);
    } else if (tx->write && !tx->keyed) {
        api_transaction_add(tx, "SELECT headwater.own_change()", 0);
    }
    set_first_job(tx);
    api_contention_watch(api_of(tx->request)->contention);
    outcome.status = hw_pool_submit(api_of(tx->request)->pool, &tx->job, &outcome.err);
    if (outcome.status == HW_OK)
        return;
    api_refusal_answer(tx->request, &outcome, tx->write);
    free(tx);
}
