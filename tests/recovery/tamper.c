#include "tests/recovery/tamper.h"

#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/lsn.h"
#include "base/memory.h"
#include "protocol/entry.h"
#include "tests/recovery/checker.h"
#include "tests/recovery/stream.h"
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

/* Damage of what the database says about nodes, past the triggers that forbid it. */
static const struct {
    const char *what, *sql;
} in_sql[] = {
    {"a report that the hostile node wrote about another",
     "UPDATE headwater.reported SET agent = 'hostile' WHERE node = 'n0'"},
    {"a proposal that was decided on twice",
     "UPDATE headwater.proposal"
     " SET state = CASE state WHEN 'rejected' THEN 'conflict' ELSE 'rejected' END"
     " WHERE id = (SELECT min(id) FROM headwater.proposal WHERE state <> 'refused')"},
    {"a conflict of a node with one agent",
     "INSERT INTO headwater.reported_history OVERRIDING SYSTEM VALUE"
     " SELECT (jsonb_populate_record(h, jsonb_build_object('id', h.id + 1, 'node', 'n9',"
     " 'conflict', '{\"instances\": [1, 2]}'::jsonb))).*"
     " FROM headwater.reported_history AS h ORDER BY h.id DESC LIMIT 1"},
};

static const char *damage_sql(const struct test_postgres *pg, int number)
{
    if (number >= (int)HW_COUNT(in_sql))
        return NULL;
    free(test_sql(pg, "SET session_replication_role = replica; %s", in_sql[number].sql));
    return in_sql[number].what;
}

const char *tamper(const struct test_postgres *pg, const char *nats_url, struct checker *checker,
                   int number)
{
    static const char *const kinds[] = {"an entry twice",
                                        "an entry of an older fence",
                                        "a deletion that nobody wanted",
                                        "another node's entry",
                                        "lost entries",
                                        "a decision that was told twice"};
    natsConnection *nc = NULL;
    jsCtx *js = NULL;

    if (number >= (int)HW_COUNT(kinds))
        return damage_sql(pg, number - (int)HW_COUNT(kinds));
    stream_connect(nats_url, &nc, &js);
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
    case 4:
        lose(js, "$KV.headwater.cfg.desired.n1");
        checker_forget(checker, "$KV.headwater.cfg.desired.n1");
        break;
    default:
        write_again(js, "$KV.headwater.cfg.decided.n0", "$KV.headwater.cfg.decided.n0", 0, false);
    }
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    return kinds[number];
}
