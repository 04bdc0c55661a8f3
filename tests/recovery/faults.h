/*
 * A fleet to break, servers and programs, and the ways in which it is broken. Programs that died
 * are started again by rig_tick, after a while.
 */
#ifndef RECOVERY_FAULTS_H
#define RECOVERY_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "tests/recovery/chance.h"
#include "tests/recovery/checker.h"
#include "tests/recovery/proxy.h"
#include "tests/recovery/workload.h"
#include "tests/support/servers.h"

enum { RIG_RECONCILERS = 2 };

struct rig_reconciler {
    struct test_program program;
    struct proxy *to_postgres, *to_nats;
    char database[256], nats[64];
    bool wanted;     /* started again when it ends */
    double start_at; /* when it does not run */
    double wake_at;  /* when it is stopped */
};

struct rig_agent {
    struct test_program program;
    char node[16], state_dir[192], output[192];
    double start_at;
};

struct rig {
    struct test_postgres pg;
    struct test_nats nats;
    struct checker *checker;
    struct rig_reconciler reconcilers[RIG_RECONCILERS];
    struct rig_agent agents[WORKLOAD_AGENTS];
    struct chance chance; /* of the faults */
    int points;           /* how many of the next starts die at a named point */
    char *copy;           /* of NATS's storage, to be put back */
    struct hw_buf told;   /* the faults that happened */
    bool lost;            /* NATS's storage was, or a part of it */
    bool verbose;
};

/* Everything runs, and the reconciler leads; the number of reconcilers is 1 or 2. */
void rig_start(struct rig *rig, uint64_t seed, int reconcilers);
/* Restarts and wakes what is due. */
void rig_tick(struct rig *rig);
/* Lets time pass. */
void rig_wait(struct rig *rig, double seconds);
/* No faults any more: the network heals, what is stopped goes on, all programs run. */
void rig_heal(struct rig *rig);
/* Ends all programs, in order, and fails the test unless they end well. */
void rig_stop_programs(struct rig *rig);
/* The same, and all servers; frees what it holds. */
void rig_stop(struct rig *rig);

struct fault {
    const char *name;
    int weight; /* how often it is chosen, compared with the others */
    void (*happen)(struct rig *rig);
    const char *help;
};
extern const struct fault faults[]; /* the last one has no name */

#endif
