#include "nats/connection.h"

#include <inttypes.h>
#include <malloc.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/outage.h"
#include "nats/nkey.h"
#include "nats/probe.h"

enum {
    TIMEOUT_MS = 2000,
    ACK_TIMEOUT_MS = 5000,
    MAX_PENDING = 4096,
    REOPEN_MS = 2000,
    CLOCK_MS = 10000,      /* between looks at the clock */
    CLOCK_SLACK_MS = 1000, /* that it may be set back without consequence */
    LEAVING_MS = 2000,     /* between taking a subscription out of the connection and freeing it */
    MAIL_MOST = 8192, /* messages waiting for the loop before libnats' threads are made to wait */
    PROBE_EVERY_MS = 20000, /* while there is no connection; a third of HW_OUTAGE_AGAIN_MS */
    PROBE_WITHIN_MS = 1000, /* of a loss, where many clients share a server */
    JS_WRONG_LAST_SEQUENCE = 10071,
    JS_NO_MESSAGE = 10037,
    JS_STREAM_NOT_FOUND = 10059,
    JS_INSUFFICIENT_RESOURCES = 10023,
    JS_STORAGE_EXCEEDED = 10047,
};

/* ---- mail: what libnats' threads tell the loop ---- */

enum mail_kind {
    MAIL_UP,
    MAIL_AWAY,
    MAIL_DOWN,
    MAIL_CLOSED,
    MAIL_PROBED,
    MAIL_TROUBLE,
    MAIL_MESSAGE,
    MAIL_ACK
};

struct mail {
    enum mail_kind kind;
    natsMsg *msg;   /* MESSAGE: received; ACK: the one that was published */
    uint64_t sub;   /* MESSAGE: id of the subscription */
    uint64_t seq;   /* ACK */
    natsStatus s;   /* ACK, TROUBLE, DOWN */
    jsErrCode code; /* ACK */
    char text[160]; /* ACK: server's words */
};

/*
 * The closure of every libnats callback. A thread of the library may still be on its way into a
 * callback while the connection is closed, and nothing tells when the last one is through, so
 * letter boxes are kept on a list for the life of the process: they are small, and few.
 */
struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t drained;
    struct hw_nats *nats; /* NULL once closed: everything that comes is thrown away */
    struct mail *mails, *spare;
    size_t count, cap, spare_cap;
    pthread_cond_t answered; /* or there will be no answer */
    uint64_t question;       /* number of the one that is waited for; 0: none */
    natsMsg *answer;
    struct mailbox *next;
};
static struct mailbox *all_mailboxes;
static pthread_mutex_t all_mailboxes_lock = PTHREAD_MUTEX_INITIALIZER;

struct hw_nats_sub {
    struct hw_nats *nats;
    uint64_t id;
    char *subject;
    natsSubscription *sub;
    hw_nats_msg_fn *fn;
    void *arg;
    struct hw_nats_sub *next;
};

/* One that is not used any more. */
struct leaving {
    natsSubscription *sub;
    int64_t due; /* hw_loop_now(): when it may be freed */
    struct leaving *next;
};

/* A publish in flight, found by the address of its message. */
struct flight {
    const natsMsg *msg; /* NULL: free */
    hw_ack_fn *done;
    void *arg;
};

struct hw_nats {
    struct hw_loop *loop;
    struct mailbox *box;
    struct hw_nats_events events;
    struct hw_nats_listener *listeners;
    natsOptions *options;
    natsConnection *nc;
    jsCtx *js;
    int64_t timeout_ms;
    int max_pending;
    bool up;
    char trouble[160];
    char *prefix;    /* NULL: none */
    natsStatus away; /* why the last try to connect failed, as the owner was told */
    struct hw_timer reopen;

    /* Why there is no connection. */
    char *url, *shown;          /* shown: without users and passwords */
    struct hw_nats_files files; /* those for TLS */
    bool many;                  /* clients share the server */
    struct hw_nats_probe *probe;
    struct hw_timer find_out;
    struct hw_outage outage;
    char why[HW_NATS_WHY_MAX], lost[160]; /* lost: what libnats said of the connection's end */
    bool untold;                          /* it was lost, and away was not called */
    int64_t was_away;

    struct hw_timer clock_timer;
    int64_t clock_ahead; /* ms: the time of day, less the monotonic clock */
    uint64_t next_sub;
    struct hw_nats_sub *subs;
    natsInbox *inbox;          /* answers come under "<inbox>.<number of the question>" */
    natsSubscription *answers; /* NULL: nothing was asked by this connection yet */
    uint64_t questions;
    struct leaving *leaving, **leaving_end;
    struct hw_timer leaving_timer;
    struct flight *flights; /* open addressing, linear probing */
    size_t flight_mask, in_flight;
};

static void read_mail(void *arg);
static enum hw_status open_connection(struct hw_nats *nats, struct hw_error *err);

/* The lock is held. NULL: there will be no answer. */
static void end_question(struct mailbox *box, natsMsg *answer)
{
    box->question = 0;
    box->answer = answer;
    pthread_cond_signal(&box->answered);
}

