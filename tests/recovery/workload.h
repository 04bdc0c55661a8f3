/*
 * The work of operators, drawn from a seed: many small transactions and some large ones, by two
 * writers at once, who go on while servers come and go. They do not record what they committed: a
 * commit whose answer was lost may or may not have happened, and only the database knows.
 */
#ifndef RECOVERY_WORKLOAD_H
#define RECOVERY_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#define WORKLOAD_AGENTS 3 /* nodes n0, n1 and n2 have a document at the end */

struct workload_options {
    const char *url; /* of the database */
    uint64_t seed;
    int transactions; /* about so many */
    double seconds;   /* how long they take when no server is down */
};

struct workload;
struct workload *workload_start(const struct workload_options *options);
bool workload_done(struct workload *workload);
/* Waits for its end, frees it, and returns how many transactions were sent. */
int workload_finish(struct workload *workload);

/* Makes the first nodes, configs and assignments. Blocks. */
void workload_prepare(const char *url, uint64_t seed);
/* Gives the agents' nodes a document, whatever the workload did to them. Blocks. */
void workload_settle(const char *url);

#endif
