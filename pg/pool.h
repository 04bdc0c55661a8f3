/*
 * A pool of connections to PostgreSQL on the loop. A job is a batch as hw_db_run takes it. Jobs
 * wait in line, in order and for a bounded time, while all connections are busy; while none is up
 * they fail at once. Each connection heals by itself.
 */
#ifndef HW_PG_POOL_H
#define HW_PG_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/loop.h"
#include "common/status.h"
#include "pg/database.h"

/* Times in milliseconds that the pool sets for each session. */
enum { HW_POOL_STATEMENT_MS = 30000, HW_POOL_LOCK_MS = 10000, HW_POOL_QUEUED_MS = 10000 };

struct hw_pool_config {
    struct hw_loop *loop;
    const char *conninfo;
    int size;       /* connections */
    int queue_most; /* jobs in line */
};

/* Owned by whoever submits it, with all that it points to, until done is called. */
struct hw_pool_job {
    enum hw_db_mode mode;
    const struct hw_db_query *queries;
    int count;
    const struct hw_db_query *tail; /* or NULL */
    /* Once. Not sent at all: HW_EUNAVAIL (no database), HW_ETIMEOUT (too long in line). */
    hw_db_done_fn *done;
    void *arg;

    /* the pool's own */
    TAILQ_ENTRY(hw_pool_job) link;
    int64_t deadline;
    struct hw_pool *pool;
    struct pooled *connection;
    struct hw_timer pause;
};

struct hw_pool;
enum hw_status hw_pool_open(const struct hw_pool_config *config, struct hw_pool **pool,
                            struct hw_error *err) HW_CHECKED;

/* Every job that is left is done with HW_ESTOPPED, and so is every one that comes later. */
void hw_pool_stop(struct hw_pool *pool);
void hw_pool_free(struct hw_pool *pool); /* NULL is fine */

/* Is there a connection that works? */
bool hw_pool_up(const struct hw_pool *pool);
/* Why there is none, with what to do; no secret. */
const char *hw_pool_trouble(const struct hw_pool *pool);

struct hw_pool_load {
    int size, up, busy; /* connections: all, those that work, those that a job uses */
    int waiting;        /* jobs in line */
};
struct hw_pool_load hw_pool_load(const struct hw_pool *pool);

/* HW_EUNAVAIL, HW_ELIMIT (the line is full), HW_ESTOPPED: done is not called then. */
enum hw_status hw_pool_submit(struct hw_pool *pool, struct hw_pool_job *job,
                              struct hw_error *err) HW_CHECKED;

/* From within done: the job, with another batch, goes on at once on the connection that it had, in
 * the transaction that it left open there. A failure is told by done alone. */
void hw_pool_go_on(struct hw_pool_job *job);

/* The same, a little later; for a job whose done was called. A failure is told by done alone. */
void hw_pool_submit_after(struct hw_pool *pool, struct hw_pool_job *job, int64_t after_ms);

#endif
