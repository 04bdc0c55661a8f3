#include "api/resources/wait.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "api/api.h"
#include "api/handlers.h"
#include "api/problem.h"
#include "api/refusal.h"
#include "api/request/parameter.h"
#include "api/row.h"
#include "api/transaction.h"
#include "base/buf.h"
#include "base/lsn.h"
#include "base/memory.h"
#include "common/log.h"
#include "http/answer.h"

enum {
    TIMEOUT_DEFAULT_MS = 30000,
    TIMEOUT_MOST_MS = 600000,
    TICK_MS = 1000,     /* stands in for a notification that was lost */
    PAUSE_LEAST_MS = 5, /* between two queries, and at least as long as the last one took */
};

/* Waits for what was changed up to a position, or for one change. */
struct waiter {
    TAILQ_ENTRY(waiter) link;
    struct api_waits *waits;
    struct http_request *request;
    int64_t change; /* its rev; 0: the position counts */
    hw_lsn lsn;
    bool asked;   /* the query that runs is about it, too */
    bool expired; /* its time is over: the next judgement is the last */
    struct hw_timer timer;
};

struct api_waits {
    struct hw_loop *loop;
    struct api_listener *listener;
    struct api_subscriber subscriber;
    bool asking, dirty, stopped;
    TAILQ_HEAD(waiters, waiter) waiters;
    int count;
    int64_t asked_at;
    struct hw_timer tick, pause;
};

static void line_up(void *arg)
{
    struct api_waits *waits = arg;

    if (waits->dirty && waits->count > 0 && !waits->asking && !hw_timer_running(&waits->pause))
        api_listener_line_up(waits->listener, &waits->subscriber);
}

/* ---- waiters ---- */

static struct http_request *remove_waiter(struct waiter *waiter)
{
    struct http_request *request = waiter->request;

    TAILQ_REMOVE(&waiter->waits->waiters, waiter, link);
    if (--waiter->waits->count == 0)
        hw_timer_stop(&waiter->waits->tick);
    hw_timer_stop(&waiter->timer);
    free(waiter);
    return request;
}

static void wake(struct api_waits *waits)
{
    waits->dirty = true;
    line_up(waits);
}

static void on_expired(void *arg)
{
    struct waiter *waiter = arg;
    struct api_waits *waits = waiter->waits;

    waiter->expired = true;
    if (api_listener_up(waits->listener))
        wake(waits);
    else
        http_answer_problem(remove_waiter(waiter), &api_database_unavailable,
                            "The database cannot be reached to find out: %s",
                            api_listener_trouble(waits->listener));
}

static void on_gone(void *arg)
{
    http_answer_problem(remove_waiter(arg), &api_wait_timeout, "Nobody waits any more");
}

static void on_tick(void *arg)
{
    struct api_waits *waits = arg;

    hw_timer_start(waits->loop, &waits->tick, TICK_MS, on_tick, waits);
    wake(waits);
}

/* ---- judging ---- */

static const struct api_column columns[] = {
    {.name = "lsn", .type = API_COLUMN_STRING, .optional = true},
    {.name = "change", .type = API_COLUMN_INTEGER, .optional = true},
    {.name = "nodes", .type = API_COLUMN_INTEGER},
    {.name = "applied", .type = API_COLUMN_INTEGER},
    {.name = "failed", .type = API_COLUMN_INTEGER},
    {.name = "pending", .type = API_COLUMN_INTEGER},
    {.name = "failed_nodes", .type = API_COLUMN_JSON, .optional = true},
    {.name = "pending_nodes", .type = API_COLUMN_JSON, .optional = true},
    {.name = NULL},
};

static json_t *judgement(const PGresult *rows, int row, const char *state)
{
    json_t *object = api_row_object(rows, row, columns);

    json_object_set_new(object, "state", json_string(state));
    return object;
}

static bool is_zero(const PGresult *rows, int row, const char *column)
{
    return strcmp(api_row_text(rows, row, column), "0") == 0;
}

