#include "nats/connection.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/certificate.h"
#include "base/memory.h"
#include "common/backoff.h"
#include "common/clock.h"
#include "common/outage.h"
#include "nats/mailbox.h"
#include "nats/probe.h"
#include "nats/url.h"

enum {
    TIMEOUT_MS = 2000,
    ACK_TIMEOUT_MS = 5000,
    MAX_PENDING = 4096,
    RECONNECT_FIRST_MS =
        500, /* the first pause after a failure, and where nobody asks for others … */
    REOPEN_MOST_MS = 2000,  /* … the longest, when libnats has given a connection up */
    CLOCK_MS = 10000,       /* between two looks at the clock */
    CLOCK_SLACK_MS = 1000,  /* by how much the clock may be set back without consequence */
    PROBE_EVERY_MS = 20000, /* between two probes of an outage; a third of HW_OUTAGE_AGAIN_MS */
    UNREAD_MS = 60000,
    PROBE_WITHIN_MS = 1000, /* where many clients share a server, they probe it spread over this */
};

struct hw_nats {
    struct hw_loop *loop;
    struct hw_mailbox *box;
    struct hw_nats_events events;
    struct hw_nats_listener *listeners;
    natsOptions *options;   /* as the files were when they were read last … */
    struct hw_digest read;  /* … with these bytes */
    struct hw_digest unfit; /* bytes that could not be used, as the owner was told */
    const char *closing;    /* why we close the connection; NULL: we do not */
    int64_t looked_ms;      /* when the certificates' ends were looked at; 0: never */
    natsConnection *nc;     /* NULL: none was opened yet, or libnats gave it up */
    jsCtx *js;
    int64_t timeout_ms;
    int max_pending;
    bool up;
    char trouble[160]; /* what the server complained of last, since the connection was up */
    char *prefix;      /* NULL: none */
    natsStatus away;   /* why the last try to connect failed, as the owner was told */
    struct hw_timer reopen;
    int64_t reopen_most_ms;
    int failures; /* connections in a row that closed, or never were, since the last that was up */

    struct hw_subscriptions subs;
    struct hw_flights flights;
    natsInbox *inbox;          /* answers come under "<inbox>.<number of the question>" */
    natsSubscription *answers; /* NULL: nothing was asked by this connection yet */
    uint64_t questions;

    /* Why there is no connection. */
    char *url, *shown, *name;   /* shown: without users and passwords */
    struct hw_nats_files files; /* copies */
    int64_t reconnect_ms;       /* the longest pause of libnats between two attempts */
    int64_t unread_ms;
    bool many; /* clients share the server */
    struct hw_nats_probe *probe;
    struct hw_timer find_out;
    struct hw_outage outage;
    char why[HW_NATS_WHY_MAX], lost[160]; /* lost: what libnats said of the connection's end */
    bool untold;                          /* the connection was lost, and away not called yet */
    int64_t was_away;

    struct hw_timer clock_timer;
    int64_t clock_ahead; /* ms: the time of day, less the monotonic clock */
};

/*
 * ---- why there is no connection ----
 *
 * libnats says "no server" to nearly everything that keeps it from connecting. So, when the
 * connection is lost or does not come about, a probe (probe.h) takes the same way to the server
 * step by step and finds the first one that fails. It is repeated every 20 s while the outage
 * lasts, and the owner is told what was found.
 */

static void take_up_files(struct hw_nats *nats);

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

/* On the thread of the probe. */
static void on_probed(void *arg)
{
    hw_mailbox_post(arg, &(struct hw_mail){.kind = HW_MAIL_PROBED});
}

static void find_out(void *arg)
{
    struct hw_nats *nats = arg;

    if (!nats->up && nats->events.away != NULL && nats->probe == NULL)
        nats->probe = hw_nats_probe_start(nats->url, &nats->files, on_probed, nats->box);
}

static void find_out_soon(struct hw_nats *nats)
{
    hw_timer_start(nats->loop, &nats->find_out, nats->many ? hw_random_ms(PROBE_WITHIN_MS) : 0,
                   find_out, nats);
}

/* Takes what the probe found. Where a server is fine as far as a stranger can see, either it
 * refuses this client, which libnats has told, or it is only coming back. */
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
        take_up_files(nats);
    }
    hw_nats_probe_free(probe);
}

/* ---- up and down ---- */

