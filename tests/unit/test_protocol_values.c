/*
 * The words on the wire as docs/protocol.md has them, spelled here once more on purpose; and that
 * what one side writes the other reads.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/names.h"
#include "protocol/decided.h"
#include "protocol/desired.h"
#include "protocol/entry.h"
#include "protocol/keys.h"
#include "protocol/proposal.h"
#include "protocol/report.h"
#include "protocol/subjects.h"
#include "tests/support/suite.h"

#define HEX    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define DIGEST "sha256:" HEX

static const struct hw_fence fence = {.epoch = 2, .lsn = 0x16B3748};
static struct hw_error err;

static void expect(char *text, const char *expected)
{
    ck_assert_str_eq(text, expected);
    free(text);
}

START_TEST(test_words)
{
    ck_assert_str_eq(HW_KEY_DESIRED "n", "cfg.desired.n");
    ck_assert_str_eq(HW_KEY_DECIDED "n", "cfg.decided.n");
    ck_assert_str_eq(HW_KEY_REPORTED "n", "cfg.reported.n");
    ck_assert_str_eq(HW_KEY_PROPOSED "n", "cfg.proposed.n");
    ck_assert_str_eq(HW_KEY_CHECKPOINT, "cfg.checkpoint");
    ck_assert_str_eq(HW_HEADER_EPOCH, "Headwater-Epoch");
    ck_assert_str_eq(HW_HEADER_LSN, "Headwater-LSN");
    ck_assert_str_eq(HW_HEADER_SIGNATURE, "Headwater-Signature");
    expect(hw_reports_bucket("b"), "b_reports");
    expect(hw_subject_leader("b"), "b.leader");
    expect(hw_subject_alive("b", "n.1"), "b.alive.n.1");
    expect(hw_subject_stream("b", "KV_b"), "b.streams.KV_b");
    expect(hw_subject_hint("b", HW_HINT_DESIRED, "n"), "b.desired.n");
    expect(hw_subject_hint("b", HW_HINT_DECIDED, "n"), "b.decided.n");
    ck_assert_str_eq(hw_desired_node("cfg.desired.a.b"), "a.b");
    ck_assert_ptr_null(hw_desired_node("cfg.decided.a"));
    ck_assert_str_eq(hw_decided_node("cfg.decided.a"), "a");
    ck_assert_ptr_null(hw_decided_node("cfg.checkpoint"));
}
END_TEST

START_TEST(test_desired)
{
    const struct hw_desired desired = {.node = "n1",
                                       .revision = 3,
                                       .digest = DIGEST,
                                       .size = 20,
                                       .media_type = "a/b; c=\"d\"",
                                       .sources = "[{\"config\": \"base\"}]",
                                       .committed_at = "2026-01-31T12:00:00Z"};
    struct hw_desired_value value;
    size_t size;
    HW_AUTO_FREE char *text = hw_desired_write(&desired, fence, &size);

    ck_assert_int_eq(hw_desired_read(text, size, &value, &err), HW_OK);
    ck_assert_str_eq(value.desired.node, "n1");
    ck_assert_int_eq(value.desired.revision, 3);
    ck_assert_str_eq(value.desired.digest, DIGEST);
    ck_assert_int_eq(value.desired.size, 20);
    ck_assert_str_eq(value.desired.media_type, desired.media_type);
    ck_assert_int_eq(hw_fence_compare(value.fence, fence), 0);
    ck_assert_uint_eq(json_array_size(value.sources), 1);
    hw_desired_clear(&value);
    /* The sources tell people something, and decide nothing. */
    HW_AUTO_FREE char *bare = hw_strdup(text);
    memcpy(strstr(bare, "\"sources\""), "\"nothing\"", 9);
    ck_assert_int_eq(hw_desired_read(bare, size, &value, &err), HW_OK);
    ck_assert_ptr_null(value.sources);
    hw_desired_clear(&value);
}
END_TEST

START_TEST(test_decided)
{
    const struct hw_decided decided = {
        .node = "n1",
        .decisions = "[{\"ref\":\"a\",\"id\":7,\"config\":null,\"state\":\"refused\","
                     "\"reason\":\"why\",\"revision\":null},{\"ref\":\"b\"}]",
        .committed_at = "2026-01-31T12:00:00Z"};
    struct hw_decided_value value;
    struct hw_decision decision;
    size_t size;
    HW_AUTO_FREE char *text = hw_decided_write(&decided, fence, &size);

    ck_assert_int_eq(hw_decided_read(text, size, &value, &err), HW_OK);
    ck_assert_str_eq(value.node, "n1");
    ck_assert_int_eq(hw_fence_compare(value.fence, fence), 0);
    ck_assert_int_eq(hw_decided_find(&value, "a", &decision, &err), HW_OK);
    ck_assert_int_eq(decision.id, 7);
    ck_assert_int_eq(decision.revision, 0);
    ck_assert_str_eq(decision.config, "");
    ck_assert_str_eq(decision.state, "refused");
    ck_assert_str_eq(decision.reason, "why");
    ck_assert_int_eq(hw_decided_find(&value, "b", &decision, &err), HW_EINVAL);
    ck_assert_int_eq(hw_decided_find(&value, "c", &decision, &err), HW_ENOENT);
    hw_decided_clear(&value);
}
END_TEST

