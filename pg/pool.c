#include "pg/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/log.h"
#include "common/outage.h"

enum {
    /* libpq keeps its buffers at the largest size that they ever had: start anew beyond this. */
    HEAVY_BATCH = 1 << 20,
    /* The server ends statements by itself; this is for a server that fell silent. */
    SILENT_MS = HW_POOL_STATEMENT_MS + 5000,
    SETUP_AGAIN_MS = 1000,
};

struct pooled {
    struct hw_pool *pool;
    struct lane *lane;
    struct hw_db *db;
    bool ready;    /* up, and its session is set up */
    bool heavy;    /* libpq's buffers have grown */
    bool deciding; /* a job's done runs and may go on, so no other job gets this connection yet */
    struct hw_pool_job *job;
    int64_t begun;         /* the job, by hw_loop_now() */
    struct hw_timer watch; /* over the job that runs, or until the next try to set up */
};

/* The connections of one kind of job, and those that wait for one of them. */
struct lane {
    struct hw_pool *pool;
    struct pooled *connections;
    int size, ready_count;
    TAILQ_HEAD(, hw_pool_job) line;
    int in_line;
    struct hw_timer line_timer;
};

struct hw_pool {
    struct hw_pool_config config;
    char *conninfo;
    struct lane lanes[HW_POOL_LANES];
    struct pooled *connections; /* those of all lanes, one lane behind the other */
    int size;
    TAILQ_HEAD(, hw_pool_job) paused;
    struct hw_error trouble;
    struct hw_outage outage;   /* there is no connection at all */
    struct hw_outage shortage; /* there are some, and others are refused */
    bool announced, stopping;
    bool refuses_writes; /* and the log has told so */
};

static enum hw_status open_connection(struct pooled *c, struct hw_error *err);
static void serve_line(struct lane *lane);

/* ---- ends of jobs ---- */

static void fail_job(struct hw_pool_job *job, const struct hw_error *why, bool sent)
{
    const struct hw_db_outcome outcome = {
        .status = why->status,
        .err = *why,
        .constraint = "",
        .detail = "",
        .hint = "",
        .sent = sent,
    };

    job->done(job->arg, &outcome);
}

static void leave_line(struct lane *lane, struct hw_pool_job *job)
{
    TAILQ_REMOVE(&lane->line, job, link);
    lane->in_line--;
}

static void fail_line(struct lane *lane, const struct hw_error *why)
{
    for (struct hw_pool_job *job; (job = TAILQ_FIRST(&lane->line)) != NULL;) {
        leave_line(lane, job);
        fail_job(job, why, false);
    }
}

static void end_pause(struct hw_pool_job *job)
{
    hw_timer_stop(&job->pause);
    TAILQ_REMOVE(&job->pool->paused, job, link);
}

static void on_line_timer(void *arg)
{
    struct lane *lane = arg;
    struct hw_error late;
    struct hw_pool_job *job;

    hw_fail(&late, HW_ETIMEOUT, "every database connection is busy");
    while ((job = TAILQ_FIRST(&lane->line)) != NULL && job->deadline <= hw_loop_now()) {
        leave_line(lane, job);
        fail_job(job, &late, false);
    }
    if (job != NULL)
        hw_timer_start(lane->pool->config.loop, &lane->line_timer, job->deadline - hw_loop_now(),
                       on_line_timer, lane);
}

/* ---- one connection ---- */

static int count_ready(const struct hw_pool *pool)
{
    int count = 0;

    for (int i = 0; i < HW_POOL_LANES; i++)
        count += pool->lanes[i].ready_count;
    return count;
}

static void set_ready(struct pooled *c, bool ready)
{
    if (c->ready == ready)
        return;
    c->ready = ready;
    c->lane->ready_count += ready ? 1 : -1;
}

static void reopen(struct pooled *c)
{
    struct hw_error err;

    set_ready(c, false);
    c->heavy = false;
    hw_timer_stop(&c->watch);
    hw_db_close(HW_TAKE(c->db));
    /* The connection string was understood before. */
    if (open_connection(c, &err) != HW_OK)
        hw_log_error("database connection lost for good", HW_E(&err));
}

static void on_silence(void *arg)
{
    struct pooled *c = arg;
    struct hw_pool_job *job = HW_TAKE(c->job);
    struct hw_error err;

    hw_fail(&err, HW_EUNAVAIL, "the database does not answer");
    hw_log_warn("database connection is silent, opening another", HW_E(&err));
    reopen(c);
    fail_job(job, &err, true);
}

