#include "reconciler/question.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "protocol/subjects.h"

enum {
    ANSWER_MS = 2000, /* a leader that takes longer is stuck, and does not count … */
    ANSWER_MOST = 65536,
};

void rec_question_cancel(struct rec_question *question)
{
    hw_timer_stop(&question->timer);
    hw_nats_unsubscribe(HW_TAKE(question->sub));
}

static void conclude(void *arg)
{
    struct rec_question *question = arg;

    rec_question_cancel(question);
    question->done(question->arg, question->led ? &question->leader : NULL);
}

/* Whoever has yielded answers as well, and so do we where we led until now. */
static void on_answer(void *arg, natsMsg *msg)
{
    struct rec_question *question = arg;
    struct hw_leader said;

    if (natsMsg_IsNoResponders(msg)) {
        hw_timer_start(question->loop, &question->timer, 0, conclude, question);
        return;
    }
    if (question->led || natsMsg_GetDataLength(msg) > ANSWER_MOST ||
        hw_leader_parse(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), &said, NULL) !=
            HW_OK ||
        strcmp(said.instance, question->instance) == 0 || *said.yielded != '\0')
        return;
    question->leader = said;
    question->led = true;
    /* Not from here, where the subscription is in use. */
    hw_timer_start(question->loop, &question->timer, 0, conclude, question);
}

enum hw_status rec_question_ask(struct rec_question *question, struct hw_error *err)
{
    HW_AUTO_FREE char *subject = hw_subject_leader(question->bucket);
    natsConnection *nc = hw_nats_connection(question->nats);
    char *inbox = NULL;
    enum hw_status status;

    rec_question_cancel(question);
    question->led = false;
    if (nc == NULL || !hw_nats_up(question->nats))
        return hw_fail(err, HW_EUNAVAIL, "asking who leads: NATS is away");
    if (natsInbox_Create(&inbox) != NATS_OK)
        abort(); /* out of memory */
    status = hw_nats_subscribe(question->nats, inbox, on_answer, question, &question->sub, err);
    if (status == HW_OK && natsConnection_PublishRequest(nc, subject, inbox, NULL, 0) != NATS_OK) {
        hw_nats_unsubscribe(HW_TAKE(question->sub));
        status = hw_fail(err, HW_EUNAVAIL, "asking who leads: NATS is away");
    }
    if (status == HW_OK)
        hw_timer_start(question->loop, &question->timer, ANSWER_MS, conclude, question);
    natsInbox_Destroy(inbox);
    return status;
}