/* Called on libnats' threads. Takes mail.msg. */
static void post(struct mailbox *box, const struct mail *mail)
{
    pthread_mutex_lock(&box->lock);
    while (box->nats != NULL && mail->kind == MAIL_MESSAGE && box->count >= MAIL_MOST)
        pthread_cond_wait(&box->drained, &box->lock);
    if (box->nats == NULL) {
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
    if (box->question != 0 && (mail->kind == MAIL_DOWN || mail->kind == MAIL_CLOSED))
        end_question(box, NULL);
    if (box->count == 1)
        hw_loop_post(box->nats->loop, read_mail, box);
    pthread_mutex_unlock(&box->lock);
}

static void on_connected(natsConnection *nc, void *closure)
{
    (void)nc;
    post(closure, &(struct mail){.kind = MAIL_UP});
}

static void on_disconnected(natsConnection *nc, void *closure)
{
    const char *text = NULL;

    post(closure, &(struct mail){.kind = MAIL_DOWN, .s = natsConnection_GetLastError(nc, &text)});
}

static void on_closed(natsConnection *nc, void *closure)
{
    (void)nc;
    post(closure, &(struct mail){.kind = MAIL_CLOSED});
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus s, void *closure)
{
    struct mail mail = {.kind = MAIL_TROUBLE, .s = s};
    const char *text = NULL;

    (void)sub;
    if (natsConnection_GetLastError(nc, &text) != NATS_OK && text != NULL)
        snprintf(mail.text, sizeof(mail.text), "%s", text);
    post(closure, &mail);
}

/* The closure of one subscription's callback; freed when libnats says that it is through. */
struct sub_box {
    struct mailbox *box;
    uint64_t id;
};

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    const struct sub_box *sb = closure;

    (void)nc;
    (void)sub;
    post(sb->box, &(struct mail){.kind = MAIL_MESSAGE, .msg = msg, .sub = sb->id});
}

static void on_ack(jsCtx *js, natsMsg *msg, jsPubAck *pa, jsPubAckErr *pae, void *closure)
{
    struct mail mail = {.kind = MAIL_ACK, .msg = msg};

    (void)js;
    if (pae != NULL) {
        mail.s = pae->Err != NATS_OK ? pae->Err : NATS_ERR;
        mail.code = pae->ErrCode;
        if (pae->ErrText != NULL)
            snprintf(mail.text, sizeof(mail.text), "%s", pae->ErrText);
    } else {
        mail.seq = pa->Sequence;
    }
    post(closure, &mail);
}

/* ---- errors ---- */

static enum hw_status status_of(natsStatus s, jsErrCode code)
{
    switch ((int)code) {
    case 0:
        break;
    case JS_WRONG_LAST_SEQUENCE:
        return HW_ECONFLICT;
    case JS_NO_MESSAGE:
    case JS_STREAM_NOT_FOUND:
        return HW_ENOENT;
    case JS_INSUFFICIENT_RESOURCES:
    case JS_STORAGE_EXCEEDED:
        return HW_ELIMIT;
    default:
        return HW_EPROTO;
    }
    switch (s) {
    case NATS_OK:
        return HW_OK;
    case NATS_TIMEOUT:
        return HW_ETIMEOUT;
    case NATS_NOT_FOUND:
        return HW_ENOENT;
    case NATS_NOT_PERMITTED:
    case NATS_CONNECTION_AUTH_FAILED:
        return HW_EDENIED;
    case NATS_MAX_PAYLOAD:
        return HW_ELIMIT;
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
        return HW_EINVAL;
    case NATS_PROTOCOL_ERROR:
    case NATS_ERR: /* headers that libnats cannot parse */
        return HW_EPROTO;
    default:
        return HW_EUNAVAIL;
    }
}