/* Tells the owner of each cause once: a client that is refused tries again every few seconds. */
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
    /* The owner is told of a loss even when it was over before its reason was found. */
    if (nats->untold && nats->events.away != NULL)
        tell_away(nats, nats->lost);
    nats->was_away = 0;
    (void)hw_outage_ends(&nats->outage, hw_loop_now(), &nats->was_away);
    hw_timer_stop(&nats->find_out);
    nats->untold = false;
    nats->why[0] = nats->lost[0] = '\0';
    nats->up = true;
    nats->away = NATS_OK;
    nats->failures = 0;
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

static void open_connection(void *arg);

/* Whoever is refused would otherwise be refused several times a second. */
static void reopen_later(struct hw_nats *nats)
{
    const int64_t pause =
        hw_backoff_from_ms(RECONNECT_FIRST_MS, ++nats->failures, nats->reopen_most_ms);

    hw_timer_start(nats->loop, &nats->reopen, pause, open_connection, nats);
}

/* HW_MAIL_CLOSED comes of it, and a new connection of that. */
static void make_anew(struct hw_nats *nats, const char *why)
{
    if (nats->nc == NULL)
        return;
    nats->closing = why;
    natsConnection_Close(nats->nc);
}

/* ---- files ---- */

static void tell_files(struct hw_nats *nats, bool warn, const char *what, const char *detail)
{
    if (nats->events.files != NULL)
        nats->events.files(nats->events.arg, warn, what, detail);
}

static void look_at_certificates(struct hw_nats *nats)
{
    char ageing[2 * HW_NATS_WHY_MAX];

    nats->looked_ms = hw_loop_now();
    if (hw_nats_files_ageing(&nats->files, false, ageing, sizeof(ageing)))
        tell_files(nats, true, "a certificate is to be renewed", ageing);
}

static enum hw_status make_options(struct hw_nats *nats, natsOptions **out, struct hw_error *err);

/*
 * libnats reads certificates once, for all connections that it makes with the same options, and
 * OpenSSL does not let them be replaced below another thread. So where a file has changed, the
 * options are made anew, and the connection with them. Files that cannot be used, such as a
 * certificate whose key is still to be written, leave those from before in use.
 */
static bool read_files(struct hw_nats *nats)
{
    natsOptions *options = NULL;
    struct hw_digest now;
    struct hw_error err;

    hw_nats_files_digest(&nats->files, &now);
    if (hw_digest_equal(&now, &nats->read))
        return false;
    if (make_options(nats, &options, &err) != HW_OK) {
        if (!hw_digest_equal(&now, &nats->unfit))
            tell_files(nats, true, "certificates and credentials for NATS cannot be read again",
                       err.message);
        nats->unfit = now;
        return false;
    }
    natsOptions_Destroy(nats->options);
    nats->options = options;
    nats->read = now;
    tell_files(nats, false, "certificates and credentials for NATS were read again", NULL);
    look_at_certificates(nats);
    return true;
}

static void take_up_files(struct hw_nats *nats)
{
    (void)hw_nats_reload(nats);
}

bool hw_nats_reload(struct hw_nats *nats)
{
    if (!read_files(nats))
        return false;
    make_anew(nats, "certificates and credentials were read again");
    return true;
}

/* ---- the clock ---- */

static int64_t clock_ahead(void)
{
    return hw_clock_now() / 1000000 - hw_loop_now();
}

/*
 * libnats waits by the time of day. When the clock is set back by a day, the wait for the next
 * attempt to connect, or for the next ping, becomes longer by a day. A connection that is made anew
 * begins its waits anew, so it is made anew then.
 */
static void look_at_clock(void *arg)
{
    struct hw_nats *nats = arg;
    const int64_t ahead = clock_ahead();

    if (ahead < nats->clock_ahead - CLOCK_SLACK_MS)
        make_anew(nats, "the clock was set back");
    nats->clock_ahead = ahead;
    if (nats->looked_ms == 0 || hw_loop_now() - nats->looked_ms >= HW_CERTIFICATE_LOOK_MS)
        look_at_certificates(nats);
    hw_timer_start(nats->loop, &nats->clock_timer, CLOCK_MS, look_at_clock, nats);
}

static void close_connection(struct hw_nats *nats)
{
    /* When Close returns, the connection's threads have ended. */
    if (nats->nc != NULL)
        natsConnection_Close(nats->nc);
    hw_subscriptions_detach(&nats->subs);
    natsSubscription_Destroy(HW_TAKE(nats->answers));
    jsCtx_Destroy(HW_TAKE(nats->js));
    natsConnection_Destroy(HW_TAKE(nats->nc));
}

static void on_trouble(struct hw_nats *nats, const struct hw_mail *mail)
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