static size_t batch_bytes(const struct hw_pool_job *job, const struct hw_db_outcome *outcome)
{
    size_t bytes = 0;

    for (int i = 0; i < job->count; i++)
        for (int k = 0; k < job->queries[i].count; k++)
            if (job->queries[i].values[k] != NULL)
                bytes += strlen(job->queries[i].values[k]);
    for (int i = 0; i < outcome->count; i++)
        bytes += PQresultMemorySize(outcome->results[i]);
    return bytes;
}

static void on_done(void *arg, const struct hw_db_outcome *outcome)
{
    struct pooled *c = arg;
    struct hw_pool_job *job = HW_TAKE(c->job);

    hw_timer_stop(&c->watch);
    c->heavy = c->heavy || batch_bytes(job, outcome) > HEAVY_BATCH;
    c->deciding = true;
    job->done(job->arg, outcome);
    c->deciding = false;
    if (c->job != NULL)
        return;
    if (c->heavy && !c->pool->stopping)
        reopen(c);
    serve_line(c->lane);
}

static void give(struct pooled *c, struct hw_pool_job *job)
{
    struct hw_error err;

    c->job = job;
    c->begun = hw_loop_now();
    job->connection = c;
    hw_timer_start(c->pool->config.loop, &c->watch, SILENT_MS, on_silence, c);
    if (hw_db_run(c->db, job->mode, job->queries, job->count, job->tail, on_done, c, &err) == HW_OK)
        return;
    hw_timer_stop(&c->watch);
    c->job = NULL;
    fail_job(job, &err, false);
}

static struct pooled *find_idle(const struct lane *lane)
{
    for (int i = 0; i < lane->size; i++) {
        struct pooled *c = &lane->connections[i];

        if (c->ready && c->job == NULL && !c->deciding && hw_db_idle(c->db))
            return c;
    }
    return NULL;
}

static void serve_line(struct lane *lane)
{
    struct hw_pool_job *job;
    struct pooled *c;

    while (!lane->pool->stopping && (job = TAILQ_FIRST(&lane->line)) != NULL &&
           (c = find_idle(lane)) != NULL) {
        leave_line(lane, job);
        give(c, job);
    }
}

/* ---- whether there is a database ---- */

static void tell_trouble(struct hw_pool *pool)
{
    const int64_t now = hw_loop_now();

    pool->announced = false;
    if (hw_outage_goes_on(&pool->outage, pool->trouble.message, now))
        hw_log_warn("the database cannot be reached; what needs it is refused until it can",
                    HW_I("lasts_s", hw_outage_age(&pool->outage, now) / 1000),
                    HW_E(&pool->trouble));
}

/* Some connections are up, and another one is refused: perhaps there are too many. */
static void tell_shortage(struct hw_pool *pool)
{
    const int64_t now = hw_loop_now();

    if (hw_outage_goes_on(&pool->shortage, pool->trouble.message, now))
        hw_log_warn("a connection to the database is refused; requests share those that there are",
                    HW_I("connections", count_ready(pool)), HW_I("wanted", pool->size),
                    HW_E(&pool->trouble));
}

static void tell_reached(struct hw_pool *pool, const struct pooled *c)
{
    int64_t lasted;

    if (count_ready(pool) == pool->size && hw_outage_ends(&pool->shortage, hw_loop_now(), &lasted))
        hw_log_info("all connections to the database are there", HW_I("lasted_s", lasted / 1000));

    if (hw_outage_ends(&pool->outage, hw_loop_now(), &lasted))
        hw_log_info("the database is back", HW_I("server_version", hw_db_server_version(c->db)),
                    HW_I("lasted_s", lasted / 1000), HW_S("passed_over", hw_db_passed_over(c->db)));
    else if (!pool->announced)
        hw_log_info("database reached", HW_I("server_version", hw_db_server_version(c->db)),
                    HW_S("passed_over", hw_db_passed_over(c->db)));
    pool->announced = true;
}

/* Some server is there, and none that takes writes; or one is again. */
static void tell_writes(struct hw_pool *pool)
{
    const char *refusal = hw_pool_refuses_writes(pool);

    if (count_ready(pool) == 0 || pool->refuses_writes == (refusal != NULL))
        return;
    pool->refuses_writes = refusal != NULL;
    if (refusal != NULL)
        hw_log_warn("the database takes no writes; a server that does is looked for",
                    HW_S("why", refusal));
    else
        hw_log_info("the database takes writes again");
}

