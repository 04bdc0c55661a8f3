#include "tests/recovery/stream.h"

#include <inttypes.h>
#include <stdio.h>

#include "tests/support/patience.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

#define STREAM "KV_headwater"

enum { WAIT_MS = 5000, PATIENCE_MS = 30000 };

void stream_connect(const char *url, natsConnection **nc, jsCtx **js)
{
    test_nats_connect(url, test_patient_ms(PATIENCE_MS), nc, js);
}

void stream_make(const char *url)
{
    const char *subjects[] = {"$KV.headwater.>"};
    jsRePublish republish = {.Source = "$KV.headwater.cfg.>", .Destination = "headwater.>"};
    jsStreamConfig config;
    natsConnection *nc;
    jsCtx *js;

    stream_connect(url, &nc, &js);
    jsStreamConfig_Init(&config);
    config.Name = STREAM;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.MaxMsgsPerSubject = 16; /* as the reconciler makes it */
    config.Discard = js_DiscardNew;
    config.Storage = js_FileStorage;
    config.Replicas = 1;
    config.AllowRollup = true;
    config.DenyDelete = true;
    config.AllowDirect = true;
    config.RePublish = &republish;
    const natsStatus s = js_AddStream(NULL, js, &config, NULL, NULL);
    if (s != NATS_OK)
        test_fail("making the stream: %s", natsStatus_GetText(s));
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}

/* The end is the stream's last sequence: nats-server 2.9 counts wrong how many messages a consumer
 * has yet to get. */
void stream_read(const char *url, bool last_only, message_fn *each, void *arg)
{
    natsSubscription *sub = NULL;
    natsConnection *nc;
    jsStreamInfo *info = NULL;
    jsSubOptions options;
    uint64_t last = 0, seq = 0, pending = 1;
    int waits = 0; /* that brought nothing */
    jsCtx *js;

    stream_connect(url, &nc, &js);
    natsStatus s = js_GetStreamInfo(&info, js, STREAM, NULL, NULL);
    if (s == NATS_OK && info->State.Msgs > 0)
        last = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    jsSubOptions_Init(&options);
    options.Ordered = true;
    options.Stream = STREAM;
    options.Config.DeliverPolicy = last_only ? js_DeliverLastPerSubject : js_DeliverAll;
    if (s == NATS_OK)
        s = js_SubscribeSync(&sub, js, "$KV.headwater.>", NULL, &options, NULL);
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(sub, -1, -1);
    while (s == NATS_OK && seq < last) {
        jsMsgMetaData *meta = NULL;
        natsMsg *msg = NULL;

        s = natsSubscription_NextMsg(&msg, sub, WAIT_MS);
        if (s == NATS_TIMEOUT && pending == 0) { /* the last one was purged */
            s = NATS_OK;
            break;
        }
        if (s == NATS_TIMEOUT && ++waits * WAIT_MS < test_patient_ms(PATIENCE_MS)) {
            s = NATS_OK;
            continue;
        }
        if (s == NATS_OK)
            s = natsMsg_GetMetaData(&meta, msg);
        if (s == NATS_OK) {
            if (meta->NumPending == 0 && meta->Sequence.Stream < last)
                fprintf(stderr,
                        "note: a consumer says nothing is pending at %" PRIu64 " of %" PRIu64 "\n",
                        meta->Sequence.Stream, last);
            pending = meta->NumPending;
            seq = meta->Sequence.Stream;
            each(arg, &msg, seq);
        }
        jsMsgMetaData_Destroy(meta);
        natsMsg_Destroy(msg);
    }
    if (s != NATS_OK)
        test_fail("reading the stream: %s", natsStatus_GetText(s));
    /* More messages may come, so libnats' reading thread must end before the subscription that it
     * uses is freed. */
    natsConnection_Close(nc);
    natsSubscription_Destroy(sub);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}