static void judge(struct waiter *waiter, const PGresult *rows, int row)
{
    const bool done = is_zero(rows, row, "pending");
    const char *parameter = waiter->change > 0 ? "change" : "lsn";

    if (api_row_is_true(rows, row, "ahead"))
        http_answer_problem(remove_waiter(waiter), &api_position_ahead,
                            "%s: the database is at %s; wait for what a write answered", parameter,
                            api_row_text(rows, row, "newest"));
    else if (done && is_zero(rows, row, "failed"))
        http_answer_json(remove_waiter(waiter), HTTP_OK, judgement(rows, row, "applied"));
    else if (done)
        http_answer_problem_with(remove_waiter(waiter), &api_apply_failed,
                                 judgement(rows, row, "failed"), "%s of %s nodes failed",
                                 api_row_text(rows, row, "failed"),
                                 api_row_text(rows, row, "nodes"));
    else if (waiter->expired)
        http_answer_problem_with(remove_waiter(waiter), &api_wait_timeout,
                                 judgement(rows, row, "pending"), "%s of %s nodes are pending",
                                 api_row_text(rows, row, "pending"),
                                 api_row_text(rows, row, "nodes"));
}

static bool is_about(const PGresult *rows, int row, const struct waiter *waiter)
{
    const char *change = api_row_text(rows, row, "change");
    const char *lsn = api_row_text(rows, row, "lsn");
    hw_lsn found;

    if (waiter->change > 0)
        return change != NULL && strtoll(change, NULL, 10) == waiter->change;
    return lsn != NULL && hw_lsn_parse(lsn, &found, NULL) == HW_OK && found == waiter->lsn;
}

static int find_row(const PGresult *rows, const struct waiter *waiter)
{
    for (int i = 0; i < PQntuples(rows); i++)
        if (is_about(rows, i, waiter))
            return i;
    return -1;
}

static void on_judged(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_waits *waits = arg;
    const int64_t took = hw_loop_now() - waits->asked_at;
    struct waiter *waiter, *next;

    waits->asking = false;
    for (waiter = TAILQ_FIRST(&waits->waiters); waiter != NULL; waiter = next) {
        next = TAILQ_NEXT(waiter, link);
        if (!waiter->asked)
            continue;
        waiter->asked = false;
        if (outcome->status == HW_OK)
            judge(waiter, outcome->results[0], find_row(outcome->results[0], waiter));
        else if (outcome->status != HW_EUNAVAIL || waiter->expired)
            api_refusal_answer(remove_waiter(waiter), outcome, false);
    }
    if (waits->count > 0)
        hw_timer_start(waits->loop, &waits->pause, took > PAUSE_LEAST_MS ? took : PAUSE_LEAST_MS,
                       line_up, waits);
}

/* One query about all that anyone waits for; again only when something happened meanwhile. */
static void ask(void *arg)
{
    struct api_waits *waits = arg;
    struct hw_buf positions = {0}, changes = {0};
    struct waiter *waiter;

    if (!waits->dirty || waits->asking || waits->count == 0)
        return;
    hw_buf_putc(&positions, '{');
    hw_buf_putc(&changes, '{');
    TAILQ_FOREACH(waiter, &waits->waiters, link) {
        if (waiter->change > 0)
            hw_buf_printf(&changes, "%s%" PRId64, changes.len > 1 ? "," : "", waiter->change);
        else
            hw_buf_printf(&positions, "%s%s", positions.len > 1 ? "," : "", HW_LSN(waiter->lsn));
        waiter->asked = true;
    }
    hw_buf_putc(&positions, '}');
    hw_buf_putc(&changes, '}');
    const char *const values[] = {positions.data, changes.data};
    const struct hw_db_query query = {
        .sql = "SELECT * FROM headwater.judge_waits($1::pg_lsn[], $2::bigint[])",
        .count = HW_COUNT(values),
        .values = values};

    waits->asked_at = hw_loop_now();
    if (api_listener_ask(waits->listener, HW_DB_ATOMIC, &query, 1, on_judged, waits)) {
        waits->asking = true;
        waits->dirty = false;
    }
    hw_buf_free(&positions);
    hw_buf_free(&changes);
}

/* ---- beginning and end ---- */

static void on_report(void *arg)
{
    wake(arg);
}

struct api_waits *api_waits_new(struct hw_loop *loop, struct api_listener *listener)
{
    static const char *const channels[] = {"headwater_reported", NULL};
    struct api_waits *waits = hw_alloc(sizeof(*waits));

