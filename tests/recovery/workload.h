/*
 * What operators do, from a seed: many small transactions and some large ones, by two writers at
 * once, who go on while servers come and go. What they committed is not recorded here: a commit
 * whose answer was lost may or may not have happened, and the database alone knows.
 */
#ifndef RECOVERY_WORKLOAD_H
#define RECOVERY_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#define WORKLOAD_AGENTS 3 /* nodes n0, n1 and n2 have a document at the end */

struct workload_options {
    const char *url; /* of the database */
    uint64_t seed;
    int transactions; /* about */
    double seconds;   /* over which they spread, when nothing is down */
};

struct workload;
struct workload *workload_start(const struct workload_options *options);
bool workload_done(struct workload *workload);
/* Waits for its end; returns how many transactions were sent. */
int workload_finish(struct workload *workload);

/* Nodes, configs and assignments to begin with; blocks. */
void workload_prepare(const char *url, uint64_t seed);
/* Gives the agents' nodes a document, whatever became of them; blocks. */
void workload_settle(const char *url);

#endif
