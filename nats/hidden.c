#include "nats/hidden.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "base/number.h"
#include "nats/kv.h"
#include "nats/stored.h"

enum {
    SUBJECT_MOST = 512,
    AT_ONCE = 32, /* keys that are asked about at the same time: others wait for the server, too */
    SILENT_MS = 2000, /* an answer that takes longer does not come any more */
};

struct names {
    char stream[SUBJECT_MOST], subject[SUBJECT_MOST];
};

static struct names names_of(const char *bucket, const char *key)
{
    struct names names;

    snprintf(names.stream, sizeof(names.stream), "KV_%s", bucket);
    snprintf(names.subject, sizeof(names.subject), "$KV.%s.%s", bucket, key);
    return names;
}

enum hw_status hw_hidden_fail(struct hw_error *err, const char *bucket, const char *key,
                              const char *what)
{
    return hw_fail(err, HW_ECORRUPT,
                   "bucket %s, key %s: nats-server contradicts itself about this key, as 2.9 does "
                   "after it was killed: %s. Stop and start it once more in the ordinary way "
                   "(systemctl restart nats-server), which makes its index anew; 2.10 and newer "
                   "do not do this",
                   bucket, key, what);
}

/* ---- one key ---- */

/* Is there a message of the key from this sequence number on? *seq: its number. */
static enum hw_status next(struct hw_nats *nats, const struct names *names, uint64_t from,
                           uint64_t *seq, struct hw_error *err)
{
    struct hw_stored stored;
    const enum hw_status status =
        hw_stored_next(nats, names->stream, names->subject, from, &stored, err);

    if (status != HW_OK)
        return status;
    *seq = stored.seq;
    hw_stored_clear(&stored);
    return HW_OK;
}

/* Strides that grow as long as something is found, and then halves: the predicate "there is one
 * from here on" changes once. */
enum hw_status hw_hidden_find(struct hw_nats *nats, const char *bucket, const char *key,
                              uint64_t *seq, struct hw_error *err)
{
    const struct names names = names_of(bucket, key);
    uint64_t newest, none, stride = 1;
    enum hw_status status = next(nats, &names, 1, &newest, err);

    if (status != HW_OK)
        return status;
    do {
        none = newest + stride;
        stride *= 2;
        status = next(nats, &names, none, &newest, err);
    } while (status == HW_OK);
    while (status == HW_ENOENT && none - newest > 1) {
        const uint64_t middle = newest + (none - newest) / 2;

        status = next(nats, &names, middle, &newest, err);
        if (status == HW_ENOENT)
            none = middle;
        else if (status == HW_OK)
            status = HW_ENOENT;
    }
    if (status != HW_ENOENT)
        return status;
    *seq = newest;
    return HW_OK;
}

enum hw_status hw_hidden_purge(struct hw_nats *nats, const char *bucket, const char *key,
                               uint64_t before, struct hw_error *err)
{
    if (hw_kv_purge(nats, bucket, key, before, err) == HW_OK)
        return HW_OK;
    if (!hw_nats_up(nats))
        return err->status;
    HW_AUTO_FREE char *what = hw_sprintf("it does not find it by its name, and a purge of its old "
                                         "entries, which would help, failed (%.160s)",
                                         err->message);
    return hw_hidden_fail(err, bucket, key, what);
}

enum hw_status hw_hidden_kept(struct hw_nats *nats, const char *bucket, const char *key,
                              uint64_t seq, bool *kept, struct hw_error *err)
{
    const struct names names = names_of(bucket, key);
    struct hw_stored stored;
    const enum hw_status status = hw_stored_last(nats, names.stream, names.subject, &stored, err);

    if (status != HW_OK && status != HW_ENOENT)
        return status;
    *kept = status == HW_OK && stored.seq >= seq;
    if (status == HW_OK)
        hw_stored_clear(&stored);
    return HW_OK;
}

/* ---- many keys ---- */

enum question {
    BY_NAME,    /* its last message? A key that has one is not hidden. */
    FROM_START, /* any message, looked for from the start of the stream? */
};

struct hw_hidden_search {
    struct hw_nats *nats;
    struct hw_hidden_events events;
    char bucket[SUBJECT_MOST];
    char **keys;
    size_t count, asked, answered; /* keys */
    char *inbox;                   /* answers come to <inbox>.<question>.<number of the key> */
    struct hw_nats_sub *sub;
    struct hw_timer timer; /* nothing was heard for long; or the end */
};

static void go_on(struct hw_hidden_search *search);

