#include "tests/recovery/tamper.h"

#include <nats/nats.h>
#include <stdio.h>
#include <string.h>

#include "base/lsn.h"
#include "base/memory.h"
#include "protocol/entry.h"
#include "tests/recovery/checker.h"
#include "tests/support/process.h"

#define STREAM "KV_headwater"

static void check(natsStatus s)
{
    if (s != NATS_OK)
        test_fail("tampering: %s", natsStatus_GetText(s));
}

/* Publishes the last message of subject from once more under subject to, or a deletion there. The
 * position of its fence is moved by shift. */
static void write_again(jsCtx *js, const char *from, const char *to, int shift, bool deletion)
{
    natsMsg *last = NULL, *msg = NULL;
    const char *epoch = NULL, *text = NULL;
    hw_lsn lsn = 0;

    check(js_GetLastMsg(&last, js, STREAM, from, NULL, NULL));
    check(natsMsgHeader_Get(last, HW_HEADER_EPOCH, &epoch));
    check(natsMsgHeader_Get(last, HW_HEADER_LSN, &text));
    if (hw_lsn_parse(text, &lsn, NULL) != HW_OK)
        test_fail("no LSN: %s", text);
    check(natsMsg_Create(&msg, to, NULL, deletion ? NULL : natsMsg_GetData(last),
                         deletion ? 0 : natsMsg_GetDataLength(last)));
    check(natsMsgHeader_Set(msg, HW_HEADER_EPOCH, epoch));
    check(natsMsgHeader_Set(msg, HW_HEADER_LSN, HW_LSN(lsn + (hw_lsn)(int64_t)shift)));
    if (deletion)
        check(natsMsgHeader_Set(msg, "KV-Operation", "DEL"));
    check(js_PublishMsg(NULL, js, msg, NULL, NULL));
    natsMsg_Destroy(msg);
    natsMsg_Destroy(last);
}

static void lose(jsCtx *js, const char *subject)
{
    jsOptions options;

    jsOptions_Init(&options);
    options.Stream.Purge.Subject = subject;
    check(js_PurgeStream(js, STREAM, &options, NULL));
}

const char *tamper(const char *nats_url, struct checker *checker, int number)
{
    static const char *const kinds[] = {"an entry twice", "an entry of an older fence",
                                        "a deletion that nobody wanted", "another node's entry",
                                        "lost entries"};
    natsConnection *nc = NULL;
    jsCtx *js = NULL;

    if (number >= (int)HW_COUNT(kinds))
        return NULL;
    checker_connect(nats_url, &nc, &js);
    switch (number) {
    case 0:
        write_again(js, "$KV.headwater.cfg.desired.n0", "$KV.headwater.cfg.desired.n0", 0, false);
        break;
    case 1:
        write_again(js, "$KV.headwater.cfg.desired.n0", "$KV.headwater.cfg.desired.n0", -1, false);
        break;
    case 2:
        write_again(js, "$KV.headwater.cfg.desired.n0", "$KV.headwater.cfg.desired.n0", 8, true);
        break;
    case 3:
        write_again(js, "$KV.headwater.cfg.desired.n1", "$KV.headwater.cfg.desired.n2", 8, false);
        break;
    default:
        lose(js, "$KV.headwater.cfg.desired.n1");
        checker_forget(checker, "$KV.headwater.cfg.desired.n1");
    }
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    return kinds[number];
}