static void on_writes(void *arg, const char *refusal)
{
    const struct pooled *c = arg;

    (void)refusal;
    tell_writes(c->pool);
}

/* ---- sessions ---- */

static void set_up(void *arg);

/* The first one that is back: so are the server, and soon the others. */
static void hurry_others(const struct pooled *first)
{
    const struct hw_pool *pool = first->pool;

    for (int i = 0; i < pool->size; i++)
        if (&pool->connections[i] != first && pool->connections[i].db != NULL)
            hw_db_hurry(pool->connections[i].db);
}

static void on_set_up(void *arg, const struct hw_db_outcome *outcome)
{
    struct pooled *c = arg;
    struct hw_pool *pool = c->pool;

    if (outcome->status != HW_OK) {
        pool->trouble = outcome->err;
        if (count_ready(pool) == 0)
            tell_trouble(pool);
        if (hw_db_up(c->db))
            hw_timer_start(pool->config.loop, &c->watch, SETUP_AGAIN_MS, set_up, c);
        return;
    }
    if (count_ready(pool) == 0)
        hurry_others(c);
    set_ready(c, true);
    tell_reached(pool, c);
    tell_writes(pool);
    serve_line(c->lane);
}

static void set_up(void *arg)
{
    struct pooled *c = arg;
    struct hw_error err;
    char statement[16], lock[16];
    const char *const values[] = {statement, lock};
    const struct hw_db_query query = {
        .sql =
            "SELECT set_config('timezone', 'UTC', false), set_config('datestyle', 'ISO', false), "
            "set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false), "
            "set_config('default_transaction_isolation', 'read committed', false)",
        .count = 2,
        .values = values,
    };

    snprintf(statement, sizeof(statement), "%d", HW_POOL_STATEMENT_MS);
    snprintf(lock, sizeof(lock), "%d", HW_POOL_LOCK_MS);
    if (hw_db_run(c->db, HW_DB_SEPARATE, &query, 1, NULL, on_set_up, c, &err) != HW_OK)
        c->pool->trouble = err;
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct pooled *c = arg;
    struct hw_pool *pool = c->pool;
    const bool was_ready = c->ready;

    set_ready(c, false);
    hw_timer_stop(&c->watch);
    pool->trouble = *why;
    if (count_ready(pool) == 0)
        tell_trouble(pool);
    else if (!was_ready)
        tell_shortage(pool);
    if (c->lane->ready_count == 0)
        fail_line(c->lane, why);
}

static enum hw_status open_connection(struct pooled *c, struct hw_error *err)
{
    const struct hw_db_events events = {
        .up = set_up, .down = on_down, .writes = on_writes, .arg = c};

    return hw_db_open(c->pool->config.loop, c->pool->conninfo, c->pool->config.application_name,
                      &events, &c->db, err);
}

/* ---- the pool ---- */

static void make_lanes(struct hw_pool *pool)
{
    for (int i = 0; i < HW_POOL_LANES; i++)
        pool->size += pool->config.sizes[i];
    pool->connections = hw_alloc((size_t)pool->size * sizeof(*pool->connections));
    for (int i = 0, first = 0; i < HW_POOL_LANES; first += pool->lanes[i++].size) {
        struct lane *lane = &pool->lanes[i];

        *lane = (struct lane){
            .pool = pool, .connections = pool->connections + first, .size = pool->config.sizes[i]};
        TAILQ_INIT(&lane->line);
        for (int k = 0; k < lane->size; k++)
            lane->connections[k] = (struct pooled){.pool = pool, .lane = lane};
    }
}

enum hw_status hw_pool_open(const struct hw_pool_config *config, struct hw_pool **out,
                            struct hw_error *err)
{
    struct hw_pool *pool = hw_alloc(sizeof(*pool));
    enum hw_status status = HW_OK;

    pool->config = *config;
    pool->conninfo = hw_strdup(config->conninfo);
    TAILQ_INIT(&pool->paused);
    hw_fail(&pool->trouble, HW_EUNAVAIL, "no connection to the database was made yet");
    make_lanes(pool);
    for (int i = 0; i < pool->size && status == HW_OK; i++)
        status = open_connection(&pool->connections[i], err);
    if (status != HW_OK) {
        hw_pool_free(pool);
        return status;
    }
    *out = pool;
    return HW_OK;
}

