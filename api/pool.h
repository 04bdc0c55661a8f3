/*
 * A pool of connections to PostgreSQL on the loop. A job is a batch as hw_pg_run takes it. Jobs
 * wait in line, in order and for a bounded time, while all connections are busy; while none is up
 * they fail at once. Each connection heals by itself.
 */
#ifndef API_POOL_H
#define API_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/loop.h"
#include "common/pg.h"
#include "common/status.h"

/* Times in milliseconds that the pool sets for each session. */
enum { API_POOL_STATEMENT_MS = 30000, API_POOL_LOCK_MS = 10000, API_POOL_QUEUED_MS = 10000 };

struct api_pool_config {
    struct hw_loop *loop;
    const char *conninfo;
    int size;       /* connections */
    int queue_most; /* jobs in line */
};

/* Owned by whoever submits it, with all that it points to, until done is called. */
struct api_job {
    enum hw_pg_mode mode;
    const struct hw_pg_query *queries;
    int count;
    const struct hw_pg_query *tail; /* or NULL */
    /* Once. Not sent at all: HW_EUNAVAIL (no database), HW_ETIMEOUT (too long in line). */
    hw_pg_done_fn *done;
    void *arg;

    /* the pool's own */
    TAILQ_ENTRY(api_job) link;
    int64_t deadline;
    struct api_pool *pool;
    struct pooled *connection;
    struct hw_timer pause;
};

struct api_pool;
enum hw_status api_pool_open(const struct api_pool_config *config, struct api_pool **pool,
                             struct hw_error *err) HW_CHECKED;

/* Every job that is left is done with HW_ESTOPPED, and so is every one that comes later. */
void api_pool_stop(struct api_pool *pool);
void api_pool_free(struct api_pool *pool); /* NULL is fine */

/* Is there a connection that works? */
bool api_pool_up(const struct api_pool *pool);
/* Why there is none, with what to do; no secret. */
const char *api_pool_trouble(const struct api_pool *pool);

struct api_pool_load {
    int size, up, busy; /* connections: all, those that work, those that a job uses */
    int waiting;        /* jobs in line */
};
struct api_pool_load api_pool_load(const struct api_pool *pool);

/* HW_EUNAVAIL, HW_ELIMIT (the line is full), HW_ESTOPPED: done is not called then. */
enum hw_status api_pool_submit(struct api_pool *pool, struct api_job *job,
                               struct hw_error *err) HW_CHECKED;

/* From within done: the job, with another batch, goes on at once on the connection that it had, in
 * the transaction that it left open there. A failure is told by done alone. */
void api_pool_go_on(struct api_job *job);

/* The same, a little later; for a job whose done was called. A failure is told by done alone. */
void api_pool_submit_after(struct api_pool *pool, struct api_job *job, int64_t after_ms);

#endif
