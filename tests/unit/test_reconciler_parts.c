/* The reconciler's parts that need no server: the ledger, values, reports, blobs, what it knows. */
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/json.h"
#include "base/map.h"
#include "base/memory.h"
#include "protocol/report.h"
#include "reconciler/publish/blob.h"
#include "reconciler/publish/content.h"
#include "reconciler/publish/ledger.h"
#include "reconciler/publish/sink.h"
#include "reconciler/recovery.h"
#include "tests/support/row.h"
#include "tests/support/suite.h"

#define OTHER_DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST       "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void expect_recovery(const struct rec_facts *facts, enum rec_way way, uint64_t epoch)
{
    const struct rec_recovery recovery = rec_recovery_choose(facts);

    ck_assert_int_eq(recovery.way, way);
    ck_assert_uint_eq(recovery.epoch, epoch);
    ck_assert_int_eq(recovery.why == NULL, way == REC_RESUME);
}

START_TEST(test_plan)
{
    struct rec_checkpoint c = {
        .fence = {.epoch = 3, .lsn = 1000}, .system_id = 7, .timeline = 2, .rev = 5, .nonce = "n5"};
    struct cdc_server server = {.system_id = 7,
                                .timeline = 2,
                                .current = 2000,
                                .slot_exists = true,
                                .slot_confirmed = 1000,
                                .archive_wal_status = "reserved"};
    struct rec_facts f = {
        .checkpoint = &c, .checkpoint_valid = true, .server = &server, .slot = "headwater"};

    expect_recovery(&f, REC_RESUME, 3);
    server.slot_confirmed = 999; /* it went back over a restart */
    expect_recovery(&f, REC_RESUME, 3);

    /* NATS has lost what was confirmed: from the archive, if that reaches back. */
    server.slot_confirmed = 1001;
    expect_recovery(&f, REC_REBUILD, 3);
    server.archive_exists = server.archive_same = true;
    server.archive_confirmed = server.archive_restart = 1000;
    expect_recovery(&f, REC_REPLAY, 3);
    server.archive_confirmed = 1001;
    expect_recovery(&f, REC_REBUILD, 3);
    server.archive_confirmed = 1000;
    strcpy(server.archive_wal_status, "lost");
    expect_recovery(&f, REC_REBUILD, 3);

    /* Other histories. */
    server.slot_confirmed = 1000;
    f.other_history = "it is another cluster";
    expect_recovery(&f, REC_REBUILD, 4);
    f.other_history = NULL;
    server.current = 999;
    expect_recovery(&f, REC_REBUILD, 4);
    server.current = 2000;

    /* A promotion: what counts is where the new timeline left the checkpoint's. */
    server.timeline = 3;
    expect_recovery(&f, REC_REBUILD, 4);
    f.fork = 999;
    expect_recovery(&f, REC_REBUILD, 4);
    f.fork = 1000;
    expect_recovery(&f, REC_RESUME, 3);
    server.timeline = 2;
    f.fork = HW_LSN_NONE;

    /* A rebuild of this history that was not finished has its epoch already. */
    c.fence.lsn = HW_LSN_NONE;
    expect_recovery(&f, REC_REBUILD, 3);

    /* No checkpoint: the nodes know the epoch, and whether the log they saw is still there. */
    f.checkpoint_valid = false;
    expect_recovery(&f, REC_REBUILD, 1);
    f.reported = (struct hw_fence){.epoch = 6, .lsn = 2000};
    expect_recovery(&f, REC_REBUILD, 6);
    f.reported.lsn = 2001;
    expect_recovery(&f, REC_REBUILD, 7);
    ck_assert(rec_recovery_choose(&f).rewrite);

    /* Nodes are ahead although there is a checkpoint: NATS was filled from an old database. */
    f.checkpoint_valid = true;
    c.fence.lsn = 1000;
    expect_recovery(&f, REC_REBUILD, 7);
    f.reported = (struct hw_fence){.epoch = 3, .lsn = 2001};
    expect_recovery(&f, REC_REBUILD, 4);
    ck_assert(rec_recovery_choose(&f).rewrite);
    f.reported.lsn = 2000;
    expect_recovery(&f, REC_RESUME, 3);
    f.reported = (struct hw_fence){.epoch = 2, .lsn = 9999};
    expect_recovery(&f, REC_RESUME, 3);
}
END_TEST

static uint64_t foreign[8];
static int foreign_count;

static void on_foreign(void *arg, uint64_t seq)
{
    (void)arg;
    ck_assert_int_lt(foreign_count, 8);
    foreign[foreign_count++] = seq;
}

