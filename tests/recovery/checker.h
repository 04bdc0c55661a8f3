/*
 * Proves, after a run, that NATS was told what PostgreSQL committed: each transaction once, in
 * order, and nothing else. It trusts neither the reconciler nor its tables. It reads from the
 * write-ahead log, through a replication slot of its own, what was committed, and what was
 * published from the streams, which it follows all the time, since they keep little of each key.
 * docs/reliability.md has the rules.
 */
#ifndef RECOVERY_CHECKER_H
#define RECOVERY_CHECKER_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/lsn.h"
#include "tests/support/servers.h"

/* A message with this header was written by the harness, as a stranger. */
#define CHECKER_FOREIGN "Recovery-Foreign"

struct checker;

/* Makes the slot: call it before anything is committed, and before the reconciler starts. */
struct checker *checker_start(const struct test_postgres *pg, const struct test_nats *nats);
void checker_free(struct checker *checker);

/*
 * Tells the checker that the storage of NATS was taken away. store: a directory with that storage,
 * kept until the check; confirmed: the position up to which the slot was confirmed thereafter;
 * copy: the older storage that was put back, or NULL when none was.
 */
void checker_storage_lost(struct checker *checker, const char *store, hw_lsn confirmed,
                          const char *copy);

/* The storage of NATS, which is down, was just copied. */
void checker_storage_copied(struct checker *checker);

/* Forgets that it saw messages of a subject, as if NATS had never had them. */
void checker_forget(struct checker *checker, const char *subject);

/* The sequence number of the newest message that was seen. */
uint64_t checker_newest(struct checker *checker);

/* NULL when NATS holds what the database wants, objects, agents' files and reports are as they must
 * be, and everything up to position is confirmed; otherwise a malloc'ed sentence that says what is
 * not so. outputs[i] is the file of the agent of node n<i>. */
char *checker_unsettled(struct checker *checker, hw_lsn position, const char *const outputs[],
                        bool with_reports);

struct proposals;
struct checker_options {
    bool strict_replay; /* entries that a rollback of NATS lost must come back exactly once */
    struct proposals *proposals; /* of the nodes; NULL: they make none */
    const char *doubled;         /* the node that had two agents; NULL: none */
    const char *failure_dir;     /* made on failure, for the histories of keys; NULL: no messages */
};
struct checker_result {
    int transactions, entries, repairs, problems;
};
/* Reads everything and judges it; problems go to stderr, and to the directory. */
struct checker_result checker_check(struct checker *checker, const struct checker_options *options);

/* For rules that stand elsewhere: notes a problem with what is named, while checker_check judges.
 */
void checker_problem(struct checker *checker, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
