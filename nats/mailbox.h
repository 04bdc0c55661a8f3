/*
 * The way from libnats' threads to the loop. libnats calls back on threads of its own, at any time;
 * everything else in a program lives on the loop's thread. So each callback does no more than put a
 * letter, struct hw_mail, into a mailbox and wake the loop, which reads all letters in the order in
 * which they came.
 *
 * One kind of message does not go through the loop: the answer to a question that the loop's thread
 * is waiting for, since a loop that waits reads no mail.
 */
#ifndef HW_NATS_MAILBOX_H
#define HW_NATS_MAILBOX_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"

enum hw_mail_kind {
    HW_MAIL_UP,      /* the connection is there, or there again */
    HW_MAIL_AWAY,    /* an attempt to connect failed, for the reason s */
    HW_MAIL_DOWN,    /* the connection was lost, for the reason s */
    HW_MAIL_CLOSED,  /* libnats will not try again */
    HW_MAIL_PROBED,  /* the search for the reason has ended (nats/probe.h) */
    HW_MAIL_TROUBLE, /* the server complained of something that we did: s, text */
    HW_MAIL_MESSAGE, /* msg came for the subscription sub */
    HW_MAIL_ACK      /* the publish of msg ended: seq, or s, code and text */
};

struct hw_mail {
    enum hw_mail_kind kind;
    const natsConnection *nc; /* UP, AWAY, DOWN, CLOSED: of which connection; an address only, for
                                 the connection may be gone */
    natsMsg *msg;             /* owned by the letter */
    uint64_t sub;
    uint64_t seq;
    natsStatus s;
    jsErrCode code;
    char text[160]; /* the server's words; "" where there are none */
};

struct hw_mailbox;

/* read is called on the loop for each letter; what the letter points to is gone afterwards. The
 * mailbox may be closed from within. Never fails; there is no way to free a mailbox, see close. */
struct hw_mailbox *hw_mailbox_new(struct hw_loop *loop,
                                  void (*read)(void *arg, const struct hw_mail *mail), void *arg);

/* From now on everything that comes is thrown away, also what has come and was not read. A closed
 * mailbox stays valid for ever, because a thread of libnats may still be on its way to it. */
void hw_mailbox_close(struct hw_mailbox *box);

/* Puts a copy of the letter in. Takes mail->msg. Any thread. A messenger waits while 8192 letters
 * are waiting, so that a slow reader slows the server down instead of filling the memory. */
void hw_mailbox_post(struct hw_mailbox *box, const struct hw_mail *mail);

/* Does any letter wait to be read? */
bool hw_mailbox_has_mail(struct hw_mailbox *box);

/* ---- callbacks for libnats; the closure of each is the mailbox ---- */

/* Has a connection with these options tell what becomes of it. */
natsStatus hw_mailbox_attach(struct hw_mailbox *box, natsOptions *options);
void hw_mailbox_on_ack(jsCtx *js, natsMsg *msg, jsPubAck *pa, jsPubAckErr *pae, void *box);
/* For the subjects of answers, which end in a dot and the number of the question. */
void hw_mailbox_on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *box);

/* ---- a question, one at a time ---- */

/* Call before the question is sent: its answer may be quick. number: from 1, never used twice. */
void hw_mailbox_expect(struct hw_mailbox *box, uint64_t number);
/* Waits (blocks) for the answer until hw_loop_now() is until_ms. NULL: none came in time, or the
 * connection went. The caller destroys it. */
natsMsg *hw_mailbox_wait(struct hw_mailbox *box, uint64_t number, int64_t until_ms);

#endif
