#include "tests/recovery/follower.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"

#define STREAM   "KV_headwater"
#define SUBJECTS "$KV.headwater.>"

enum {
    AGAIN_US = 20000,
    QUIET_MS = 200, /* then it is asked whether that is all */
};

struct follower {
    char *url;
    pthread_t thread;
    atomic_bool stopping;
    pthread_mutex_t lock;
    struct followed seen;
    unsigned storage; /* how many there were before this one */
};

void followed_add(struct followed *followed, uint64_t seq, natsMsg *msg)
{
    if (followed->count == followed->cap) {
        followed->cap = followed->cap > 0 ? 2 * followed->cap : 1024;
        followed->list = hw_realloc(followed->list, followed->cap * sizeof(*followed->list));
    }
    followed->list[followed->count++] = (struct followed_message){.seq = seq, .msg = msg};
}

void followed_free(struct followed *followed)
{
    for (size_t i = 0; i < followed->count; i++)
        natsMsg_Destroy(followed->list[i].msg);
    free(followed->list);
    *followed = (struct followed){0};
}

static uint64_t newest(const struct followed *followed)
{
    return followed->count > 0 ? followed->list[followed->count - 1].seq : 0;
}

/* False: the storage has been taken away since. */
static bool keep(struct follower *f, unsigned storage, natsMsg *msg)
{
    jsMsgMetaData *meta = NULL;
    bool kept = false;

    if (natsMsg_GetMetaData(&meta, msg) != NATS_OK) {
        natsMsg_Destroy(msg);
        return true; /* a word of the server */
    }
    pthread_mutex_lock(&f->lock);
    if (f->storage == storage && meta->Sequence.Stream > newest(&f->seen)) {
        followed_add(&f->seen, meta->Sequence.Stream, msg);
        kept = true;
    }
    const bool same = f->storage == storage;
    pthread_mutex_unlock(&f->lock);
    if (!kept)
        natsMsg_Destroy(msg);
    jsMsgMetaData_Destroy(meta);
    return same;
}

static bool is_behind(struct follower *f, jsCtx *js)
{
    jsStreamInfo *info = NULL;
    uint64_t last = 0;

    if (js_GetStreamInfo(&info, js, STREAM, NULL, NULL) != NATS_OK)
        return true;
    last = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    pthread_mutex_lock(&f->lock);
    const bool behind = newest(&f->seen) < last;
    pthread_mutex_unlock(&f->lock);
    return behind;
}

/* Until the connection is lost, or the consumer is. */
static void read_on(struct follower *f, natsConnection *nc)
{
    natsSubscription *sub = NULL;
    jsSubOptions options;
    jsCtx *js = NULL;
    natsStatus s = natsConnection_JetStream(&js, nc, NULL);
    int quiet = 0;

    pthread_mutex_lock(&f->lock);
    const unsigned storage = f->storage;
    const uint64_t from = newest(&f->seen) + 1;
    pthread_mutex_unlock(&f->lock);
    jsSubOptions_Init(&options);
    options.Ordered = true;
    options.Stream = STREAM;
    options.Config.DeliverPolicy = js_DeliverByStartSequence;
    options.Config.OptStartSeq = from;
    if (s == NATS_OK)
        s = js_SubscribeSync(&sub, js, SUBJECTS, NULL, &options, NULL);
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(sub, -1, -1);
    while (s == NATS_OK && !f->stopping) {
        natsMsg *msg = NULL;

        s = natsSubscription_NextMsg(&msg, sub, QUIET_MS);
        if (s == NATS_OK) {
            quiet = 0;
            if (!keep(f, storage, msg))
                break;
        } else if (s == NATS_TIMEOUT && (++quiet < 2 || !is_behind(f, js))) {
            /* The last messages may have been removed; twice that is no reason to begin anew. */
            s = NATS_OK;
        }
    }
    /* libnats' reading thread must have ended before what it uses is freed. */
    natsConnection_Close(nc);
    natsSubscription_Destroy(sub);
    jsCtx_Destroy(js);
}

static void *follow(void *arg)
{
    struct follower *f = arg;

    while (!f->stopping) {
        natsOptions *options = NULL;
        natsConnection *nc = NULL;

        if (natsOptions_Create(&options) == NATS_OK &&
            natsOptions_SetURL(options, f->url) == NATS_OK &&
            natsOptions_SetAllowReconnect(options, false) == NATS_OK &&
            natsConnection_Connect(&nc, options) == NATS_OK)
            read_on(f, nc);
        natsConnection_Destroy(nc);
        natsOptions_Destroy(options);
        usleep(AGAIN_US);
    }
    nats_ReleaseThreadMemory();
    return NULL;
}

struct follower *follower_start(const char *url)
{
    struct follower *f = hw_alloc(sizeof(*f));

    f->url = hw_strdup(url);
    pthread_mutex_init(&f->lock, NULL);
    if (pthread_create(&f->thread, NULL, follow, f) != 0)
        test_fail("cannot start a thread");
    return f;
}

void follower_stop(struct follower *f)
{
    f->stopping = true;
    pthread_join(f->thread, NULL);
    followed_free(&f->seen);
    pthread_mutex_destroy(&f->lock);
    free(f->url);
    free(f);
}

struct followed follower_take(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    const struct followed taken = f->seen;
    f->seen = (struct followed){0};
    f->storage++;
    pthread_mutex_unlock(&f->lock);
    return taken;
}

const struct followed *follower_lock(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    return &f->seen;
}

void follower_unlock(struct follower *f)
{
    pthread_mutex_unlock(&f->lock);
}

void follower_forget(struct follower *f, const char *subject)
{
    pthread_mutex_lock(&f->lock);
    size_t left = 0;
    for (size_t i = 0; i < f->seen.count; i++)
        if (strcmp(natsMsg_GetSubject(f->seen.list[i].msg), subject) == 0)
            natsMsg_Destroy(f->seen.list[i].msg);
        else
            f->seen.list[left++] = f->seen.list[i];
    f->seen.count = left;
    pthread_mutex_unlock(&f->lock);
}
