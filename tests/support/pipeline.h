/*
 * The reconciler between its two real servers, and what a test asks about the three: where the
 * slot is, what stands in NATS, what the log says. What goes wrong fails the test.
 */
#ifndef TEST_PIPELINE_H
#define TEST_PIPELINE_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lsn.h"
#include "tests/support/servers.h"

#define DESIRED    "$KV.headwater.cfg.desired." /* and the node's name */
#define REPORTED   "$KV.headwater_reports.cfg.reported."
#define DECIDED    "$KV.headwater.cfg.decided."
#define CHECKPOINT "$KV.headwater.cfg.checkpoint"

struct test_pipeline {
    struct test_postgres pg;
    struct test_nats nats;
    struct test_program reconciler;
    int monitor;        /* the reconciler's port on 127.0.0.1 */
    natsConnection *nc; /* ours */
    jsCtx *js;
};

/* Servers, and a connection to NATS; no reconciler yet. extra: as of test_postgres_start. */
void pipeline_open(struct test_pipeline *p, const char *extra);
void pipeline_close(struct test_pipeline *p);

/* Returns when its monitor listens, or it has ended. options: further flags, NULL-terminated, or
 * NULL. */
void pipeline_start(struct test_pipeline *p, const char *const options[]);
/* SIGTERM; fails the test unless it exits 0. */
void pipeline_stop(struct test_pipeline *p);
/* One more, without a monitor; the caller stops it. */
void pipeline_start_another(const struct test_pipeline *p, struct test_program *another);
void pipeline_stop_program(struct test_program *program);

/* Around what is done to NATS while it is stopped. */
void pipeline_stop_nats(struct test_pipeline *p);
void pipeline_kill_nats(struct test_pipeline *p);
void pipeline_restart_nats(struct test_pipeline *p);

/* ---- making things happen ---- */

/* Nodes n1 … and a config c, {"a":0}, that all nodes have by the assignment "all". */
void pipeline_make_nodes(const struct test_pipeline *p, int count);
void pipeline_set_content(const struct test_pipeline *p, const char *content); /* of c */

/* Puts a message where only the reconciler writes. Headers: names and values in turn, then NULL. */
void pipeline_put(const struct test_pipeline *p, const char *subject, const char *value, ...)
    __attribute__((sentinel));
void pipeline_purge(const struct test_pipeline *p, const char *stream, const char *subject);

/* ---- looking ---- */

/* The last message of a subject, or NULL; natsMsg_Destroy. */
natsMsg *pipeline_last(const struct test_pipeline *p, const char *stream, const char *subject);
/* Its value, malloc'ed, or NULL. */
char *pipeline_value(const struct test_pipeline *p, const char *stream, const char *subject);
/* Of an object's metadata in the stream OBJ_headwater; malloc'ed. */
char *pipeline_object_subject(const char *digest);
/* 0: there is no such stream, or nothing was ever in it. */
uint64_t pipeline_last_seq(const struct test_pipeline *p, const char *stream);

/* Does the key of node stand at what the database desires now, fenced with epoch? 0: any epoch. */
bool pipeline_up_to_date(const struct test_pipeline *p, const char *node, int epoch);

/* Are SQL and NATS equal, objects included? Waits for the reconciler as long as verify does. */
bool pipeline_equal(const struct test_pipeline *p);
/* The command's exit status; *output is what it printed, the caller's. */
int pipeline_verify(const struct test_pipeline *p, char **output);

/* Waits until all that is committed now is in NATS and confirmed. */
void pipeline_wait_until_caught_up(const struct test_pipeline *p);

int pipeline_times_in_log(const struct test_program *program, const char *text);
bool pipeline_log_says(const struct test_pipeline *p, const char *text); /* the reconciler's */

/* The status of /readyz; 0: nobody answers. And a number from /metrics, -1 where there is none. */
int pipeline_readyz(const struct test_pipeline *p);
double pipeline_metric(const struct test_pipeline *p, const char *name);

/* ---- messages of the stream KV_headwater ---- */

struct pipeline_message {
    uint64_t seq;
    char subject[160];
    struct hw_fence fence; /* 0: not written by a reconciler */
};
struct pipeline_messages {
    struct pipeline_message *list;
    size_t count;
};
void pipeline_messages_free(struct pipeline_messages *messages);

/* Those behind a sequence number whose subject begins so, in the stream's order. */
struct pipeline_messages pipeline_messages(const struct test_pipeline *p, uint64_t behind,
                                           const char *subject);
/* Fails the test unless the fences of each subject only grow. */
void pipeline_fences_grow(const struct pipeline_messages *messages);
/* Fails the test unless both hold the same (subject, fence), each once. */
void pipeline_same_revisions(const struct pipeline_messages *expected,
                             const struct pipeline_messages *found);

#endif