static void on_mail(void *arg, const struct hw_mail *mail)
{
    struct hw_nats *nats = arg;

    if (mail->nc != NULL && mail->nc != nats->nc)
        return; /* of a connection that is gone: what it came to does not concern its successor */
    switch (mail->kind) {
    case HW_MAIL_UP:
        go_up(nats);
        break;
    case HW_MAIL_AWAY:
        stay_away(nats, mail->s);
        break;
    case HW_MAIL_DOWN:
        go_down(nats, mail->s != NATS_OK ? natsStatus_GetText(mail->s) : "connection lost");
        take_up_files(nats);
        break;
    case HW_MAIL_CLOSED:
        go_down(nats, nats->closing != NULL ? nats->closing : "closed");
        nats->closing = NULL;
        close_connection(nats);
        hw_flights_end_all(&nats->flights, HW_EUNAVAIL);
        reopen_later(nats);
        break;
    case HW_MAIL_PROBED:
        take_findings(nats);
        break;
    case HW_MAIL_TROUBLE:
        on_trouble(nats, mail);
        break;
    case HW_MAIL_MESSAGE:
        hw_subscriptions_deliver(&nats->subs, mail->sub, mail->msg);
        break;
    case HW_MAIL_ACK:
        hw_flights_land(&nats->flights, mail, nats->trouble);
        break;
    }
}

/* ---- opening and closing ---- */

static natsStatus set_servers(natsOptions *options, const char *url)
{
    HW_AUTO_FREE char *copy = hw_strdup(url);
    const char *servers[HW_NATS_SERVERS_MAX];
    int count = 0;
    char *save = NULL;

    for (char *s = strtok_r(copy, ", ", &save); s != NULL && count < (int)HW_COUNT(servers);
         s = strtok_r(NULL, ", ", &save))
        servers[count++] = s;
    return natsOptions_SetServers(options, servers, count);
}

/* On a thread of libnats; attempts counts from 1. */
static int64_t reconnect_delay(natsConnection *nc, int attempts, void *closure)
{
    (void)nc;
    return hw_backoff_from_ms(RECONNECT_FIRST_MS, attempts, (int64_t)(intptr_t)closure);
}

static enum hw_status set_options(struct hw_nats *nats, natsOptions *o, struct hw_error *err)
{
    natsStatus s;

    if (hw_nats_url_check(nats->url, err) != HW_OK)
        return hw_fail_in(err, "the NATS URL");
    s = set_servers(o, nats->url);
    if (s != NATS_OK)
        return hw_fail(err, HW_EINVAL,
                       "the NATS URL cannot be used: it must look like nats://host:4222");
    if (s == NATS_OK && nats->name != NULL)
        s = natsOptions_SetName(o, nats->name);
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(o, nats->timeout_ms);
    if (s == NATS_OK)
        s = natsOptions_SetWriteDeadline(o, nats->timeout_ms);
    if (s == NATS_OK)
        s = natsOptions_SetSendAsap(o, true); /* otherwise up to 1 ms is added */
    if (s == NATS_OK)
        s = natsOptions_SetMaxReconnect(o, -1);
    if (s == NATS_OK)
        s = natsOptions_SetCustomReconnectDelay(o, reconnect_delay,
                                                (void *)(intptr_t)nats->reconnect_ms);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectBufSize(o, 0); /* nothing is sent late */
    if (s == NATS_OK)
        s = natsOptions_SetFailRequestsOnDisconnect(o, true);
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(o, 10000);
    if (s == NATS_OK)
        s = hw_mailbox_attach(nats->box, o);
    if (s != NATS_OK)
        return hw_nats_fail(err, s, 0, "setting NATS options");
    return hw_nats_files_apply(&nats->files, nats->url, o, err);
}

static enum hw_status make_options(struct hw_nats *nats, natsOptions **out, struct hw_error *err)
{
    natsOptions *o;

    if (natsOptions_Create(&o) != NATS_OK)
        abort(); /* out of memory */
    if (set_options(nats, o, err) != HW_OK) {
        natsOptions_Destroy(o);
        return err->status;
    }
    *out = o;
    return HW_OK;
}

/*
 * Whatever happens here, the owner has a connection that never gives up: a first attempt that fails
 * in a way that libnats does not repeat by itself is repeated here.
 */