START_TEST(test_ledger)
{
    static struct rec_ledger ledger = {.foreign = on_foreign};
    uint64_t a, b, c;

    rec_ledger_told(&ledger, 7); /* not open: says nothing */
    rec_ledger_open(&ledger, 100);
    rec_ledger_told(&ledger, 100);
    rec_ledger_told(&ledger, 99);

    /* Acknowledged out of order, one refused: all of it ours. */
    a = rec_ledger_publish(&ledger);
    b = rec_ledger_publish(&ledger);
    c = rec_ledger_publish(&ledger);
    rec_ledger_end(&ledger, b, 102);
    rec_ledger_told(&ledger, 102);
    ck_assert_int_eq(foreign_count, 0); /* 101 may still be one of those that are under way */
    rec_ledger_end(&ledger, c, 0);
    ck_assert_int_eq(foreign_count, 0);
    rec_ledger_end(&ledger, a, 101);
    ck_assert_int_eq(foreign_count, 0);
    rec_ledger_told(&ledger, 101);

    /* A gap that nobody accounts for; what began later does not matter. */
    a = rec_ledger_publish(&ledger);
    rec_ledger_told(&ledger, 103);
    b = rec_ledger_publish(&ledger);
    rec_ledger_end(&ledger, a, 104);
    ck_assert_int_eq(foreign_count, 1);
    ck_assert_uint_eq(foreign[0], 103);
    rec_ledger_end(&ledger, b, 105);
    ck_assert_int_eq(foreign_count, 1);

    /* Nothing under way: told at once, each. One that turns out to be ours is not foreign. */
    rec_ledger_told(&ledger, 107);
    ck_assert_int_eq(foreign_count, 3);
    ck_assert_uint_eq(foreign[2], 107);
    a = rec_ledger_publish(&ledger);
    rec_ledger_own(&ledger, 108);
    rec_ledger_end(&ledger, a, 0);
    rec_ledger_told(&ledger, 108);
    ck_assert_int_eq(foreign_count, 3);

    /* More than it spans is told of as one. */
    rec_ledger_told(&ledger, 108 + 3 * REC_LEDGER_SPAN);
    ck_assert_int_ge(foreign_count, 4);
    ck_assert_uint_eq(foreign[3], 109);
    a = rec_ledger_publish(&ledger);
    rec_ledger_end(&ledger, a, 109 + 3 * REC_LEDGER_SPAN);
    rec_ledger_told(&ledger, 109 + 3 * REC_LEDGER_SPAN);
}
END_TEST

START_TEST(test_desired_value)
{
    static const char *const not_entries[] = {
        "{}",
        "garbage",
        "{\"node\":\"n1\",\"revision\":3,\"digest\":\"" DIGEST "\",\"size\":20,"
        "\"media_type\":\"a/b\",\"object\":\"aaaa\",\"epoch\":2,\"lsn\":\"0/1\",\"sources\":[]}",
        "{\"node\":\"n1\",\"revision\":3,\"digest\":\"" DIGEST "\",\"size\":20,"
        "\"media_type\":\"a/b\",\"object\":"
        "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\","
        "\"epoch\":2,\"lsn\":\"0-1\",\"sources\":[]}",
    };
    const struct hw_desired row = {
        .node = "n1",
        .revision = 3,
        .digest = DIGEST,
        .size = 20,
        .media_type = "application/json; note=\"a\"",
        .sources = "[{\"config\": \"base\", \"revision\": 1, \"assignment\": \"all\"}]",
        .committed_at = "2026-01-31T12:00:00.000001Z",
    };
    size_t size;
    HW_AUTO_FREE char *value =
        hw_desired_write(&row, (struct hw_fence){.epoch = 2, .lsn = 0x16B3748}, &size);

    ck_assert_uint_eq(size, strlen(value));
    ck_assert_str_eq(
        value, "{\"node\":\"n1\",\"revision\":3,\"digest\":\"" DIGEST "\",\"size\":20,"
               "\"media_type\":\"application/json; note=\\\"a\\\"\",\"object\":"
               "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\","
               "\"epoch\":2,\"lsn\":\"0/16B3748\",\"committed_at\":\"2026-01-31T12:00:00.000001Z\","
               "\"sources\":[{\"config\": \"base\", \"revision\": 1, \"assignment\": \"all\"}]}");
    /* The same but for time has the same content; anything else has not. */
    const struct hw_entry entry = {.key = HW_KEY_DESIRED "n1", .value = value, .size = size};
    struct hw_entry bad = entry;
    struct hw_digest content, found;
    struct hw_fence fence = {0};
    rec_content_of_desired(&row, &content);
    ck_assert(rec_content_of_entry(&entry, &found, &fence));
    ck_assert(hw_digest_equal(&found, &content));
    ck_assert(fence.epoch == 2 && fence.lsn == 0x16B3748);
    const struct hw_desired others[] = {
        {"n2", 3, DIGEST, 20, row.media_type, row.sources, row.committed_at},
        {"n1", 4, DIGEST, 20, row.media_type, row.sources, row.committed_at},
        {"n1", 3, OTHER_DIGEST, 20, row.media_type, row.sources, row.committed_at},
        {"n1", 3, DIGEST, 21, row.media_type, row.sources, row.committed_at},
        {"n1", 3, DIGEST, 20, "text/plain", row.sources, row.committed_at},
        {"n1", 3, DIGEST, 20, row.media_type, "[]", row.committed_at},
    };
    for (size_t i = 0; i < HW_COUNT(others); i++) {
        rec_content_of_desired(&others[i], &found);
        ck_assert_msg(!hw_digest_equal(&found, &content), "%zu", i);
    }
    for (size_t i = 0; i < HW_COUNT(not_entries); i++) {
        bad.value = not_entries[i];
        bad.size = strlen(not_entries[i]);
        ck_assert_msg(!rec_content_of_entry(&bad, &found, &fence), "%s", not_entries[i]);
    }
}
END_TEST