static void ask(struct hw_hidden_search *search, size_t number, enum question question)
{
    const struct names names = names_of(search->bucket, search->keys[number]);
    char subject[2 * SUBJECT_MOST + 32], reply[SUBJECT_MOST];
    struct hw_buf body = {0};

    snprintf(reply, sizeof(reply), "%s.%d.%zu", search->inbox, (int)question, number);
    if (question == BY_NAME) {
        snprintf(subject, sizeof(subject), "$JS.API.DIRECT.GET.%s.%s", names.stream, names.subject);
    } else {
        snprintf(subject, sizeof(subject), "$JS.API.DIRECT.GET.%s", names.stream);
        hw_buf_puts(&body, "{\"seq\":1,\"next_by_subj\":");
        hw_buf_json_string(&body, names.subject, strlen(names.subject));
        hw_buf_putc(&body, '}');
    }
    /* A question that is lost is one that is not answered. */
    if (hw_nats_up(search->nats))
        (void)natsConnection_PublishRequest(hw_nats_connection(search->nats), subject, reply,
                                            hw_buf_str(&body), (int)body.len);
    hw_buf_free(&body);
}

static void finish(void *arg)
{
    const struct hw_hidden_search *search = arg;

    search->events.done(search->events.arg);
}

static void give_up_waiting(void *arg)
{
    struct hw_hidden_search *search = arg;

    if (!hw_nats_up(search->nats))
        search->asked = search->count;
    search->answered = search->asked;
    go_on(search);
}

static void go_on(struct hw_hidden_search *search)
{
    while (search->asked < search->count && search->asked - search->answered < AT_ONCE)
        ask(search, search->asked++, BY_NAME);
    if (search->answered >= search->count)
        hw_timer_start(hw_nats_loop(search->nats), &search->timer, 0, finish, search);
    else
        hw_timer_start(hw_nats_loop(search->nats), &search->timer, SILENT_MS, give_up_waiting,
                       search);
}

static bool has(natsMsg *msg, const char *name, const char *expected)
{
    const char *value = NULL;

    return natsMsgHeader_Get(msg, name, &value) == NATS_OK &&
           (expected == NULL || strcmp(value, expected) == 0);
}

/* The server gives every stored message its sequence number, whatever else its headers say. */
static void on_answer(void *arg, natsMsg *msg)
{
    struct hw_hidden_search *search = arg;
    const char *const which = natsMsg_GetSubject(msg) + strlen(search->inbox);
    const bool there = has(msg, "Nats-Sequence", NULL);
    const char *const behind = *which == '.' ? strchr(which + 1, '.') : NULL;
    uint64_t question, number;

    /* The subject ends with ".<question>.<number of the key>". */
    if (behind == NULL || !hw_number_parse_until(which + 1, '.', &question) ||
        !hw_number_parse(behind + 1, &number) || number >= search->asked ||
        search->answered >= search->count)
        return;
    if (question == BY_NAME && !there && has(msg, "Status", "404")) {
        ask(search, number, FROM_START);
        return;
    }
    if (question == FROM_START && there)
        search->events.found(search->events.arg, search->keys[number]);
    /* An answer that was given up may come after all. */
    if (search->answered < search->asked)
        search->answered++;
    go_on(search);
}

enum hw_status hw_hidden_search(struct hw_nats *nats, const char *bucket, char **keys, size_t count,
                                const struct hw_hidden_events *events,
                                struct hw_hidden_search **out, struct hw_error *err)
{
    struct hw_hidden_search *search = hw_alloc(sizeof(*search));
    natsInbox *inbox = NULL;

    search->nats = nats;
    search->events = *events;
    search->keys = keys;
    search->count = count;
    snprintf(search->bucket, sizeof(search->bucket), "%s", bucket);
    if (natsInbox_Create(&inbox) != NATS_OK)
        abort(); /* out of memory */
    search->inbox = hw_strdup(inbox);
    natsInbox_Destroy(inbox);
    HW_AUTO_FREE char *answers = hw_sprintf("%s.*.*", search->inbox);
    const enum hw_status status =
        hw_nats_subscribe(nats, answers, on_answer, search, &search->sub, err);

    if (status != HW_OK) {
        hw_hidden_stop(search);
        return status;
    }
    go_on(search);
    *out = search;
    return HW_OK;
}

void hw_hidden_stop(struct hw_hidden_search *search)
{
    if (search == NULL)
        return;
    hw_timer_stop(&search->timer);
    hw_nats_unsubscribe(search->sub);
    for (size_t i = 0; i < search->count; i++)
        free(search->keys[i]);
    free(search->keys);
    free(search->inbox);
    free(search);
}