static void open_connection(void *arg)
{
    struct hw_nats *nats = arg;
    jsOptions js_options;
    const char *text = NULL;
    natsStatus s;

    (void)read_files(nats);
    s = natsConnection_Connect(&nats->nc, nats->options);
    const bool connected = s == NATS_OK;
    if (s != NATS_OK && s != NATS_NOT_YET_CONNECTED) {
        nats->nc = NULL;
    } else {
        jsOptions_Init(&js_options);
        js_options.Wait = nats->timeout_ms;
        js_options.Prefix = nats->prefix;
        js_options.PublishAsync.MaxPending = nats->max_pending;
        js_options.PublishAsync.AckHandler = hw_mailbox_on_ack;
        js_options.PublishAsync.AckHandlerClosure = nats->box;
        s = natsConnection_JetStream(&nats->js, nats->nc, &js_options);
        if (s != NATS_OK)
            close_connection(nats);
    }
    if (nats->nc == NULL) {
        hw_mailbox_post(nats->box, &(struct hw_mail){.kind = HW_MAIL_AWAY, .s = s});
        reopen_later(nats);
        return;
    }
    /* libnats tells of an attempt that succeeds later, and of none that fails or succeeds here. */
    hw_mailbox_post(nats->box,
                    &(struct hw_mail){.kind = connected ? HW_MAIL_UP : HW_MAIL_AWAY,
                                      .nc = nats->nc,
                                      .s = natsConnection_GetLastError(nats->nc, &text)});
    hw_subscriptions_attach(&nats->subs, nats->nc);
}

/*
 * libnats frees messages on a thread of its own, and wakes that thread for each message. Each time
 * the thread took the processor from whoever was at work: a fifth of the time in which many
 * messages were published went there. A thread inherits the scheduling policy of its maker, and a
 * thread with the policy of batch work takes the processor from nobody when it is woken. So the
 * library makes its threads while this thread has that policy. Where this is not allowed, or this
 * thread is a real-time thread of the host program, the policy stays as it is.
 */
static void open_library(void)
{
    const struct sched_param none = {0};
    const bool quiet =
        sched_getscheduler(0) == SCHED_OTHER && sched_setscheduler(0, SCHED_BATCH, &none) == 0;

    (void)nats_Open(-1); /* connecting fails with a reason where this fails */
    if (quiet)
        (void)sched_setscheduler(0, SCHED_OTHER, &none);
}

enum hw_status hw_nats_open(struct hw_loop *loop, const struct hw_nats_options *options,
                            const struct hw_nats_events *events, struct hw_nats **out,
                            struct hw_error *err)
{
    struct hw_nats *nats = hw_alloc(sizeof(*nats));
    enum hw_status status;
    static pthread_once_t opened = PTHREAD_ONCE_INIT;

    pthread_once(&opened, open_library);
    nats->loop = loop;
    nats->url = hw_strdup(options->url);
    nats->shown = hw_nats_url_shown(options->url);
    hw_nats_files_copy(&nats->files, &options->files);
    nats->name = options->name != NULL ? hw_strdup(options->name) : NULL;
    nats->many = options->reconnect_ms > 0;
    nats->reconnect_ms = nats->many ? options->reconnect_ms : RECONNECT_FIRST_MS;
    nats->reopen_most_ms = nats->many ? options->reconnect_ms : REOPEN_MOST_MS;
    nats->unread_ms = options->unread_ms > 0 ? options->unread_ms : UNREAD_MS;
    nats->events = *events;
    nats->timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : TIMEOUT_MS;
    nats->max_pending = options->max_pending > 0 ? options->max_pending : MAX_PENDING;
    hw_flights_init(&nats->flights, (size_t)nats->max_pending);
    nats->box = hw_mailbox_new(loop, on_mail, nats);
    hw_subscriptions_init(&nats->subs, loop, nats->box);
    if (natsInbox_Create(&nats->inbox) != NATS_OK)
        abort(); /* out of memory */
    if (options->prefix != NULL && *options->prefix != '\0')
        nats->prefix = hw_strdup(options->prefix);
    hw_nats_files_digest(&nats->files, &nats->read);
    status = make_options(nats, &nats->options, err);
    if (status == HW_OK && options->first_ms > 0)
        hw_timer_start(loop, &nats->reopen, hw_random_ms(options->first_ms), open_connection, nats);
    else if (status == HW_OK)
        open_connection(nats);
    nats->clock_ahead = clock_ahead();
    hw_timer_start(loop, &nats->clock_timer, 0, look_at_clock, nats);
    if (status != HW_OK) {
        hw_nats_close(nats);
        return status;
    }
    *out = nats;
    return HW_OK;
}

