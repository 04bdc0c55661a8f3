/* The reconciler's parts that need no server: snapshots, values, reports, blobs, what it knows. */
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/map.h"
#include "common/memory.h"
#include "reconciler/blob.h"
#include "reconciler/desired.h"
#include "reconciler/reports.h"
#include "reconciler/sink.h"
#include "reconciler/snapshot.h"
#include "tests/support/suite.h"

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

START_TEST(test_moment)
{
    static const char *const wrong[] = {"", "5", "5:6", "5:x:", ":6:", "5:6:7,x", "-5:6:"};
    struct rec_moment moment;
    struct hw_error err;

    ck_assert_int_eq(rec_moment_parse("100:110:100,105", "0/1A", &moment, &err), HW_OK);
    ck_assert_uint_eq(moment.lsn, 0x1A);
    ck_assert(rec_moment_sees(&moment, 99));
    ck_assert(!rec_moment_sees(&moment, 100));
    ck_assert(rec_moment_sees(&moment, 101));
    ck_assert(!rec_moment_sees(&moment, 105));
    ck_assert(!rec_moment_sees(&moment, 110));
    ck_assert(!rec_moment_sees(&moment, 4000));
    rec_moment_clear(&moment);

    /* xids wrap at 32 bits; the snapshot's do not. */
    ck_assert_int_eq(rec_moment_parse("4294967290:4294967310:4294967300", "1/0", &moment, &err),
                     HW_OK);
    ck_assert(rec_moment_sees(&moment, 4294967289U)); /* before the wrap */
    ck_assert(rec_moment_sees(&moment, 4294967295U));
    ck_assert(!rec_moment_sees(&moment, 4)); /* 4294967300, running */
    ck_assert(rec_moment_sees(&moment, 5));
    ck_assert(!rec_moment_sees(&moment, 14)); /* 4294967310, xmax */
    rec_moment_clear(&moment);

    for (size_t i = 0; i < HW_COUNT(wrong); i++)
        ck_assert_int_ne(rec_moment_parse(wrong[i], "0/1", &moment, &err), HW_OK);
    ck_assert_int_ne(rec_moment_parse("1:1:", "nowhere", &moment, &err), HW_OK);
}
END_TEST

START_TEST(test_desired_value)
{
    const struct rec_desired row = {
        .node = "n1",
        .revision = 3,
        .digest = DIGEST,
        .size = 20,
        .media_type = "application/json; note=\"a\"",
        .sources = "[{\"config\": \"base\", \"revision\": 1, \"assignment\": \"all\"}]",
        .committed_at = "2026-01-31T12:00:00.000001Z",
    };
    struct rec_desired other = row;
    size_t size;
    HW_AUTO_FREE char *value =
        rec_desired_value(&row, (struct hw_fence){.epoch = 2, .lsn = 0x16B3748}, &size);

    ck_assert_uint_eq(size, strlen(value));
    ck_assert_str_eq(
        value, "{\"node\":\"n1\",\"revision\":3,\"digest\":\"" DIGEST "\",\"size\":20,"
               "\"media_type\":\"application/json; note=\\\"a\\\"\",\"object\":"
               "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\","
               "\"epoch\":2,\"lsn\":\"0/16B3748\",\"committed_at\":\"2026-01-31T12:00:00.000001Z\","
               "\"sources\":[{\"config\": \"base\", \"revision\": 1, \"assignment\": \"all\"}]}");
    /* The same but for fence and time has the same hash; anything else does not. */
    ck_assert_uint_eq(rec_desired_hash_of_value(value, size), rec_desired_hash(&row));
    other.revision = 4;
    ck_assert_uint_ne(rec_desired_hash(&other), rec_desired_hash(&row));
    other = row;
    other.sources = "[]";
    ck_assert_uint_ne(rec_desired_hash(&other), rec_desired_hash(&row));
    ck_assert_uint_eq(rec_desired_hash_of_value("{}", 2), 0);
    ck_assert_uint_eq(rec_desired_hash_of_value("garbage", 7), 0);
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
    struct rec_desired row;
    struct hw_error err;

    for (size_t i = 0; i < HW_COUNT(wrong); i++) {
        json_t *columns = json_loads(wrong[i], 0, NULL);

        ck_assert_ptr_nonnull(columns);
        ck_assert_int_eq(rec_desired_from_columns(columns, "", &row, &err), HW_EPROTO);
        ck_assert_ptr_nonnull(strstr(err.message, "desired"));
        json_decref(columns);
    }
}
END_TEST

START_TEST(test_report_check)
{
    static const char good[] = "{\"node\":\"n1\",\"state\":\"failed\",\"running\":null,\"failed\":"
                               "{\"revision\":1,\"digest\":\"d\",\"epoch\":1,\"lsn\":\"0/1\","
                               "\"stage\":\"apply\",\"error\":\"e\",\"at\":\"t\"}}";
    struct hw_error err;

    ck_assert_int_eq(rec_report_check("n1", good, strlen(good), &err), HW_OK);
    ck_assert_int_eq(rec_report_check("n2", good, strlen(good), &err), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "n1"));
    HW_AUTO_FREE char *large = hw_alloc(100000);
    memset(large, ' ', 99999);
    ck_assert_int_eq(rec_report_check("n1", large, 99999, &err), HW_ELIMIT);
    HW_AUTO_FREE char *no_lsn = hw_strdup(good);
    memcpy(strstr(no_lsn, "0/1"), "0-1", 3);
    ck_assert_int_eq(rec_report_check("n1", no_lsn, strlen(no_lsn), &err), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "failed"));

    /* The entry could not be read: what it was about is not known, all of it or nothing. */
    static const char refused[] =
        "{\"node\":\"n1\",\"state\":\"rejected\",\"running\":null,\"failed\":{\"revision\":null,"
        "\"digest\":null,\"epoch\":null,\"lsn\":null,\"stage\":\"verify\",\"error\":\"e\","
        "\"at\":\"t\"}}";
    ck_assert_int_eq(rec_report_check("n1", refused, strlen(refused), &err), HW_OK);
    HW_AUTO_FREE char *half = hw_strdup(refused);
    memcpy(strstr(half, "null,\"stage"), "1234", 4);
    ck_assert_int_eq(rec_report_check("n1", half, strlen(half), &err), HW_EINVAL);
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
        HW_AUTO_FREE char *name = hw_sprintf("node-%d", i);

        rec_sink_entry(sink, name)->seq = (uint64_t)i + 1;
        rec_sink_add_object(sink, name);
        rec_sink_add_object(sink, name);
    }
    ck_assert_uint_eq(rec_sink_count(sink), 5000);
    ck_assert_uint_eq(rec_sink_objects(sink), 5000);
    for (int i = 0; i < 5000; i++) {
        HW_AUTO_FREE char *name = hw_sprintf("node-%d", i);

        ck_assert_uint_eq(rec_sink_entry(sink, name)->seq, (uint64_t)i + 1);
        ck_assert(rec_sink_has_object(sink, name));
    }
    ck_assert(!rec_sink_has_object(sink, "node-5000"));
    while (rec_sink_next(sink, &at) != NULL)
        walked++;
    ck_assert_uint_eq(walked, 5000);
    rec_sink_clear(sink);
    ck_assert_uint_eq(rec_sink_count(sink), 0);
    rec_sink_free(sink);
}
END_TEST

TEST_MAIN("reconciler parts", 30, test_moment, test_desired_value, test_desired_columns,
          test_report_check, test_blob, test_sink_and_map)
