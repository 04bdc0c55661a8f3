#include "nats/mailbox.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/number.h"

enum { MAIL_MOST = 8192 }; /* messages that wait for the loop before libnats' threads have to */

struct hw_mailbox {
    pthread_mutex_t lock;
    pthread_cond_t drained;
    struct hw_loop *loop;
    void (*read)(void *arg, const struct hw_mail *mail); /* NULL once closed */
    void *arg;
    struct hw_mail *mails, *spare;
    size_t count, cap, spare_cap;
    pthread_cond_t answered; /* or there will be no answer */
    uint64_t question;       /* number of the one that is waited for; 0: none */
    natsMsg *answer;
    struct hw_mailbox *next;
};

/*
 * A thread of libnats may still be on its way into a callback while the connection is closed, and
 * nothing tells when the last one is through. Mailboxes are therefore kept on a list for the life
 * of the process, where leak checkers find them too: they are small, and there is one a connection.
 */
static struct hw_mailbox *all_mailboxes;
static pthread_mutex_t all_mailboxes_lock = PTHREAD_MUTEX_INITIALIZER;

static void read_mail(void *arg);

/* The lock is held. NULL: there will be no answer. */
static void end_question(struct hw_mailbox *box, natsMsg *answer)
{
    box->question = 0;
    box->answer = answer;
    pthread_cond_signal(&box->answered);
}

void hw_mailbox_post(struct hw_mailbox *box, const struct hw_mail *mail)
{
    pthread_mutex_lock(&box->lock);
    while (box->read != NULL && mail->kind == HW_MAIL_MESSAGE && box->count >= MAIL_MOST)
        pthread_cond_wait(&box->drained, &box->lock);
    if (box->read == NULL) {
        pthread_mutex_unlock(&box->lock);
        natsMsg_Destroy(mail->msg);
        return;
    }
    if (box->count == box->cap) {
        box->cap = box->cap > 0 ? 2 * box->cap : 16;
        box->mails = hw_realloc(box->mails, box->cap * sizeof(*box->mails));
    }
    box->mails[box->count++] = *mail;
    /* An answer that has come, and is not taken yet, stays. */
    if (box->question != 0 && (mail->kind == HW_MAIL_DOWN || mail->kind == HW_MAIL_CLOSED))
        end_question(box, NULL);
    if (box->count == 1)
        hw_loop_post(box->loop, read_mail, box);
    pthread_mutex_unlock(&box->lock);
}

/* The letters are read without the lock: meanwhile the next ones are written into the spare sheet,
 * and this one becomes the spare when it is read. */
static void read_mail(void *arg)
{
    struct hw_mailbox *box = arg;
    struct hw_mail *mails;
    size_t count, cap;

    pthread_mutex_lock(&box->lock);
    mails = box->mails;
    count = box->count;
    cap = box->cap;
    box->mails = box->spare;
    box->cap = box->spare_cap;
    box->count = 0;
    box->spare = NULL;
    box->spare_cap = 0;
    pthread_cond_broadcast(&box->drained);
    pthread_mutex_unlock(&box->lock);

    /* box->read changes on this thread alone. */
    for (size_t i = 0; i < count && box->read != NULL; i++)
        box->read(box->arg, &mails[i]);
    /* All at once: each wakes the thread of libnats that frees it, unless that is awake already. */
    for (size_t i = 0; i < count; i++)
        natsMsg_Destroy(mails[i].msg);

    pthread_mutex_lock(&box->lock);
    if (box->read != NULL && box->spare == NULL) {
        box->spare = mails;
        box->spare_cap = cap;
        mails = NULL;
    }
    pthread_mutex_unlock(&box->lock);
    free(mails);
}

bool hw_mailbox_has_mail(struct hw_mailbox *box)
{
    pthread_mutex_lock(&box->lock);
    const bool has = box->count > 0;
    pthread_mutex_unlock(&box->lock);
    return has;
}

/* ---- callbacks, each on a thread of libnats ---- */

static void on_connected(natsConnection *nc, void *closure)
{
    hw_mailbox_post(closure, &(struct hw_mail){.kind = HW_MAIL_UP, .nc = nc});
}

static void on_disconnected(natsConnection *nc, void *closure)
{
    const char *text = NULL;

    hw_mailbox_post(closure, &(struct hw_mail){.kind = HW_MAIL_DOWN,
                                               .nc = nc,
                                               .s = natsConnection_GetLastError(nc, &text)});
}