void hw_pool_stop(struct hw_pool *pool)
{
    struct hw_error err;

    pool->stopping = true;
    hw_fail(&err, HW_ESTOPPED, "the service is stopping");
    for (int i = 0; i < HW_POOL_LANES; i++)
        fail_line(&pool->lanes[i], &err);
    for (struct hw_pool_job *job; (job = TAILQ_FIRST(&pool->paused)) != NULL;) {
        end_pause(job);
        fail_job(job, &err, false);
    }
    for (int i = 0; i < pool->size; i++) {
        struct pooled *c = &pool->connections[i];
        struct hw_pool_job *job = HW_TAKE(c->job);

        hw_timer_stop(&c->watch);
        set_ready(c, false);
        hw_db_close(HW_TAKE(c->db));
        if (job != NULL)
            fail_job(job, &err, true);
    }
}

void hw_pool_free(struct hw_pool *pool)
{
    if (pool == NULL)
        return;
    if (!pool->stopping)
        hw_pool_stop(pool);
    for (int i = 0; i < HW_POOL_LANES; i++)
        hw_timer_stop(&pool->lanes[i].line_timer);
    free(pool->connections);
    free(pool->conninfo);
    free(pool);
}

bool hw_pool_up(const struct hw_pool *pool)
{
    return count_ready(pool) > 0;
}

bool hw_pool_lane_up(const struct hw_pool *pool, enum hw_pool_lane lane)
{
    return pool->lanes[lane].ready_count > 0;
}

const char *hw_pool_trouble(const struct hw_pool *pool)
{
    return pool->trouble.message;
}

const char *hw_pool_refuses_writes(const struct hw_pool *pool)
{
    const char *refusal = NULL;

    for (int i = 0; i < pool->size; i++) {
        const struct pooled *c = &pool->connections[i];

        if (c->ready && hw_db_refuses_writes(c->db) == NULL)
            return NULL;
        if (c->ready)
            refusal = hw_db_refuses_writes(c->db);
    }
    return refusal;
}

struct hw_pool_load hw_pool_load(const struct hw_pool *pool)
{
    struct hw_pool_load load = {.size = pool->size, .up = count_ready(pool)};

    for (int i = 0; i < HW_POOL_LANES; i++)
        load.waiting += pool->lanes[i].in_line;
    for (int i = 0; i < pool->size; i++)
        load.busy += pool->connections[i].job != NULL;
    return load;
}

int hw_pool_long_at_work(const struct hw_pool *pool, int64_t least_ms, int *pids, int room,
                         bool *busy)
{
    int count = 0;

    *busy = false;
    for (int i = 0; i < pool->size; i++) {
        const struct pooled *c = &pool->connections[i];

        *busy |= c->job != NULL;
        if (c->job != NULL && hw_loop_now() - c->begun >= least_ms && count < room)
            pids[count++] = hw_db_backend(c->db);
    }
    return count;
}

enum hw_status hw_pool_submit(struct hw_pool *pool, struct hw_pool_job *job, struct hw_error *err)
{
    struct lane *lane = &pool->lanes[job->lane];
    struct pooled *c;

    if (pool->stopping)
        return hw_fail(err, HW_ESTOPPED, "the service is stopping");
    if (count_ready(pool) == 0)
        return hw_fail(err, HW_EUNAVAIL, "the database cannot be reached: %s",
                       pool->trouble.message);
    if (TAILQ_EMPTY(&lane->line) && (c = find_idle(lane)) != NULL) {
        give(c, job);
        return HW_OK;
    }
    if (lane->in_line >= pool->config.queue_most)
        return hw_fail(err, HW_ELIMIT, "%d requests wait for a database connection already",
                       lane->in_line);
    job->deadline = hw_loop_now() + HW_POOL_QUEUED_MS;
    TAILQ_INSERT_TAIL(&lane->line, job, link);
    lane->in_line++;
    if (!hw_timer_running(&lane->line_timer))
        hw_timer_start(pool->config.loop, &lane->line_timer, HW_POOL_QUEUED_MS, on_line_timer,
                       lane);
    return HW_OK;
}

void hw_pool_go_on(struct hw_pool_job *job)
{
    give(job->connection, job);
}

static void on_pause_over(void *arg)
{
    struct hw_pool_job *job = arg;
    struct hw_error err;

    end_pause(job);
    if (hw_pool_submit(job->pool, job, &err) != HW_OK)
        fail_job(job, &err, false);
}

void hw_pool_submit_after(struct hw_pool *pool, struct hw_pool_job *job, int64_t after_ms)
{
    job->pool = pool;
    TAILQ_INSERT_TAIL(&pool->paused, job, link);
    hw_timer_start(pool->config.loop, &job->pause, after_ms, on_pause_over, job);
}
