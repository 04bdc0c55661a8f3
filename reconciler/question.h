/*
 * The question who leads (protocol/subjects.h), asked by a reconciler before it writes anything.
 * More than one may answer: one that leads, and those that have yielded.
 */
#ifndef REC_QUESTION_H
#define REC_QUESTION_H

#include "common/loop.h"
#include "nats/connection.h"
#include "protocol/leader.h"

struct rec_question {
    struct hw_loop *loop;
    struct hw_nats *nats;
    const char *bucket;
    const char *instance; /* our own, whose answer does not count */
    /* leader: who answered that it leads, or NULL where nobody did; gone when this returns. */
    void (*done)(void *arg, const struct hw_leader *leader);
    void *arg;

    struct hw_nats_sub *sub;
    struct hw_timer timer;
    struct hw_leader leader;
    bool led;
};

/* Fill the first members, and zero the others. done is called once, from the loop, after two
 * seconds at most. HW_EUNAVAIL: NATS is away; done is not called then. */
enum hw_status rec_question_ask(struct rec_question *question, struct hw_error *err) HW_CHECKED;
/* done is not called any more. Also fine where nothing was asked. */
void rec_question_cancel(struct rec_question *question);

#endif