START_TEST(test_decided_value)
{
    const struct hw_decided row = {
        .node = "n1", .decisions = "[]", .committed_at = "2026-01-31T12:00:00.000001Z"};
    size_t size;
    HW_AUTO_FREE char *value =
        hw_decided_write(&row, (struct hw_fence){.epoch = 2, .lsn = 0x16B3748}, &size);
    const struct hw_entry entry = {.key = HW_KEY_DECIDED "n1", .value = value, .size = size};
    struct hw_digest content, found;
    struct hw_fence fence = {0};

    ck_assert_str_eq(value, "{\"node\":\"n1\",\"epoch\":2,\"lsn\":\"0/16B3748\","
                            "\"committed_at\":\"2026-01-31T12:00:00.000001Z\",\"decisions\":[]}");
    rec_content_of_decided(&row, &content);
    ck_assert(rec_content_of_entry(&entry, &found, &fence));
    ck_assert(hw_digest_equal(&found, &content));
    ck_assert(fence.epoch == 2 && fence.lsn == 0x16B3748);
    /* A node refuses a value whose fence it cannot read: such a value is not the same. */
    memcpy(strstr(value, "\"epoch\""), "\"other\"", 7);
    ck_assert(!rec_content_of_entry(&entry, &found, &fence));
}
END_TEST

START_TEST(test_desired_columns)
{
    static const char *const wrong[] = {
        "{}",
        "{\"node\":\"n\"}",
        "{\"node\":7,\"revision\":1,\"digest\":\"" DIGEST
        "\",\"size\":1,\"media_type\":\"a/b\",\"sources\":\"[]\"}",
        "{\"node\":\"n\",\"revision\":1,\"digest\":\"sha256:1\",\"size\":1,"
        "\"media_type\":\"a/b\",\"sources\":\"[]\"}",
        "{\"node\":\"a b\",\"revision\":1,\"digest\":\"" DIGEST
        "\",\"size\":1,\"media_type\":\"a/b\",\"sources\":\"[]\"}",
    };
    struct hw_desired row;
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(wrong); i++) {
        HW_AUTO_JSON json_t *object = json_loads(wrong[i], 0, NULL);
        struct cdc_column columns[TEST_ROW_MOST];
        const struct cdc_row values = test_row(object, columns);

        ck_assert_ptr_nonnull(object);
        ck_assert_int_eq(rec_desired_from_columns(&values, "", &row, &err), HW_EPROTO);
        ck_assert_ptr_nonnull(strstr(err.message, "desired"));
    }
}
END_TEST

#define TIME "2026-01-31T12:00:00Z"

static enum hw_status read_report(const char *node, const char *text, size_t size,
                                  struct hw_fence *fence, struct hw_error *err)
{
    HW_AUTO_JSON json_t *report = NULL;

    return hw_report_read(node, text, size, &report, fence, err);
}