static void on_closed(natsConnection *nc, void *closure)
{
    const char *text = NULL;

    hw_mailbox_post(closure, &(struct hw_mail){.kind = HW_MAIL_CLOSED,
                                               .nc = nc,
                                               .s = natsConnection_GetLastError(nc, &text)});
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus s, void *closure)
{
    struct hw_mail mail = {.kind = HW_MAIL_TROUBLE, .s = s};
    const char *text = NULL;

    (void)sub;
    if (natsConnection_GetLastError(nc, &text) != NATS_OK && text != NULL)
        snprintf(mail.text, sizeof(mail.text), "%s", text);
    hw_mailbox_post(closure, &mail);
}

natsStatus hw_mailbox_attach(struct hw_mailbox *box, natsOptions *options)
{
    natsStatus s = natsOptions_SetRetryOnFailedConnect(options, true, on_connected, box);

    if (s == NATS_OK)
        s = natsOptions_SetReconnectedCB(options, on_connected, box);
    if (s == NATS_OK)
        s = natsOptions_SetDisconnectedCB(options, on_disconnected, box);
    if (s == NATS_OK)
        s = natsOptions_SetClosedCB(options, on_closed, box);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(options, on_error, box);
    return s;
}

void hw_mailbox_on_ack(jsCtx *js, natsMsg *msg, jsPubAck *pa, jsPubAckErr *pae, void *box)
{
    struct hw_mail mail = {.kind = HW_MAIL_ACK, .msg = msg};

    (void)js;
    if (pae != NULL) {
        mail.s = pae->Err != NATS_OK ? pae->Err : NATS_ERR;
        mail.code = pae->ErrCode;
        if (pae->ErrText != NULL)
            snprintf(mail.text, sizeof(mail.text), "%s", pae->ErrText);
    } else {
        mail.seq = pa->Sequence;
    }
    hw_mailbox_post(box, &mail);
}

/* An answer to a question that nobody waits for any more came too late. */
void hw_mailbox_on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct hw_mailbox *box = closure;
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    uint64_t number;

    (void)nc;
    (void)sub;
    pthread_mutex_lock(&box->lock);
    if (dot != NULL && hw_number_parse(dot + 1, &number) && number != 0 && box->question == number)
        end_question(box, HW_TAKE(msg));
    pthread_mutex_unlock(&box->lock);
    natsMsg_Destroy(msg);
}

/* ---- questions ---- */

void hw_mailbox_expect(struct hw_mailbox *box, uint64_t number)
{
    pthread_mutex_lock(&box->lock);
    box->question = number;
    pthread_mutex_unlock(&box->lock);
}

natsMsg *hw_mailbox_wait(struct hw_mailbox *box, uint64_t number, int64_t until_ms)
{
    const struct timespec at = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};

    pthread_mutex_lock(&box->lock);
    while (box->question == number &&
           pthread_cond_clockwait(&box->answered, &box->lock, CLOCK_MONOTONIC, &at) == 0)
        ;
    natsMsg *answer = HW_TAKE(box->answer);
    box->question = 0;
    pthread_mutex_unlock(&box->lock);
    return answer;
}

/* ---- life ---- */

struct hw_mailbox *hw_mailbox_new(struct hw_loop *loop,
                                  void (*read)(void *arg, const struct hw_mail *mail), void *arg)
{
    struct hw_mailbox *box = hw_alloc(sizeof(*box));

    pthread_mutex_init(&box->lock, NULL);
    pthread_cond_init(&box->drained, NULL);
    pthread_cond_init(&box->answered, NULL);
    box->loop = loop;
    box->read = read;
    box->arg = arg;
    pthread_mutex_lock(&all_mailboxes_lock);
    box->next = all_mailboxes;
    all_mailboxes = box;
    pthread_mutex_unlock(&all_mailboxes_lock);
    return box;
}

void hw_mailbox_close(struct hw_mailbox *box)
{
    pthread_mutex_lock(&box->lock);
    box->read = NULL;
    pthread_cond_broadcast(&box->drained);
    for (size_t i = 0; i < box->count; i++)
        natsMsg_Destroy(box->mails[i].msg);
    free(box->mails);
    free(box->spare);
    box->mails = box->spare = NULL;
    box->count = box->cap = box->spare_cap = 0;
    pthread_mutex_unlock(&box->lock);
}
