/*
 * Proves, after a run, that NATS was told what PostgreSQL committed: each transaction once, in
 * order, nothing else. It trusts neither the reconciler nor its tables: what was committed it reads
 * from the write-ahead log, through a replication slot of its own; what was published, from the
 * streams, of which no message may have been dropped. docs/reliability.md has the rules.
 */
#ifndef RECOVERY_CHECKER_H
#define RECOVERY_CHECKER_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/lsn.h"
#include "tests/support/servers.h"

/* A message that carries it was written by a stranger: the harness. */
#define CHECKER_FOREIGN "Recovery-Foreign"

/* A connection that waits for a loaded server; what goes wrong ends the test. */
void checker_connect(const char *url, natsConnection **nc, jsCtx **js);

struct checker;

/* Makes the slot: call it before anything is committed, and before the reconciler starts. */
struct checker *checker_start(const struct test_postgres *pg, const struct test_nats *nats);
void checker_free(struct checker *checker);

/* Makes the stream KV_headwater as the reconciler makes it, but one that forgets nothing. */
void checker_make_stream(const char *nats_url);

/*
 * The storage of NATS was taken away. store: a directory with what it was, kept until the check;
 * confirmed: up to where the slot was confirmed thereafter; copy: the older storage that was put
 * back, or NULL when nothing was.
 */
void checker_storage_lost(struct checker *checker, const char *store, hw_lsn confirmed,
                          const char *copy);

/* Does NATS hold what the database wants, are objects, files of agents and reports as they must be,
 * and is everything up to position confirmed? outputs[i] is the file of the agent of node n<i>.
 * Otherwise a malloc'ed sentence says what is not. */
char *checker_unsettled(struct checker *checker, hw_lsn position, const char *const outputs[],
                        bool with_reports);

struct checker_options {
    bool strict_replay;      /* what a rollback of NATS lost must come back, each exactly once */
    const char *failure_dir; /* made on failure, for the histories of keys; NULL: say nothing */
};
struct checker_result {
    int transactions, entries, repairs, problems;
};
/* Reads everything and judges it; problems go to stderr, and to the directory. */
struct checker_result checker_check(struct checker *checker, const struct checker_options *options);

#endif
