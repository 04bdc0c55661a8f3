#include "api/transaction.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/refusal.h"
#include "common/log.h"
#include "common/memory.h"

enum { STATEMENTS_MAX = 8, VALUES_MAX = 12, ATTEMPTS_MAX = 6, PAUSE_FIRST_MS = 5 };

struct api_transaction {
    struct api_request *request;
    bool write;
    int first; /* statements before the handler's own */
    int count;
    struct hw_pg_query queries[STATEMENTS_MAX];
    const char *values[STATEMENTS_MAX][VALUES_MAX];
    struct hw_pg_query tail;
    struct api_job job;
    api_transaction_done_fn *done;
    const void *arg;
    int attempts;
};

static struct api_transaction *new_transaction(struct api_request *request, bool write)
{
    struct api_transaction *tx = hw_alloc(sizeof(*tx));

    tx->request = request;
    tx->write = write;
    return tx;
}

struct api_transaction *api_transaction_read(struct api_request *request)
{
    return new_transaction(request, false);
}

struct api_transaction *api_transaction_write(struct api_request *request)
{
    struct api_transaction *tx = new_transaction(request, true);
    const char *message = api_request_parameter(request, "message");

    api_transaction_add(tx,
                        "SELECT set_config('headwater.author', $1, true), "
                        "set_config('headwater.message', $2, true)",
                        2, request->author, message != NULL ? message : "");
    tx->first = tx->count;
    tx->tail.sql = "SELECT pg_current_wal_insert_lsn()";
    return tx;
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
        (struct hw_pg_query){.sql = sql, .count = count, .values = tx->values[tx->count]};
    tx->count++;
}

/* False when it was tried often enough. */
static bool try_again(struct api_transaction *tx)
{
    const int64_t most = (int64_t)PAUSE_FIRST_MS << tx->attempts;

    if (++tx->attempts >= ATTEMPTS_MAX)
        return false;
    api_pool_submit_after(tx->request->api->pool, &tx->job, 1 + random() % most);
    return true;
}

static void finish(void *arg, const struct hw_pg_outcome *outcome)
{
    struct api_transaction *tx = arg;
    struct api_request *request = tx->request;

    /* Serialization failures and deadlocks; whoever waited for a lock in vain has waited enough. */
    if (strncmp(outcome->sqlstate, "40", 2) == 0 && try_again(tx))
        return;
    if (outcome->status != HW_OK) {
        api_refusal_answer(request, outcome, tx->write);
    } else {
        if (tx->write)
            api_answer_header(request, "Headwater-LSN",
                              PQgetvalue(outcome->results[outcome->count - 1], 0, 0));
        tx->done(request, tx->arg, outcome->results + tx->first);
    }
    free(tx);
}

void api_transaction_run(struct api_transaction *tx, api_transaction_done_fn *done, const void *arg)
{
    struct hw_pg_outcome outcome = {.constraint = "", .detail = "", .hint = ""};

    tx->done = done;
    tx->arg = arg;
    tx->job = (struct api_job){
        .mode = HW_PG_ATOMIC,
        .queries = tx->queries,
        .count = tx->count,
        .tail = tx->write ? &tx->tail : NULL,
        .done = finish,
        .arg = tx,
    };
    outcome.status = api_pool_submit(tx->request->api->pool, &tx->job, &outcome.err);
    if (outcome.status == HW_OK)
        return;
    api_refusal_answer(tx->request, &outcome, tx->write);
    free(tx);
}