START_TEST(test_report_check)
{
    static const char good[] =
        "{\"node\":\"n1\",\"state\":\"failed\",\"running\":null,\"failed\":"
        "{\"revision\":1,\"digest\":\"" DIGEST "\",\"epoch\":1,\"lsn\":\"0/1\","
        "\"stage\":\"apply\",\"error\":\"e\",\"at\":\"" TIME "\"}}";
    struct hw_fence fence = {0};
    struct hw_error err;

    ck_assert_int_eq(read_report("n1", good, strlen(good), &fence, &err), HW_OK);
    ck_assert_int_eq(hw_fence_compare(fence, (struct hw_fence){1, 1}), 0);
    ck_assert_int_eq(read_report("n2", good, strlen(good), &fence, &err), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "n1"));
    HW_AUTO_FREE char *large = hw_alloc(100000);
    memset(large, ' ', 99999);
    ck_assert_int_eq(read_report("n1", large, 99999, &fence, &err), HW_ELIMIT);
    HW_AUTO_FREE char *no_lsn = hw_strdup(good);
    memcpy(strstr(no_lsn, "0/1"), "0-1", 3);
    ck_assert_int_eq(read_report("n1", no_lsn, strlen(no_lsn), &fence, &err), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "failed"));

    /* The entry could not be read: what it was about is not known, all of it or nothing. */
    static const char refused[] =
        "{\"node\":\"n1\",\"state\":\"rejected\",\"running\":null,\"failed\":{\"revision\":null,"
        "\"digest\":null,\"epoch\":null,\"lsn\":null,\"stage\":\"verify\",\"error\":\"e\","
        "\"at\":\"" TIME "\"}}";
    ck_assert_int_eq(read_report("n1", refused, strlen(refused), &fence, &err), HW_OK);
    ck_assert_uint_eq(fence.epoch, 0);
    HW_AUTO_FREE char *half = hw_strdup(refused);
    memcpy(strstr(half, "null,\"stage"), "1234", 4);
    ck_assert_int_eq(read_report("n1", half, strlen(half), &fence, &err), HW_EINVAL);
}
END_TEST

static json_t *report_with(const char *members)
{
    HW_AUTO_FREE char *text = hw_sprintf("{\"node\":\"n1\",\"state\":\"applied\",%s}", members);
    json_t *report = NULL;
    struct hw_fence fence;
    struct hw_error err;

    ck_assert_msg(hw_report_read("n1", text, strlen(text), &report, &fence, &err) == HW_OK, "%s",
                  err.message);
    return report;
}

static void refuse_with(const char *members)
{
    HW_AUTO_FREE char *text = hw_sprintf("{\"node\":\"n1\",\"state\":\"applied\",%s}", members);
    HW_AUTO_JSON json_t *report = NULL;
    struct hw_fence fence;
    struct hw_error err;

    ck_assert_msg(hw_report_read("n1", text, strlen(text), &report, &fence, &err) == HW_EINVAL,
                  "%s", text);
    ck_assert_ptr_nonnull(strstr(err.message, "member"));
}

/* What a node may write takes no more room than is meant for it, and is read by the database. */
START_TEST(test_report_is_bounded)
{
    HW_AUTO_FREE char *words = hw_alloc(20001);
    static const char *const bad[] = {
        "\"running\":5",
        "\"running\":{}",
        "\"running\":{\"revision\":1,\"digest\":\"d\",\"epoch\":1,\"lsn\":\"0/1\",\"applied_at\":"
        "\"" TIME "\"}",
        "\"running\":{\"revision\":1.5,\"digest\":\"" DIGEST "\",\"epoch\":1,\"lsn\":\"0/1\","
        "\"applied_at\":\"" TIME "\"}",
        "\"running\":{\"revision\":1,\"digest\":\"" DIGEST "\",\"epoch\":1,\"lsn\":\"0/1\","
        "\"applied_at\":\"soon\"}",
        "\"reported_at\":\"2026-02-31T12:00:00Z\"",
        "\"reported_at\":\"0000-01-01T00:00:00Z\"",
        "\"desired_revision\":\"3\"",
        "\"desired_revision\":-1",
        "\"heartbeat\":1e-300",
        "\"heartbeat\":\"30\"",
        "\"held\":[]",
        "\"drift\":{\"healed\":1}",
        "\"agent\":{\"a\":1}",
    };

    for (size_t i = 0; i < HW_COUNT(bad); i++)
        refuse_with(bad[i]);
    for (int i = 0; i < 20000; i++)
        words[i] = "\xC3\xA4"[i % 2]; /* two bytes each, so that the limit may fall between */
    HW_AUTO_FREE char *members =
        hw_sprintf("\"held\":{\"since\":\"s\",\"reason\":\"x%.9000s\",\"pad\":[[[]]]},\"pad\":{},"
                   "\"agent\":\"%.9000s\",\"heartbeat\":30,\"running\":null",
                   words, words);
    HW_AUTO_JSON json_t *report = report_with(members);
    const json_t *held = json_object_get(report, "held");
    ck_assert_uint_eq(json_object_size(report), 5);
    ck_assert_uint_eq(json_object_size(held), 2);
    ck_assert_uint_eq(json_string_length(json_object_get(held, "reason")),
                      HW_REPORT_WORDS_MOST - 1);
    ck_assert_uint_eq(json_string_length(json_object_get(report, "agent")), 200);
}
END_TEST

