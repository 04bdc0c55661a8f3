/*
 * The reconciler's part for tests of the agent: a real nats-server with the buckets, objects and
 * fenced entries put into it, and what nodes report read from it. What goes wrong fails the test.
 */
#ifndef TEST_UPSTREAM_H
#define TEST_UPSTREAM_H

#include "base/json.h"
#include "protocol/entry.h"
#include "protocol/statement.h"
#include "tests/support/servers.h"

#define UPSTREAM_WAIT_S 60

struct upstream {
    struct test_nats server;
    struct hw_loop *loop;
    struct hw_nats *nats;
    bool up;
    struct hw_signer *signer; /* of what is desired and pointed to; NULL: it is not signed */
};

void upstream_open(struct upstream *u); /* with the buckets */
void upstream_open_without_buckets(struct upstream *u);
/* With a configuration file of nats-server; url: scheme and host of ours, files: who we are. */
void upstream_open_secured(struct upstream *u, char *config, const char *url,
                           const struct hw_nats_files *files);
void upstream_make_buckets(struct upstream *u);
void upstream_close(struct upstream *u);
void upstream_stop(struct upstream *u);
void upstream_restart(struct upstream *u);
void upstream_turn(struct upstream *u, int64_t ms); /* the loop */

/* Has node desire content as this revision, with the fence 1, 0/<16 * revision>. */
void upstream_desire(struct upstream *u, const char *node, int revision, const char *content);

/* Its steps: the object, named by the hex of its digest, and the entry that points to it. */
void upstream_put_object(struct upstream *u, const char *name, const void *data, size_t size);
void upstream_point(struct upstream *u, const char *node, int revision, const void *data,
                    size_t size, const char *media_type, hw_lsn lsn);

/* Any entry: value NULL deletes; fence and signature may be NULL. */
void upstream_put_entry(struct upstream *u, const char *node, const char *value, size_t size,
                        const struct hw_fence *fence);
void upstream_put_signed(struct upstream *u, const char *node, const char *value, size_t size,
                         const struct hw_fence *fence, const char *signature);

/* The newest report of node, or NULL; the sequence it has in the bucket (seq may be NULL). Caller:
 * json_decref. */
json_t *upstream_report(struct upstream *u, const char *node, uint64_t *seq);

/* Waits for a report of this state, running revision (0: none) and stage of failure (or NULL). */
json_t *upstream_expect(struct upstream *u, const char *node, const char *state, int running,
                        const char *stage);
void upstream_expect_applied(struct upstream *u, const char *node, int revision);

/* Waits for a report with the member: an object, or none. */
json_t *upstream_expect_member(struct upstream *u, const char *node, const char *member,
                               bool there);

/* "" where there is none. */
const char *upstream_text(const json_t *report, const char *part, const char *member);

#endif