enum hw_status hw_nats_fail(struct hw_error *err, natsStatus s, jsErrCode code, const char *fmt,
                            ...)
{
    const enum hw_status status = status_of(s, code);
    char doing[HW_ERROR_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(doing, sizeof(doing), fmt, args);
    va_end(args);
    if (s == NATS_NO_RESPONDERS)
        return hw_fail(err, HW_EUNAVAIL,
                       "%s: nobody answers; the bucket is missing or JetStream is off", doing);
    if (code != 0)
        return hw_fail(err, status, "%s: %s (JetStream error %d)", doing, natsStatus_GetText(s),
                       (int)code);
    return hw_fail(err, status, "%s: %s", doing, natsStatus_GetText(s));
}

/* A denied publish shows as a timeout here and as an asynchronous error there: join the two. */
static void add_trouble(const struct hw_nats *nats, struct hw_error *err)
{
    if (err != NULL && err->status == HW_ETIMEOUT && nats->trouble[0] != '\0') {
        struct hw_error before = *err;

        hw_fail(err, before.status, "%s (the server also said: %s)", before.message, nats->trouble);
    }
}

/* ---- publishes in flight ---- */

static size_t flight_home(const struct hw_nats *nats, const natsMsg *msg)
{
    return (size_t)(((uintptr_t)msg >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & nats->flight_mask;
}

static void add_flight(struct hw_nats *nats, struct flight flight)
{
    size_t place = flight_home(nats, flight.msg);

    while (nats->flights[place].msg != NULL)
        place = (place + 1) & nats->flight_mask;
    nats->flights[place] = flight;
    nats->in_flight++;
}

static bool take_flight(struct hw_nats *nats, const natsMsg *msg, struct flight *flight)
{
    size_t place = flight_home(nats, msg);
    size_t hole;

    while (nats->flights[place].msg != msg) {
        if (nats->flights[place].msg == NULL)
            return false;
        place = (place + 1) & nats->flight_mask;
    }
    *flight = nats->flights[place];
    nats->in_flight--;
    /* Close the gap: move back whatever is further from its home than the hole is. */
    hole = place;
    for (;;) {
        place = (place + 1) & nats->flight_mask;
        if (nats->flights[place].msg == NULL)
            break;
        const size_t home = flight_home(nats, nats->flights[place].msg);
        if (((place - home) & nats->flight_mask) >= ((place - hole) & nats->flight_mask)) {
            nats->flights[hole] = nats->flights[place];
            hole = place;
        }
    }
    nats->flights[hole] = (struct flight){0};
    return true;
}

static void land(struct hw_nats *nats, const struct mail *mail)
{
    struct flight flight;
    struct hw_ack ack = {.seq = mail->seq};

    if (!take_flight(nats, mail->msg, &flight))
        return;
    if (mail->s != NATS_OK) {
        const char *subject = natsMsg_GetSubject(mail->msg);

        ack.status = hw_nats_fail(&ack.err, mail->s, mail->code, "publishing to %s", subject);
        if (mail->text[0] != '\0' && mail->code != 0)
            hw_fail(&ack.err, ack.status, "publishing to %s: %s (JetStream error %d)", subject,
                    mail->text, (int)mail->code);
        add_trouble(nats, &ack.err);
    }
    flight.done(flight.arg, &ack);
}

/* The connection is gone for good: nothing in flight will ever be answered. */
static void crash_flights(struct hw_nats *nats, enum hw_status status)
{
    struct flight *flights = nats->flights;
    const size_t count = nats->flight_mask + 1;
    struct hw_ack ack = {.status = status};

    hw_fail(&ack.err, status, "the connection to NATS was closed before an acknowledgement");
    nats->flights = hw_alloc(count * sizeof(*flights));
    nats->in_flight = 0;
    for (size_t i = 0; i < count; i++)
        if (flights[i].msg != NULL)
            flights[i].done(flights[i].arg, &ack);
    free(flights);
}

/* ---- reading mail, on the loop ---- */

static struct hw_nats_sub *find_sub(struct hw_nats *nats, uint64_t id)
{
    struct hw_nats_sub *sub = nats->subs;

    while (sub != NULL && sub->id != id)
        sub = sub->next;
    return sub;
}

static void tell_away(struct hw_nats *nats, const char *why)
{
    const int64_t now = hw_loop_now();
    const struct hw_nats_away away = {
        .url = nats->shown, .why = nats->why, .for_ms = hw_outage_age(&nats->outage, now)};

    snprintf(nats->why, sizeof(nats->why), "%s", why);
    nats->untold = false;
    if (hw_outage_goes_on(&nats->outage, why, now))
        nats->events.away(nats->events.arg, &away);
}

static void on_probed(void *arg)
{
    post(arg, &(struct mail){.kind = MAIL_PROBED});
}

static void find_out(void *arg)
{
    struct hw_nats *nats = arg;

    if (!nats->up && nats->events.away != NULL && nats->probe == NULL)
        nats->probe = hw_nats_probe_start(nats->url, &nats->files, on_probed, nats->box);
}

static void find_out_soon(struct hw_nats *nats)
{
    hw_timer_start(nats->loop, &nats->find_out,
                   nats->many ? arc4random_uniform(PROBE_WITHIN_MS) : 0, find_out, nats);
}

/* The servers were looked at. What is right with them is as telling: then it is us. */
static void take_findings(struct hw_nats *nats)
{
    struct hw_nats_probe *const probe = HW_TAKE(nats->probe);
    const char *found = hw_nats_probe_why(probe);
    HW_AUTO_FREE char *lost =
        nats->lost[0] != '\0' ? hw_sprintf("the connection was lost (%s); ", nats->lost) : NULL;
    HW_AUTO_FREE char *well = hw_sprintf(
        "%sa NATS server answers there, and is connected to again and again%s%s",
        lost != NULL ? lost : "", nats->trouble[0] != '\0' ? "; it said: " : "", nats->trouble);

    if (*found == '\0')
        found = nats->away == NATS_CONNECTION_AUTH_FAILED || nats->away == NATS_NOT_PERMITTED
                    ? "the server refuses this client (authorization): look at --nats-creds or "
                      "--nats-nkey, or user and password in the URL, and at the users in the "
                      "server's configuration"
                    : well;
    if (!nats->up) {
        tell_away(nats, found);
        hw_timer_start(nats->loop, &nats->find_out, PROBE_EVERY_MS, find_out, nats);
    }
    hw_nats_probe_free(probe);
}

/* Once for each cause: a refused client tries again every few seconds. */
static void stay_away(struct hw_nats *nats, natsStatus s)
{
    if (s == NATS_OK)
        s = NATS_NO_SERVER;
    if (nats->up || s == nats->away)
        return;
    nats->away = s;
    if (nats->events.down != NULL)
        nats->events.down(nats->events.arg, natsStatus_GetText(s));
    find_out_soon(nats);
}

static void go_up(struct hw_nats *nats)
{
    /* A loss that was over before its reason was found is told all the same. */
    if (nats->untold && nats->events.away != NULL)
        tell_away(nats, nats->lost);
    nats->was_away = 0;
    (void)hw_outage_ends(&nats->outage, hw_loop_now(), &nats->was_away);
    hw_timer_stop(&nats->find_out);
    nats->untold = false;
    nats->why[0] = nats->lost[0] = '\0';
    nats->up = true;
    nats->away = NATS_OK;
    nats->trouble[0] = '\0';
    if (nats->events.up != NULL)
        nats->events.up(nats->events.arg);
    for (struct hw_nats_listener *l = nats->listeners, *next; l != NULL; l = next) {
        next = l->next;
        if (l->up != NULL)
            l->up(l->arg);
    }
}

static void go_down(struct hw_nats *nats, const char *why)
{
    if (!nats->up)
        return;
    nats->up = false;
    nats->untold = true;
    snprintf(nats->lost, sizeof(nats->lost), "%s", why);
    if (nats->events.down != NULL)
        nats->events.down(nats->events.arg, why);
    find_out_soon(nats);
}

static void reopen(void *arg);

static void reopen_within(struct hw_nats *nats, int64_t ms)
{
    hw_timer_start(nats->loop, &nats->reopen, arc4random_uniform((uint32_t)ms), reopen, nats);
}

static void reopen(void *arg)
{
    struct hw_nats *nats = arg;
    struct hw_error err;

    if (open_connection(nats, &err) != HW_OK)
        reopen_within(nats, REOPEN_MS);
}

static int64_t clock_ahead(void)
{
    return hw_clock_now() / 1000000 - hw_loop_now();
}

/*
 * libnats waits by the time of day: set back by a day, it would go on waiting for the next try to
 * connect, or the next ping, for a day. A connection that is made anew begins its waits anew.
 */
static void look_at_clock(void *arg)
{
    struct hw_nats *nats = arg;
    const int64_t ahead = clock_ahead();

    if (ahead < nats->clock_ahead - CLOCK_SLACK_MS && nats->nc != NULL)
        natsConnection_Close(nats->nc); /* the rest follows when that is told */
    nats->clock_ahead = ahead;
    hw_timer_start(nats->loop, &nats->clock_timer, CLOCK_MS, look_at_clock, nats);
}

/*
 * libnats' reading thread looks a subscription up, lets go of the connection's lock, and then takes
 * the subscription's (seen with 3.4.1; mended in 3.6): one that is freed in between crashes it. So
 * it is taken out of the connection first, and freed when no thread can still be on its way to it.
 */
static void free_leaving(struct hw_nats *nats, int64_t now)
{
    while (nats->leaving != NULL && nats->leaving->due <= now) {
        struct leaving *leaving = nats->leaving;

        nats->leaving = leaving->next;
        natsSubscription_Destroy(leaving->sub);
        free(leaving);
    }
    if (nats->leaving == NULL)
        nats->leaving_end = &nats->leaving;
}

static void on_leaving_timer(void *arg)
{
    struct hw_nats *nats = arg;

    free_leaving(nats, hw_loop_now());
    if (nats->leaving != NULL)
        hw_timer_start(nats->loop, &nats->leaving_timer, LEAVING_MS, on_leaving_timer, nats);
}

static void leave(struct hw_nats *nats, natsSubscription *sub)
{
    struct leaving *leaving = hw_alloc(sizeof(*leaving));

    /* Where it fails there is no connection that anything could arrive by. */
    (void)natsSubscription_Unsubscribe(sub);
    *leaving = (struct leaving){.sub = sub, .due = hw_loop_now() + LEAVING_MS};
    *nats->leaving_end = leaving;
    nats->leaving_end = &leaving->next;
    if (!hw_timer_running(&nats->leaving_timer))
        hw_timer_start(nats->loop, &nats->leaving_timer, LEAVING_MS, on_leaving_timer, nats);
}

static void close_connection(struct hw_nats *nats)
{
    /* Its threads have ended when this returns. */
    if (nats->nc != NULL)
        natsConnection_Close(nats->nc);
    for (struct hw_nats_sub *sub = nats->subs; sub != NULL; sub = sub->next) {
        natsSubscription_Destroy(sub->sub);
        sub->sub = NULL;
    }
    natsSubscription_Destroy(nats->answers);
    nats->answers = NULL;
    free_leaving(nats, INT64_MAX);
    jsCtx_Destroy(nats->js);
    nats->js = NULL;
    natsConnection_Destroy(nats->nc);
    nats->nc = NULL;
}

static void on_trouble(struct hw_nats *nats, const struct mail *mail)
{
    snprintf(nats->trouble, sizeof(nats->trouble), "%s",
             mail->text[0] != '\0' ? mail->text : natsStatus_GetText(mail->s));
    if (mail->s != NATS_SLOW_CONSUMER)
        return;
    for (struct hw_nats_listener *l = nats->listeners, *next; l != NULL; l = next) {
        next = l->next;
        if (l->trouble != NULL)
            l->trouble(l->arg);
    }
}

static void deliver(struct hw_nats *nats, const struct mail *mail)
{
    struct hw_nats_sub *sub;

    switch (mail->kind) {
    case MAIL_UP:
        go_up(nats);
        break;
    case MAIL_AWAY:
        stay_away(nats, mail->s);
        break;
    case MAIL_DOWN:
        go_down(nats, mail->s != NATS_OK ? natsStatus_GetText(mail->s) : "connection lost");
        break;
    case MAIL_CLOSED:
        go_down(nats, "closed");
        close_connection(nats);
        crash_flights(nats, HW_EUNAVAIL);
        reopen_within(nats, REOPEN_MS);
        break;
    case MAIL_PROBED:
        take_findings(nats);
        break;
    case MAIL_TROUBLE:
        on_trouble(nats, mail);
        break;
    case MAIL_MESSAGE:
        sub = find_sub(nats, mail->sub);
        if (sub != NULL)
            sub->fn(sub->arg, mail->msg);
        break;
    case MAIL_ACK:
        land(nats, mail);
        break;
    }
}

static void read_mail(void *arg)
{
    struct mailbox *box = arg;
    struct mail *mails;
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

    /* box->nats changes on this thread alone. */
    for (size_t i = 0; i < count && box->nats != NULL; i++)
        deliver(box->nats, &mails[i]);
    /* All at once: each wakes a thread of libnats', which frees it, unless that is awake. */
    for (size_t i = 0; i < count; i++)
        natsMsg_Destroy(mails[i].msg);

    pthread_mutex_lock(&box->lock);
    if (box->nats != NULL && box->spare == NULL) {
        box->spare = mails;
        box->spare_cap = cap;
        mails = NULL;
    }
    pthread_mutex_unlock(&box->lock);
    free(mails);
}

/* ---- opening and closing ---- */

static natsStatus set_servers(natsOptions *options, const char *url)
{
    HW_AUTO_FREE char *copy = hw_strdup(url);
    const char *servers[16];
    int count = 0;
    char *save = NULL;

    for (char *s = strtok_r(copy, ", ", &save); s != NULL && count < (int)HW_COUNT(servers);
         s = strtok_r(NULL, ", ", &save))
        servers[count++] = s;
    return natsOptions_SetServers(options, servers, count);
}

static bool is_given(const char *path)
{
    return path != NULL && *path != '\0';
}

const char *hw_nats_exposed(const struct hw_nats_files *files)
{
    const char *const secrets[] = {files->key, files->creds, files->nkey};
    struct stat st;

    for (size_t i = 0; i < HW_COUNT(secrets); i++)
        if (is_given(secrets[i]) && stat(secrets[i], &st) == 0 && (st.st_mode & S_IROTH) != 0)
            return secrets[i];
    return NULL;
}

static enum hw_status tls_failed(struct hw_error *err, const char *option, const char *path)
{
    return hw_fail(err, HW_EINVAL,
                   "%s %s cannot be used: it must be PEM, and a key that of its "
                   "certificate",
                   option, path);
}

static enum hw_status check_files(const struct hw_nats_files *files, struct hw_error *err)
{
    const struct {
        const char *option, *path;
    } all[] = {{"--nats-ca", files->ca},
               {"--nats-cert", files->cert},
               {"--nats-key", files->key},
               {"--nats-creds", files->creds},
               {"--nats-nkey", files->nkey}};

    for (size_t i = 0; i < HW_COUNT(all); i++)
        if (is_given(all[i].path) && access(all[i].path, R_OK) != 0) {
            hw_fail_errno(err, "%s: reading %s", all[i].option, all[i].path);
            return err->status;
        }
    if (is_given(files->cert) != is_given(files->key))
        return hw_fail(err, HW_EINVAL, "--nats-cert and --nats-key need each other");
    if (is_given(files->creds) && is_given(files->nkey))
        return hw_fail(err, HW_EINVAL, "--nats-creds and --nats-nkey: only one of them can be");
    return HW_OK;
}

/*
 * libnats adds the system's authorities to its TLS context, and has no way to leave them out. So
 * the context is got hold of when OpenSSL makes it, and the store in it replaced: whoever names the
 * authorities means those and no others.
 */
static _Thread_local struct {
    bool wanted;
    SSL_CTX *context;
} made;

static void on_context_made(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long number,
                            void *arg)
{
    (void)value;
    (void)data;
    (void)index;
    (void)number;
    (void)arg;
    if (made.wanted)
        made.context = parent;
}

static bool set_secure(natsOptions *o, bool own_authorities)
{
    X509_STORE *store;
    int index;

    if (!own_authorities)
        return natsOptions_SetSecure(o, true) == NATS_OK;
    index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, NULL, on_context_made, NULL, NULL);
    made.context = NULL;
    made.wanted = true;
    const natsStatus s = natsOptions_SetSecure(o, true);
    made.wanted = false;
    CRYPTO_free_ex_index(CRYPTO_EX_INDEX_SSL_CTX, index);
    store = X509_STORE_new();
    if (s != NATS_OK || made.context == NULL || store == NULL) {
        X509_STORE_free(store);
        return false;
    }
    SSL_CTX_set_cert_store(made.context, store);
    malloc_trim(0); /* the system has many */
    return true;
}

/* TLS and who this client is. */
static enum hw_status set_files(struct hw_nats *nats, const struct hw_nats_options *wish,
                                struct hw_error *err)
{
    const struct hw_nats_files *const files = &wish->files;
    natsOptions *const o = nats->options;
    char public_key[HW_NKEY_PUBLIC_MAX];
    enum hw_status status = check_files(files, err);
    natsStatus s = NATS_OK;

    if (status != HW_OK)
        return status;
    const bool tls =
        is_given(files->ca) || is_given(files->cert) || strstr(wish->url, "tls://") != NULL;
    if (tls && !set_secure(o, is_given(files->ca)))
        return hw_fail(err, HW_EIO, "TLS cannot be set up");
    if (is_given(files->ca) && natsOptions_LoadCATrustedCertificates(o, files->ca) != NATS_OK)
        return tls_failed(err, "--nats-ca", files->ca);
    if (is_given(files->cert) &&
        natsOptions_LoadCertificatesChain(o, files->cert, files->key) != NATS_OK)
        return tls_failed(err, "--nats-cert", files->cert);
    if (is_given(files->creds))
        s = natsOptions_SetUserCredentialsFromFiles(o, files->creds, NULL);
    if (is_given(files->nkey)) {
        status = hw_nkey_public_of_file(files->nkey, public_key, err);
        if (status != HW_OK)
            return hw_fail_in(err, "--nats-nkey");
        s = natsOptions_SetNKeyFromSeed(o, public_key, files->nkey);
    }
    return s == NATS_OK ? HW_OK : hw_nats_fail(err, s, 0, "setting NATS credentials");
}

/* Called on a thread of libnats; attempts counts from 1. */
static int64_t reconnect_delay(natsConnection *nc, int attempts, void *closure)
{
    const int64_t limit = (int64_t)(intptr_t)closure;
    const int64_t grown = (int64_t)250 << (attempts < 16 ? attempts : 16);
    const int64_t delay = grown < limit ? grown : limit;

    (void)nc;
    return delay / 2 + (int64_t)arc4random_uniform((uint32_t)(delay / 2 + 1));
}

static enum hw_status make_options(struct hw_nats *nats, const struct hw_nats_options *wish,
                                   struct hw_error *err)
{
    natsOptions *o = NULL;
    natsStatus s = natsOptions_Create(&o);

    nats->options = o;
    if (s == NATS_OK)
        s = set_servers(o, wish->url);
    if (s != NATS_OK)
        return hw_fail(err, HW_EINVAL,
                       "the NATS URL cannot be used: it must look like nats://host:4222");
    if (s == NATS_OK && wish->name != NULL)
        s = natsOptions_SetName(o, wish->name);
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(o, nats->timeout_ms);
    if (s == NATS_OK)
        s = natsOptions_SetWriteDeadline(o, nats->timeout_ms);
    if (s == NATS_OK)
        s = natsOptions_SetSendAsap(o, true); /* otherwise up to 1 ms is added */
    if (s == NATS_OK)
        s = natsOptions_SetMaxReconnect(o, -1);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectWait(o, 250);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectJitter(o, 250, 250);
    if (s == NATS_OK && wish->reconnect_ms > 0)
        s = natsOptions_SetCustomReconnectDelay(o, reconnect_delay,
                                                (void *)(intptr_t)wish->reconnect_ms);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectBufSize(o, 0); /* nothing is sent late */
    if (s == NATS_OK)
        s = natsOptions_SetFailRequestsOnDisconnect(o, true);
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(o, 10000);
    if (s == NATS_OK)
        s = natsOptions_SetRetryOnFailedConnect(o, true, on_connected, nats->box);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectedCB(o, on_connected, nats->box);
    if (s == NATS_OK)
        s = natsOptions_SetDisconnectedCB(o, on_disconnected, nats->box);
    if (s == NATS_OK)
        s = natsOptions_SetClosedCB(o, on_closed, nats->box);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(o, on_error, nats->box);
    if (s != NATS_OK)
        return hw_nats_fail(err, s, 0, "setting NATS options");
    return set_files(nats, wish, err);
}

static enum hw_status subscribe(struct hw_nats_sub *sub, struct hw_error *err);

static enum hw_status open_connection(struct hw_nats *nats, struct hw_error *err)
{
    jsOptions js_options;
    natsStatus s;

    s = natsConnection_Connect(&nats->nc, nats->options);
    const bool connected = s == NATS_OK;
    const char *text = NULL;
    if (s != NATS_OK && s != NATS_NOT_YET_CONNECTED) {
        nats->nc = NULL;
        return hw_nats_fail(err, s, 0, "connecting to NATS");
    }
    jsOptions_Init(&js_options);
    js_options.Wait = nats->timeout_ms;
    js_options.Prefix = nats->prefix;
    js_options.PublishAsync.MaxPending = nats->max_pending;
    js_options.PublishAsync.AckHandler = on_ack;
    js_options.PublishAsync.AckHandlerClosure = nats->box;
    s = natsConnection_JetStream(&nats->js, nats->nc, &js_options);
    if (s != NATS_OK) {
        close_connection(nats);
        return hw_nats_fail(err, s, 0, "setting up JetStream");
    }
    for (struct hw_nats_sub *sub = nats->subs; sub != NULL; sub = sub->next) {
        if (subscribe(sub, err) != HW_OK) {
            close_connection(nats);
            return err->status;
        }
    }
    /* An attempt that succeeds later is told by on_connected; one that fails, by nobody else. */
    post(nats->box, &(struct mail){.kind = connected ? MAIL_UP : MAIL_AWAY,
                                   .s = natsConnection_GetLastError(nats->nc, &text)});
    return HW_OK;
}

static struct mailbox *new_mailbox(struct hw_nats *nats)
{
    struct mailbox *box = hw_alloc(sizeof(*box));

    pthread_mutex_init(&box->lock, NULL);
    pthread_cond_init(&box->drained, NULL);
    pthread_cond_init(&box->answered, NULL);
    box->nats = nats;
    pthread_mutex_lock(&all_mailboxes_lock);
    box->next = all_mailboxes;
    all_mailboxes = box;
    pthread_mutex_unlock(&all_mailboxes_lock);
    return box;
}

/*
 * libnats frees messages on a thread of its own, which it wakes for each one: woken in front of
 * whoever is at work, that thread took a fifth of the time in which many are published. Threads
 * have the scheduling policy of the one that makes them, and with that of batch work waking them
 * takes nobody's processor away. Where that is not allowed, or this thread is a real-time one of
 * the host program's, they are as they always were.
 */
static void open_library(void)
{
    const struct sched_param none = {0};
    const bool quiet =
        sched_getscheduler(0) == SCHED_OTHER && sched_setscheduler(0, SCHED_BATCH, &none) == 0;

    (void)nats_Open(-1); /* what is wrong with it, connecting tells */
    if (quiet)
        (void)sched_setscheduler(0, SCHED_OTHER, &none);
}

static void keep_files(struct hw_nats *nats, const struct hw_nats_files *files)
{
    nats->files = (struct hw_nats_files){
        .ca = is_given(files->ca) ? hw_strdup(files->ca) : NULL,
        .cert = is_given(files->cert) ? hw_strdup(files->cert) : NULL,
        .key = is_given(files->key) ? hw_strdup(files->key) : NULL,
    };
}

static void free_text(const char *text)
{
    free((void *)(uintptr_t)text);
}

enum hw_status hw_nats_open(struct hw_loop *loop, const struct hw_nats_options *options,
                            const struct hw_nats_events *events, struct hw_nats **out,
                            struct hw_error *err)
{
    struct hw_nats *nats = hw_alloc(sizeof(*nats));
    enum hw_status status;
    static pthread_once_t opened = PTHREAD_ONCE_INIT;
    size_t places = 64;

    pthread_once(&opened, open_library);
    nats->loop = loop;
    nats->url = hw_strdup(options->url);
    nats->shown = hw_nats_url_shown(options->url);
    keep_files(nats, &options->files);
    nats->many = options->reconnect_ms > 0;
    nats->leaving_end = &nats->leaving;
    nats->events = *events;
    nats->timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : TIMEOUT_MS;
    nats->max_pending = options->max_pending > 0 ? options->max_pending : MAX_PENDING;
    while (places < 2 * (size_t)nats->max_pending)
        places *= 2;
    nats->flight_mask = places - 1;
    nats->flights = hw_alloc(places * sizeof(*nats->flights));
    nats->box = new_mailbox(nats);
    if (natsInbox_Create(&nats->inbox) != NATS_OK)
        abort(); /* out of memory */
    if (is_given(options->prefix))
        nats->prefix = hw_strdup(options->prefix);
    status = make_options(nats, options, err);
    if (status == HW_OK && options->first_ms > 0)
        reopen_within(nats, options->first_ms);
    else if (status == HW_OK)
        status = open_connection(nats, err);
    nats->clock_ahead = clock_ahead();
    hw_timer_start(loop, &nats->clock_timer, CLOCK_MS, look_at_clock, nats);
    if (status != HW_OK) {
        hw_nats_close(nats);
        return status;
    }
    *out = nats;
    return HW_OK;
}

void hw_nats_close(struct hw_nats *nats)
{
    struct mailbox *box;

    if (nats == NULL)
        return;
    box = nats->box;
    hw_timer_stop(&nats->reopen);
    hw_timer_stop(&nats->clock_timer);
    hw_timer_stop(&nats->leaving_timer);
    hw_timer_stop(&nats->find_out);
    hw_nats_probe_free(HW_TAKE(nats->probe));

    pthread_mutex_lock(&box->lock);
    box->nats = NULL;
    pthread_cond_broadcast(&box->drained);
    for (size_t i = 0; i < box->count; i++)
        natsMsg_Destroy(box->mails[i].msg);
    free(box->mails);
    free(box->spare);
    box->mails = box->spare = NULL;
    box->count = box->cap = box->spare_cap = 0;
    pthread_mutex_unlock(&box->lock);

    nats->up = false;
    close_connection(nats);
    crash_flights(nats, HW_ESTOPPED);
    while (nats->subs != NULL)
        hw_nats_unsubscribe(nats->subs);
    natsOptions_Destroy(nats->options);
    natsInbox_Destroy(nats->inbox);
    free(nats->url);
    free(nats->shown);
    free_text(nats->files.ca);
    free_text(nats->files.cert);
    free_text(nats->files.key);
    free(nats->flights);
    free(nats->prefix);
    free(nats);
}

/* ---- looking ---- */

bool hw_nats_up(const struct hw_nats *nats)
{
    return nats->up;
}

const char *hw_nats_why_away(const struct hw_nats *nats)
{
    return nats->why;
}

const char *hw_nats_url(const struct hw_nats *nats)
{
    return nats->shown;
}

int64_t hw_nats_was_away(const struct hw_nats *nats)
{
    return nats->was_away;
}

const char *hw_nats_last_trouble(const struct hw_nats *nats)
{
    return nats->trouble;
}

jsCtx *hw_nats_js(struct hw_nats *nats)
{
    return nats->js;
}

natsConnection *hw_nats_connection(struct hw_nats *nats)
{
    return nats->nc;
}

struct hw_loop *hw_nats_loop(struct hw_nats *nats)
{
    return nats->loop;
}

size_t hw_nats_max_payload(const struct hw_nats *nats)
{
    const int64_t most = nats->up ? natsConnection_GetMaxPayload(nats->nc) : 0;

    return most > 0 ? (size_t)most : 1 << 20;
}

size_t hw_nats_in_flight(const struct hw_nats *nats)
{
    return nats->in_flight;
}

void hw_nats_listen(struct hw_nats *nats, struct hw_nats_listener *listener)
{
    listener->next = nats->listeners;
    nats->listeners = listener;
}

void hw_nats_unlisten(struct hw_nats *nats, struct hw_nats_listener *listener)
{
    for (struct hw_nats_listener **p = &nats->listeners; *p != NULL; p = &(*p)->next) {
        if (*p == listener) {
            *p = listener->next;
            return;
        }
    }
}

static enum hw_status need_up(const struct hw_nats *nats, struct hw_error *err)
{
    if (nats->up && nats->nc != NULL)
        return HW_OK;
    return hw_fail(err, HW_EUNAVAIL, "NATS cannot be reached now");
}

/* ---- subscriptions ---- */

static struct sub_box *new_sub_box(const struct hw_nats_sub *sub)
{
    struct sub_box *sb = hw_alloc(sizeof(*sb));

    *sb = (struct sub_box){.box = sub->nats->box, .id = sub->id};
    return sb;
}

static struct hw_nats_sub *add_sub(struct hw_nats *nats, hw_nats_msg_fn *fn, void *arg)
{
    struct hw_nats_sub *sub = hw_alloc(sizeof(*sub));

    *sub = (struct hw_nats_sub){
        .nats = nats, .id = ++nats->next_sub, .fn = fn, .arg = arg, .next = nats->subs};
    nats->subs = sub;
    return sub;
}

static enum hw_status subscribe(struct hw_nats_sub *sub, struct hw_error *err)
{
    struct sub_box *sb = new_sub_box(sub);
    natsStatus s = natsConnection_Subscribe(&sub->sub, sub->nats->nc, sub->subject, on_message, sb);

    if (s != NATS_OK) {
        free(sb);
        return hw_nats_fail(err, s, 0, "subscribing to %s", sub->subject);
    }
    s = natsSubscription_SetOnCompleteCB(sub->sub, free, sb);
    return s == NATS_OK ? HW_OK : hw_nats_fail(err, s, 0, "subscribing to %s", sub->subject);
}

enum hw_status hw_nats_subscribe(struct hw_nats *nats, const char *subject, hw_nats_msg_fn *fn,
                                 void *arg, struct hw_nats_sub **out, struct hw_error *err)
{
    struct hw_nats_sub *sub = add_sub(nats, fn, arg);

    sub->subject = hw_strdup(subject);
    /* Without a connection, the next one brings it. */
    if (nats->nc != NULL) {
        const enum hw_status status = subscribe(sub, err);

        if (status != HW_OK) {
            hw_nats_unsubscribe(sub);
            return status;
        }
    }
    *out = sub;
    return HW_OK;
}

void hw_nats_unsubscribe(struct hw_nats_sub *sub)
{
    if (sub == NULL)
        return;
    for (struct hw_nats_sub **p = &sub->nats->subs; *p != NULL; p = &(*p)->next) {
        if (*p == sub) {
            *p = sub->next;
            break;
        }
    }
    if (sub->sub != NULL)
        leave(sub->nats, sub->sub);
    free(sub->subject);
    free(sub);
}

void hw_nats_signal(struct hw_nats *nats, const char *subject)
{
    if (need_up(nats, NULL) == HW_OK)
        (void)natsConnection_Publish(nats->nc, subject, NULL, 0);
}

bool hw_nats_has_mail(const struct hw_nats *nats)
{
    pthread_mutex_lock(&nats->box->lock);
    const bool has = nats->box->count > 0;
    pthread_mutex_unlock(&nats->box->lock);
    return has;
}

/* ---- questions ---- */

/* On a thread of libnats'. What is not waited for any more came too late. */
static void on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct mailbox *box = closure;
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    const uint64_t number = dot != NULL ? strtoull(dot + 1, NULL, 10) : 0;

    (void)nc;
    (void)sub;
    pthread_mutex_lock(&box->lock);
    if (number != 0 && box->question == number)
        end_question(box, HW_TAKE(msg));
    pthread_mutex_unlock(&box->lock);
    natsMsg_Destroy(msg);
}

static natsStatus listen_for_answers(struct hw_nats *nats)
{
    if (nats->answers != NULL)
        return NATS_OK;
    HW_AUTO_FREE char *all = hw_sprintf("%s.*", nats->inbox);

    return natsConnection_Subscribe(&nats->answers, nats->nc, all, on_answer, nats->box);
}

/* The answer to the question, or NULL when none came in time, or the connection went. */
static natsMsg *wait_for_answer(struct hw_nats *nats, uint64_t number)
{
    struct mailbox *const box = nats->box;
    const int64_t until = hw_loop_now() + nats->timeout_ms;
    const struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

    pthread_mutex_lock(&box->lock);
    while (box->question == number &&
           pthread_cond_clockwait(&box->answered, &box->lock, CLOCK_MONOTONIC, &at) == 0)
        ;
    natsMsg *answer = HW_TAKE(box->answer);
    box->question = 0;
    pthread_mutex_unlock(&box->lock);
    return answer;
}

enum hw_status hw_nats_request(struct hw_nats *nats, const char *subject, const void *data,
                               size_t size, natsMsg **answer, struct hw_error *err)
{
    static const char api[] = "$JS.API.";
    const bool mapped = nats->prefix != NULL && strncmp(subject, api, sizeof(api) - 1) == 0;
    natsStatus s;

    if (need_up(nats, err) != HW_OK)
        return HW_EUNAVAIL;
    HW_AUTO_FREE char *to =
        mapped ? hw_sprintf("%s.%s", nats->prefix, subject + sizeof(api) - 1) : hw_strdup(subject);
    const uint64_t number = ++nats->questions;
    HW_AUTO_FREE char *reply = hw_sprintf("%s.%" PRIu64, nats->inbox, number);

    pthread_mutex_lock(&nats->box->lock);
    nats->box->question = number;
    pthread_mutex_unlock(&nats->box->lock);
    s = listen_for_answers(nats);
    if (s == NATS_OK)
        s = natsConnection_PublishRequest(nats->nc, to, reply, data, (int)size);
    *answer = s == NATS_OK ? wait_for_answer(nats, number) : NULL;
    if (*answer != NULL)
        return HW_OK;
    if (s == NATS_OK)
        s = natsConnection_Status(nats->nc) == NATS_CONN_STATUS_CONNECTED
                ? NATS_TIMEOUT
                : NATS_CONNECTION_DISCONNECTED;
    const enum hw_status status = hw_nats_fail(err, s, 0, "asking NATS");
    add_trouble(nats, err);
    return status;
}

/* ---- JetStream ---- */

static void set_expectation(jsPubOptions *options, uint64_t expected_seq)
{
    if (expected_seq == HW_SEQ_NONE)
        options->ExpectNoMessage = true; /* sequence 0 would send nothing */
    else if (expected_seq != HW_SEQ_ANY)
        options->ExpectLastSubjectSeq = expected_seq;
}

/* The message as it is sent: with the prefix, where there is one. Takes msg. */
static natsMsg *readdress(const struct hw_nats *nats, natsMsg *msg)
{
    const char **names = NULL, *value;
    natsMsg *sent = NULL;
    int count = 0;

    if (nats->prefix == NULL || strncmp(natsMsg_GetSubject(msg), "$KV.", 4) != 0)
        return msg;
    HW_AUTO_FREE char *subject = hw_sprintf("%s.%s", nats->prefix, natsMsg_GetSubject(msg));
    natsStatus s =
        natsMsg_Create(&sent, subject, NULL, natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
    if (s == NATS_OK && natsMsgHeader_Keys(msg, &names, &count) == NATS_OK)
        for (int i = 0; i < count && s == NATS_OK; i++)
            if (natsMsgHeader_Get(msg, names[i], &value) == NATS_OK)
                s = natsMsgHeader_Set(sent, names[i], value);
    if (s != NATS_OK)
        abort(); /* out of memory */
    free(names);
    natsMsg_Destroy(msg);
    return sent;
}

enum hw_status hw_nats_publish(struct hw_nats *nats, natsMsg *msg, uint64_t expected_seq,
                               hw_ack_fn *done, void *arg, struct hw_error *err)
{
    enum hw_status status = need_up(nats, err);
    jsPubOptions options;
    struct flight flight;
    natsStatus s;

    msg = readdress(nats, msg);
    const natsMsg *const identity = msg;
    if (status == HW_OK && nats->in_flight >= (size_t)nats->max_pending)
        status = hw_fail(err, HW_EUNAVAIL, "%d publishes are waiting for NATS already",
                         nats->max_pending);
    if (status != HW_OK) {
        natsMsg_Destroy(msg);
        return status;
    }
    jsPubOptions_Init(&options);
    options.MaxWait = ACK_TIMEOUT_MS;
    set_expectation(&options, expected_seq);
    add_flight(nats, (struct flight){.msg = identity, .done = done, .arg = arg});
    s = js_PublishMsgAsync(nats->js, &msg, &options);
    if (s != NATS_OK) {
        take_flight(nats, identity, &flight);
        status = hw_nats_fail(err, s, 0, "publishing to %s", natsMsg_GetSubject(msg));
        natsMsg_Destroy(msg);
    }
    return status;
}

enum hw_status hw_nats_publish_wait(struct hw_nats *nats, natsMsg *msg, uint64_t expected_seq,
                                    uint64_t *seq, struct hw_error *err)
{
    enum hw_status status = need_up(nats, err);

    msg = readdress(nats, msg);
    jsPubAck *ack = NULL;
    jsErrCode code = 0;
    jsPubOptions options;
    natsStatus s;

    if (status != HW_OK)
        goto out;
    jsPubOptions_Init(&options);
    set_expectation(&options, expected_seq);
    s = js_PublishMsg(&ack, nats->js, msg, &options, &code);
    if (s != NATS_OK) {
        status = hw_nats_fail(err, s, code, "publishing to %s", natsMsg_GetSubject(msg));
        add_trouble(nats, err);
        goto out;
    }
    if (seq != NULL)
        *seq = ack->Sequence;
    jsPubAck_Destroy(ack);
out:
    natsMsg_Destroy(msg);
    return status;
}
