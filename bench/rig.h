/*
 * What is measured: our own PostgreSQL (with fsync) and nats-server, the reconciler between them,
 * and a subscriber of everything that becomes desired, which notes when it came. What goes wrong
 * ends the program.
 */
#ifndef BENCH_RIG_H
#define BENCH_RIG_H

#include <libpq-fe.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stddef.h>

#include "tests/support/servers.h"

/* Of postgresql.conf, on top of what tests/support/servers.h says. */
#define RIG_SETTINGS                                                                               \
    "fsync = on\nshared_buffers = 256MB\nmax_wal_size = 4GB\nautovacuum_naptime = 10s\n"

enum { RIG_WAIT_S = 120 };

struct rig {
    struct test_postgres pg;
    struct test_nats nats;
    struct test_program reconciler;
    int monitor; /* the reconciler's port */
    PGconn *sql; /* as superuser */
    natsConnection *nc;
    jsCtx *js;
    natsSubscription *sub;
    pthread_mutex_t mutex; /* of what follows, which the subscriber's thread writes */
    pthread_cond_t came;
    long count;
    double first, last; /* test_now() */
    int size;           /* bytes of the last value */
};

/* Servers and the reconciler, which leads when the call returns. */
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
void rig_start(struct rig *rig); /* does not wait */
void rig_stop(struct rig *rig);
void rig_wait_ready(struct rig *rig);

/* Around what is done to NATS while it is stopped. */
void rig_disconnect(struct rig *rig);
void rig_connect(struct rig *rig);

PGconn *rig_sql_connect(const char *url);
/* Runs statements; the first value, malloc'ed, or NULL. */
char *rig_sql(PGconn *conn, const char *sql, ...) __attribute__((format(printf, 2, 3)));
void rig_run(PGconn *conn, const char *sql, ...) __attribute__((format(printf, 2, 3)));

/* Waits for a notification, and returns when it came. */
double rig_wait_notice(PGconn *listener);

/* Nodes n1 to n<count>, and a config "fleet" that goes to all of them. */
void rig_make_fleet(struct rig *rig, int count);
/* One change of all of them, in one statement; what makes it different from the one before. */
void rig_change_fleet(struct rig *rig, int change);
/* The slots need nothing of the log up to here: they go on to where nothing was running when they
 * have read that it was so, which a checkpoint writes. */
void rig_leave_behind(struct rig *rig);
jsStreamInfo *rig_bucket(struct rig *rig); /* of nodes' entries; jsStreamInfo_Destroy */
/* As many as the bucket keeps of each key: from then on each entry drops one, as in a bucket that
 * has been in use. */
void rig_fill_history(struct rig *rig);

/* Entries that came. */
void rig_forget(struct rig *rig);
long rig_count(struct rig *rig);
/* Waits for so many since rig_forget; returns when the last of them came. */
double rig_wait_count(struct rig *rig, long count);

/* Waits until the log is confirmed up to lsn; returns when that was seen. */
double rig_wait_confirmed(struct rig *rig, const char *lsn);
void rig_wait_caught_up(struct rig *rig);

#endif