    waits->loop = loop;
    waits->listener = listener;
    TAILQ_INIT(&waits->waiters);
    waits->subscriber = (struct api_subscriber){
        .channels = channels, .up = on_report, .notify = on_report, .turn = ask, .arg = waits};
    api_listener_subscribe(listener, &waits->subscriber);
    return waits;
}

int api_waits_count(const struct api_waits *waits)
{
    return waits->count;
}

void api_waits_stop(struct api_waits *waits)
{
    struct waiter *waiter, *next;

    waits->stopped = true;
    for (waiter = TAILQ_FIRST(&waits->waiters); waiter != NULL; waiter = next) {
        next = TAILQ_NEXT(waiter, link);
        http_answer_problem(remove_waiter(waiter), &api_shutting_down,
                            "Wait again when it is back");
    }
    hw_timer_stop(&waits->pause);
}

void api_waits_free(struct api_waits *waits)
{
    if (waits == NULL)
        return;
    if (!waits->stopped)
        api_waits_stop(waits);
    free(waits);
}

/* ---- GET /v1/wait ---- */

/* "1500ms", "30s", "2m", a bare number is seconds. -1: not a time, or too long. */
static int64_t parse_timeout(const char *text)
{
    static const struct {
        const char *suffix;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"", 1000}};
    const size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 9)
        return -1;
    for (size_t i = 0; i < HW_COUNT(units); i++) {
        if (strcmp(text + digits, units[i].suffix) == 0) {
            const int64_t ms = strtoll(text, NULL, 10) * units[i].ms;

            return ms <= TIMEOUT_MOST_MS ? ms : -1;
        }
    }
    return -1;
}

void api_wait_get(struct http_request *request)
{
    struct api_waits *waits = api_of(request)->waits;
    const char *lsn = http_request_parameter(request, "lsn");
    const char *change = http_request_parameter(request, "change");
    const char *timeout = http_request_parameter(request, "timeout");
    const int64_t timeout_ms = timeout != NULL ? parse_timeout(timeout) : TIMEOUT_DEFAULT_MS;
    struct waiter *waiter;
    hw_lsn position = 0;
    int64_t rev = 0;

    if ((lsn == NULL) == (change == NULL)) {
        http_answer_problem(request, &http_invalid_parameter,
                            "change or lsn: one of them says what to wait for, as Headwater-Change "
                            "and Headwater-LSN give it");
        return;
    }
    if (change != NULL && !api_parameter_rev(change, &rev)) {
        http_answer_problem(request, &http_invalid_parameter,
                            "change: must be a number such as 17, as Headwater-Change gives it");
        return;
    }
    if (lsn != NULL && hw_lsn_parse(lsn, &position, NULL) != HW_OK) {
        http_answer_problem(request, &http_invalid_parameter,
                            "lsn: must be a position such as 0/16B3748, as Headwater-LSN gives it");
        return;
    }
    if (timeout_ms < 0) {
        http_answer_problem(request, &http_invalid_parameter,
                            "timeout: must be a time such as 500ms, 30s or 2m, at most 10m");
        return;
    }
    if (waits->stopped || !api_listener_up(waits->listener)) {
        if (waits->stopped)
            http_answer_problem(request, &api_shutting_down, "Wait again when it is back");
        else
            http_answer_problem(request, &api_database_unavailable,
                                "Nobody can be waited for without the database: %s",
                                api_listener_trouble(waits->listener));
        return;
    }
    waiter = hw_alloc(sizeof(*waiter));
    waiter->waits = waits;
    waiter->request = request;
    waiter->change = rev;
    waiter->lsn = position;
    TAILQ_INSERT_TAIL(&waits->waiters, waiter, link);
    waiter->expired = timeout_ms == 0;
    http_request_on_gone(request, on_gone, waiter);
    if (timeout_ms > 0)
        hw_timer_start(waits->loop, &waiter->timer, timeout_ms, on_expired, waiter);
    if (waits->count++ == 0)
        hw_timer_start(waits->loop, &waits->tick, TICK_MS, on_tick, waits);
    wake(waits);
}