void hw_nats_close(struct hw_nats *nats)
{
    if (nats == NULL)
        return;
    hw_timer_stop(&nats->reopen);
    hw_timer_stop(&nats->clock_timer);
    hw_timer_stop(&nats->find_out);
    hw_nats_probe_free(HW_TAKE(nats->probe));
    hw_mailbox_close(nats->box);
    nats->up = false;
    close_connection(nats);
    hw_flights_end_all(&nats->flights, HW_ESTOPPED);
    hw_subscriptions_clear(&nats->subs);
    natsOptions_Destroy(nats->options);
    natsInbox_Destroy(nats->inbox);
    free(nats->url);
    free(nats->shown);
    free(nats->name);
    hw_nats_files_free(&nats->files);
    hw_flights_free(&nats->flights);
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
    return nats->flights.count;
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

const char *hw_nats_stuck(const struct hw_nats *nats)
{
    const char *why = NULL;

    for (const struct hw_nats_listener *l = nats->listeners; nats->up && l != NULL && why == NULL;
         l = l->next)
        if (l->stuck != NULL)
            why = l->stuck(l->arg);
    return why;
}

int64_t hw_nats_unread_ms(const struct hw_nats *nats)
{
    return nats->unread_ms;
}

void hw_nats_tell_reader(struct hw_nats *nats, const char *of, const char *why, int64_t pause_ms)
{
    if (nats->events.reader != NULL)
        nats->events.reader(nats->events.arg, of, why, pause_ms);
}

static enum hw_status need_up(const struct hw_nats *nats, struct hw_error *err)
{
    if (nats->up && nats->nc != NULL)
        return HW_OK;
    return hw_fail(err, HW_EUNAVAIL, "NATS cannot be reached now");
}

/* ---- subscriptions ---- */

enum hw_status hw_nats_subscribe(struct hw_nats *nats, const char *subject, hw_nats_msg_fn *fn,
                                 void *arg, struct hw_nats_sub **sub, struct hw_error *err)
{
    if (!hw_subscription_valid(subject))
        return hw_fail(err, HW_EINVAL, "\"%s\" is not a subject", subject);
    *sub = hw_subscriptions_add(&nats->subs, subject, fn, arg);
    return HW_OK;
}

void hw_nats_unsubscribe(struct hw_nats_sub *sub)
{
    hw_subscriptions_remove(sub);
}

void hw_nats_signal(struct hw_nats *nats, const char *subject, const char *text)
{
    if (need_up(nats, NULL) == HW_OK)
        (void)natsConnection_PublishString(nats->nc, subject, text);
}

bool hw_nats_has_mail(const struct hw_nats *nats)
{
    return hw_mailbox_has_mail(nats->box);
}

/* ---- questions ---- */

static natsStatus listen_for_answers(struct hw_nats *nats)
{
    if (nats->answers != NULL)
        return NATS_OK;
    HW_AUTO_FREE char *all = hw_sprintf("%s.*", nats->inbox);

    return natsConnection_Subscribe(&nats->answers, nats->nc, all, hw_mailbox_on_answer, nats->box);
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

    hw_mailbox_expect(nats->box, number);
    s = listen_for_answers(nats);
    if (s == NATS_OK)
        s = natsConnection_PublishRequest(nats->nc, to, reply, data, (int)size);
    *answer =
        s == NATS_OK ? hw_mailbox_wait(nats->box, number, hw_loop_now() + nats->timeout_ms) : NULL;
    if (*answer != NULL)
        return HW_OK;
    if (s == NATS_OK)
        s = natsConnection_Status(nats->nc) == NATS_CONN_STATUS_CONNECTED
                ? NATS_TIMEOUT
                : NATS_CONNECTION_DISCONNECTED;
    const enum hw_status status = hw_nats_fail(err, s, 0, "asking NATS");
    hw_nats_fail_also(err, nats->trouble);
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

/* The message under the subject that it is sent on, which the prefix changes. Takes msg. */
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
    struct hw_flight flight;
    natsStatus s;

    msg = readdress(nats, msg);
    const natsMsg *const identity = msg;
    if (status == HW_OK && nats->flights.count >= (size_t)nats->max_pending)
        status = hw_fail(err, HW_EUNAVAIL, "%d publishes are waiting for NATS already",
                         nats->max_pending);
    if (status != HW_OK) {
        natsMsg_Destroy(msg);
        return status;
    }
    jsPubOptions_Init(&options);
    options.MaxWait = ACK_TIMEOUT_MS;
    set_expectation(&options, expected_seq);
    hw_flights_add(&nats->flights, (struct hw_flight){.msg = identity, .done = done, .arg = arg});
    s = js_PublishMsgAsync(nats->js, &msg, &options);
    if (s != NATS_OK) {
        (void)hw_flights_take(&nats->flights, identity, &flight);
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
        hw_nats_fail_also(err, nats->trouble);
        goto out;
    }
    if (seq != NULL)
        *seq = ack->Sequence;
    jsPubAck_Destroy(ack);
out:
    natsMsg_Destroy(msg);
    return status;
}
