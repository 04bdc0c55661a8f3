/*
 * The system that is measured: a PostgreSQL of our own (with fsync), a nats-server of our own, the
 * reconciler between them, and a subscriber of all desired entries, which notes when each came. An
 * error ends the program with a message. Times are those of test_now(), in seconds.
 */
#ifndef BENCH_RIG_H
#define BENCH_RIG_H

#include <libpq-fe.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stddef.h>

#include "tests/support/servers.h"

/* Lines of postgresql.conf, beside those that tests/support/servers.h writes. */
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

/* Starts the servers and the reconciler, which leads when the call returns. */
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
void rig_start(struct rig *rig); /* does not wait */
void rig_stop(struct rig *rig);
void rig_wait_ready(struct rig *rig);

/* The rig's own connection to NATS, which must be closed while nats-server is stopped. */
void rig_disconnect(struct rig *rig);
void rig_connect(struct rig *rig);

/* Stops the reconciler and then nats-server, whose storage may be changed in between. */
void rig_stop_all(struct rig *rig);
/* Starts both again and forgets the entries that came before; does not wait for the reconciler.
 * Returns when the reconciler was started. */
double rig_start_all(struct rig *rig);

/* Starts the agent of a node, which writes to output and keeps its state in dir/state. */
void rig_start_agent(struct rig *rig, struct test_program *agent, const char *node,
                     const char *output, const char *dir);
void rig_stop_agent(struct test_program *agent);

PGconn *rig_sql_connect(const char *url);
/* Runs statements and returns the first value of the last one, malloc'ed, or NULL. */
char *rig_sql(PGconn *conn, const char *sql, ...) __attribute__((format(printf, 2, 3)));
void rig_run(PGconn *conn, const char *sql, ...) __attribute__((format(printf, 2, 3)));

/* Waits for a notification, and returns the time when it came. */
double rig_wait_notice(PGconn *listener);

/* Makes nodes n1 to n<count>, and a config "fleet" that is assigned to all of them. */
void rig_make_fleet(struct rig *rig, int count);
/* Changes the documents of all nodes with one statement. Each call needs another number, so that
 * the document differs from the one before. */
void rig_change_fleet(struct rig *rig, int change);
/* Lets both slots move up to here, so that they need nothing of the log before. A slot moves to a
 * position only when the log says that no transaction was running there, and a checkpoint writes
 * that. */
void rig_leave_behind(struct rig *rig);
/* The stream that holds the nodes' entries; free it with jsStreamInfo_Destroy. */
jsStreamInfo *rig_bucket(struct rig *rig);
/* Changes every node as often as the bucket keeps revisions of a key. From then on each entry drops
 * an old one, as in a bucket that has been in use. */
void rig_fill_history(struct rig *rig);

/* The subscriber counts entries; rig_forget begins at 0 again. */
void rig_forget(struct rig *rig);
long rig_count(struct rig *rig);
/* Waits for so many entries since rig_forget, and returns the time when the last of them came. */
double rig_wait_count(struct rig *rig, long count);

/* Waits until the log is confirmed up to lsn, and returns the time when that was seen. */
double rig_wait_confirmed(struct rig *rig, const char *lsn);
void rig_wait_caught_up(struct rig *rig);

#endif