START_TEST(test_report)
{
    struct hw_report_document running = {.revision = 3, .fence = fence};
    struct hw_report report = {.node = "n1",
                               .state = "failed",
                               .running = &running,
                               .applied_at = "2026-01-31T12:00:00Z",
                               .desired_revision = 4,
                               .agent = "test",
                               .boot_id = "boot",
                               .heartbeat_s = 30,
                               .failed = {true, NULL, "verify", "words", "2026-01-31T12:00:01Z"},
                               .held = {true, "2026-01-31T12:00:02Z", "because", 0},
                               .drift = {true, "2026-01-31T12:00:03Z", "", true}};
    HW_AUTO_JSON json_t *json = hw_report_json(&report);
    HW_AUTO_FREE char *text = hw_report_write(json, "2026-01-31T12:00:04Z");
    HW_AUTO_JSON json_t *read = NULL;
    struct hw_fence newest;

    ck_assert_ptr_nonnull(json);
    ck_assert_int_eq(hw_report_read("n1", text, strlen(text), &read, &newest, &err), HW_OK);
    ck_assert_int_eq(hw_fence_compare(newest, fence), 0);
    ck_assert(hw_report_matches(json, text, strlen(text)));
    /* Who wrote it is no part of what it says. */
    char instance[HW_NAME_MOST + 1];
    hw_report_instance(text, strlen(text), instance);
    ck_assert_str_eq(instance, "");
    report.instance = "rack7-1";
    HW_AUTO_JSON json_t *named = hw_report_json(&report);
    HW_AUTO_FREE char *written = hw_report_write(named, "2026-01-31T12:00:05Z");
    HW_AUTO_JSON json_t *again = NULL;
    ck_assert_int_eq(hw_report_read("n1", written, strlen(written), &again, &newest, &err), HW_OK);
    ck_assert_str_eq(json_string_value(json_object_get(again, "instance")), "rack7-1");
    hw_report_instance(written, strlen(written), instance);
    ck_assert_str_eq(instance, "rack7-1");
    ck_assert(hw_report_matches(named, text, strlen(text)));
    ck_assert(hw_report_matches(json, written, strlen(written)));
    report.instance = "no name";
    HW_AUTO_JSON json_t *wrong = hw_report_json(&report);
    HW_AUTO_FREE char *refused = hw_report_write(wrong, "2026-01-31T12:00:05Z");
    ck_assert_int_eq(hw_report_read("n1", refused, strlen(refused), &again, &newest, &err),
                     HW_EINVAL);
    hw_report_instance(refused, strlen(refused), instance);
    ck_assert_str_eq(instance, "");
    report.held.waiting = 4;
    HW_AUTO_JSON json_t *other = hw_report_json(&report);
    ck_assert(!hw_report_matches(other, text, strlen(text)));
}
END_TEST

START_TEST(test_proposal)
{
    struct hw_proposal proposal = {.node = "n1",
                                   .ref = "r-1",
                                   .config = "base",
                                   .base_revision = 4,
                                   .data = "\xff\0x",
                                   .size = 3,
                                   .message = "why"};
    HW_AUTO_JSON json_t *members = NULL;
    HW_AUTO_FREE char *ref = NULL;
    size_t size;
    HW_AUTO_FREE char *text = hw_proposal_write(&proposal, &size);

    ck_assert_int_eq(hw_proposal_read("n1", text, size, &members, &ref, &err), HW_OK);
    ck_assert_str_eq(ref, "r-1");
    ck_assert_str_eq(json_string_value(json_object_get(members, "encoding")), "base64");
    ck_assert_str_eq(json_string_value(json_object_get(members, "content")), "/wB4");
    ck_assert_ptr_null(json_object_get(members, "media_type"));
    /* The word for it is known although the proposal is of another node. */
    free(HW_TAKE(ref));
    ck_assert_int_eq(hw_proposal_read("n2", text, size, &members, &ref, &err), HW_EINVAL);
    ck_assert_str_eq(ref, "r-1");
    ck_assert(hw_proposal_ref_valid("a-_9") && !hw_proposal_ref_valid("") &&
              !hw_proposal_ref_valid("a.b"));
}
END_TEST

START_TEST(test_names)
{
    static const char *const good[] = {"a", "A-1_b", "a.b.c"};
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "a b", "a/b", "a*", "\xc3\xa4"};
    char name[HW_NAME_MOST + 2] = "";

    for (size_t i = 0; i < HW_COUNT(good); i++)
        ck_assert_msg(hw_name_valid(good[i]), "refused %s", good[i]);
    for (size_t i = 0; i < HW_COUNT(bad); i++)
        ck_assert_msg(!hw_name_valid(bad[i]), "took %s", bad[i]);
    memset(name, 'x', HW_NAME_MOST + 1);
    ck_assert(hw_name_is_dotted(name) && !hw_name_valid(name));
    name[HW_NAME_MOST] = '\0';
    ck_assert(hw_name_valid(name));
}
END_TEST

TEST_MAIN("protocol", 30, test_words, test_desired, test_decided, test_report, test_proposal,
          test_names)
