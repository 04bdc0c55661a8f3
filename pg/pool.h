/*
 * A pool of connections to the database on the loop. A job is a batch as hw_db_run takes it. Reads
 * and writes have connections of their own, and a line of their own: writes take turns at a lock,
 * so a transaction that somebody forgot holds up all of them, and must not hold up reads. While all
 * connections of its lane are busy, or not up yet, a job waits in line, in order and for a bounded
 * time, and fails when they are refused; while no connection of any lane is up, it fails at once.
 * Each connection comes back by itself.
 */
#ifndef HW_PG_POOL_H
#define HW_PG_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/status.h"
#include "common/loop.h"
#include "pg/database.h"

/* Times in milliseconds that the pool sets for each session. */
enum { HW_POOL_STATEMENT_MS = 30000, HW_POOL_LOCK_MS = 10000, HW_POOL_QUEUED_MS = 10000 };

enum hw_pool_lane { HW_POOL_READS, HW_POOL_WRITES, HW_POOL_LANES };

struct hw_pool_config {
    struct hw_loop *loop;
    const char *conninfo;
    const char *application_name; /* a constant */
    int sizes[HW_POOL_LANES];     /* connections */
    int queue_most;               /* jobs in one line */
};

/* Who submits it owns it and everything that it points to, and keeps both until done is called. */
struct hw_pool_job {
    enum hw_pool_lane lane;
    enum hw_db_mode mode;
    const struct hw_db_query *queries;
    int count;
    const struct hw_db_query *tail; /* or NULL */
    /* Called once. A job that was not sent fails with HW_EUNAVAIL (no database) or HW_ETIMEOUT (too
     * long in line). */
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

/* Every job that is left fails with HW_ESTOPPED, and so does every one that comes later. */
void hw_pool_stop(struct hw_pool *pool);
void hw_pool_free(struct hw_pool *pool); /* NULL is fine */

/* Is there a connection that works? */
bool hw_pool_up(const struct hw_pool *pool);
bool hw_pool_lane_up(const struct hw_pool *pool, enum hw_pool_lane lane);
/* Why there is none, with what to do; no secret. */
const char *hw_pool_trouble(const struct hw_pool *pool);

/* Why no connection that works takes writes, as hw_db_refuses_writes; NULL: one does, or none
 * works.
 */
const char *hw_pool_refuses_writes(const struct hw_pool *pool);

/* Of both lanes together. */
struct hw_pool_load {
    int size, up, busy; /* connections: all, those that work, those that a job uses */
    int waiting;        /* jobs in line */
};
struct hw_pool_load hw_pool_load(const struct hw_pool *pool);

/* Puts the backends into pids, at most room, that have been at a job for so long at least; returns
 * how many. *busy: does any connection have a job? */
int hw_pool_long_at_work(const struct hw_pool *pool, int64_t least_ms, int *pids, int room,
                         bool *busy);

/* HW_EUNAVAIL, HW_ELIMIT (the line is full), HW_ESTOPPED: done is not called then. */
enum hw_status hw_pool_submit(struct hw_pool *pool, struct hw_pool_job *job,
                              struct hw_error *err) HW_CHECKED;

/* From within done: runs the job again at once, with another batch, on the connection that it had,
 * in the transaction that it left open there. A failure is told by done alone. */
void hw_pool_go_on(struct hw_pool_job *job);

/* Submits a job whose done was called again, a little later. A failure is told by done alone. */
void hw_pool_submit_after(struct hw_pool *pool, struct hw_pool_job *job, int64_t after_ms);

#endif