static bool stand_the_same(const char *members, const char *others)
{
    HW_AUTO_JSON json_t *one = report_with(members);
    HW_AUTO_JSON json_t *two = report_with(others);
    struct hw_digest a, b;

    hw_report_standing(one, &a);
    hw_report_standing(two, &b);
    return hw_digest_equal(&a, &b);
}

#define RUNNING(revision, at)                                                                      \
    "\"running\":{\"revision\":" revision ",\"digest\":\"" DIGEST                                  \
    "\",\"epoch\":1,\"lsn\":\"0/1\",\"applied_at\":\"2026-01-31T12:00:0" at "Z\"}"

START_TEST(test_report_standing)
{
    ck_assert(stand_the_same("\"agent\":\"a\"", "\"agent\":\"b\",\"held\":{\"reason\":\"r\"}"));
    ck_assert(stand_the_same(RUNNING("1", "1"), RUNNING("1", "2")));
    ck_assert(!stand_the_same(RUNNING("1", "1"), RUNNING("2", "1")));
    ck_assert(!stand_the_same(RUNNING("1", "1"), "\"running\":null"));
    ck_assert(!stand_the_same("\"failed\":null", "\"failed\":{\"stage\":\"verify\",\"error\":\"e\","
                                                 "\"at\":\"" TIME "\"}"));
    ck_assert(
        stand_the_same("\"failed\":{\"stage\":\"verify\",\"error\":\"f\",\"at\":\"" TIME "\"}",
                       "\"failed\":{\"stage\":\"verify\",\"error\":\"e\",\"at\":\"" TIME "\"}"));
}
END_TEST

START_TEST(test_blob)
{
    struct rec_blob blob;
    struct hw_error err;

    ck_assert_int_eq(rec_blob_decode("utf-8", "abc", 3, &blob, &err), HW_OK);
    ck_assert_mem_eq(blob.data, "abc", 3);
    rec_blob_clear(&blob);
    ck_assert_int_eq(rec_blob_decode("base64", "AAH/", 4, &blob, &err), HW_OK);
    ck_assert_uint_eq(blob.size, 3);
    ck_assert_mem_eq(blob.data, "\x00\x01\xff", 3);
    rec_blob_clear(&blob);
    ck_assert_int_ne(rec_blob_decode("base64", "AAH", 3, &blob, &err), HW_OK);
    ck_assert_int_ne(rec_blob_decode("rot13", "abc", 3, &blob, &err), HW_OK);
}
END_TEST

START_TEST(test_sink_and_map)
{
    struct rec_sink *sink = rec_sink_new();
    size_t at = 0, walked = 0;

    for (int i = 0; i < 5000; i++) {
        HW_AUTO_FREE char *name = hw_sprintf("cfg.desired.node-%d", i);

        rec_sink_entry(sink, name)->seq = (uint64_t)i + 1;
        rec_sink_object(sink, name)->there = true;
    }
    rec_sink_entry(sink, "cfg.decided.node-1")->seq = 5001;
    ck_assert(rec_sink_has_key("cfg.decided.node-1") && !rec_sink_has_key("cfg.checkpoint"));
    ck_assert_uint_eq(rec_sink_nodes(sink), 5000);
    ck_assert_uint_eq(rec_sink_objects(sink), 5000);
    for (int i = 0; i < 5000; i++) {
        HW_AUTO_FREE char *name = hw_sprintf("cfg.desired.node-%d", i);

        ck_assert_uint_eq(rec_sink_entry(sink, name)->seq, (uint64_t)i + 1);
        ck_assert(rec_sink_object(sink, name)->there);
    }
    ck_assert(!rec_sink_object(sink, "cfg.desired.node-5000")->there);
    ck_assert_uint_eq(rec_sink_objects(sink), 5000);
    while (rec_sink_next(sink, &at) != NULL)
        walked++;
    ck_assert_uint_eq(walked, 5001);
    rec_sink_clear(sink);
    ck_assert_uint_eq(rec_sink_nodes(sink), 0);
    rec_sink_free(sink);
}
END_TEST

TEST_MAIN("reconciler parts", 30, test_plan, test_ledger, test_desired_value, test_decided_value,
          test_desired_columns, test_report_check, test_report_is_bounded, test_report_standing,
          test_blob, test_sink_and_map)
