/*
 * The ledger notices foreign writes without reading a single message back. The leader alone writes
 * the stream of entries, and NATS numbers the messages of a stream without gaps. So every sequence
 * number behind the leader's claim must be one that was acknowledged to the leader; any other one
 * is somebody else's write.
 *
 * Acknowledgements may come late and in any order. So when a later number is heard of, a missing
 * number is not foreign at once: it may belong to a publish that is under way. It is foreign when
 * all publishes that were under way at that moment have ended. Numbers are heard of by
 * acknowledgements, and by asking the server for its last one.
 */
#ifndef RECONCILER_PUBLISH_LEDGER_H
#define RECONCILER_PUBLISH_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

enum { REC_LEDGER_SPAN = 16384 }; /* more than can be in flight at once */

struct rec_ledger {
    bool open;
    uint64_t next;    /* all numbers below it are accounted for */
    uint64_t highest; /* the highest number that was heard of */
    uint64_t tickets; /* publishes so far … */
    uint64_t flying;  /* … and those that have not ended */
    uint64_t suspect; /* the last ticket that may still account for next; 0: no gap known */
    uint64_t pending; /* publishes up to suspect that have not ended */
    unsigned char ours[REC_LEDGER_SPAN / 8];  /* a bit a number from next on: is it acknowledged? */
    void (*foreign)(void *arg, uint64_t seq); /* must not close or open the ledger */
    void *arg;
};

/* Everything behind claim is ours from now on. Publishes that are under way do not count. */
void rec_ledger_open(struct rec_ledger *ledger, uint64_t claim);
void rec_ledger_close(struct rec_ledger *ledger);

/* A publish begins; its ticket is given back when it ends: with its sequence, or 0 where none was
 * stored. */
uint64_t rec_ledger_publish(struct rec_ledger *ledger);
void rec_ledger_end(struct rec_ledger *ledger, uint64_t ticket, uint64_t seq);

/* A stored number was found to be one of ours after all. */
void rec_ledger_own(struct rec_ledger *ledger, uint64_t seq);

/* The server has told its last number. */
void rec_ledger_told(struct rec_ledger *ledger, uint64_t last);

#endif
