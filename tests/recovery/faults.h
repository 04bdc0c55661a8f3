/*
 * A fleet of servers and programs, and the ways in which it is broken. rig_tick starts programs
 * that died again after a while.
 */
#ifndef RECOVERY_FAULTS_H
#define RECOVERY_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "tests/recovery/bus.h"
#include "tests/recovery/chance.h"
#include "tests/recovery/checker.h"
#include "tests/recovery/hostile.h"
#include "tests/recovery/proposals.h"
#include "tests/recovery/workload.h"
#include "tests/support/proxy.h"
#include "tests/support/servers.h"

enum {
    RIG_RECONCILERS = 2,
    RIG_SECOND = WORKLOAD_AGENTS, /* an agent with the name of another one */
    RIG_AGENTS
};

struct rig_reconciler {
    struct test_program program;
    struct proxy *to_postgres, *to_nats;
    char database[256], nats[BUS_URL_MOST];
    bool wanted;     /* started again when it ends */
    double start_at; /* when to start it again, while it does not run */
    double wake_at;  /* when to continue it, while it is stopped; 0: it is not */
};

struct rig_agent {
    struct test_program program;
    char node[16]; /* "": there is none yet */
    char state_dir[192], output[192];
    double start_at;
};

struct rig {
    struct test_postgres pg;
    struct test_nats nats;
    struct checker *checker;
    struct proposals *proposals;
    struct hostile *hostile;
    struct rig_reconciler reconcilers[RIG_RECONCILERS];
    struct rig_agent agents[RIG_AGENTS]; /* the second one only from a fault on */
    struct chance chance;                /* of the faults */
    int points;                          /* so many of the next starts will die at a named point */
    char *copy;                          /* a copy of NATS's storage, to be put back later */
    struct hw_buf told;                  /* the faults that happened */
    bool lost;                           /* NATS lost its storage, or a part of it */
    bool is_healed;                      /* no more faults, and no more proposals */
    unsigned turn;                       /* whose turn it is to propose */
    char doubled[16];                    /* the node that has, or had, two agents; "": none */
    bool is_open;                        /* nodes may write to the bucket: a mistake (--open) */
    bool verbose;
};

/* Starts everything; the reconciler leads when the call returns. reconcilers is 1 or 2. */
void rig_start(struct rig *rig, uint64_t seed, int reconcilers);
/* Starts and continues the programs that are due. */
void rig_tick(struct rig *rig);
/* Lets time pass. */
void rig_wait(struct rig *rig, double seconds);
/* Ends all faults: the network heals, stopped programs go on, and all programs run. */
void rig_heal(struct rig *rig);
/* The agent that has the name of the second one; NULL where no node is doubled. */
const struct rig_agent *rig_first_of_two(const struct rig *rig);
void rig_end_second(struct rig *rig);
/* Ends all programs, in order, and fails the test unless they end well. */
void rig_stop_programs(struct rig *rig);
/* Ends all programs like that, then the servers, and frees everything. */
void rig_stop(struct rig *rig);

struct fault {
    const char *name;
    int weight; /* how often it is chosen, compared with the others */
    void (*happen)(struct rig *rig);
    const char *help;
};
extern const struct fault faults[]; /* the last one has no name */

#endif
