/* Desired entries, their judging, the state directory, and the report that is built of it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/desired.h"
#include "agent/disk/store.h"
#include "agent/report.h"
#include "base/file.h"
#include "base/memory.h"
#include "protocol/report.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define HEX    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* of "abc" */
#define DIGEST "sha256:" HEX
#define VALUE                                                                                      \
    "{\"node\":\"n1\",\"revision\":7,\"digest\":\"" DIGEST "\",\"size\":3,"                        \
    "\"media_type\":\"text/plain\",\"object\":\"" HEX "\",\"epoch\":2,\"lsn\":\"0/10\","           \
    "\"committed_at\":\"2026-01-31T12:00:00Z\",\"sources\":[],\"later\":{\"more\":1}}"

static struct hw_error err;

static enum hw_status decode(const char *value, size_t size, bool fenced,
                             struct agent_document *document)
{
    const struct hw_entry entry = {
        .seq = 1, .fenced = fenced, .fence = {2, 0x10}, .value = value, .size = size};
    err.message[0] = '\0';
    return agent_desired_decode(&entry, "n1", NULL, document, &err);
}

/* ---- desired entries ------------------------------------------------------------------------- */

START_TEST(test_desired_decodes)
{
    struct agent_document d;
    char digest[HW_DIGEST_STR_MAX];
    ck_assert_int_eq(decode(VALUE, strlen(VALUE), true, &d), HW_OK);
    ck_assert(d.set);
    ck_assert_int_eq(d.revision, 7);
    ck_assert_str_eq(hw_digest_format(&d.digest, digest), DIGEST);
    ck_assert_uint_eq(d.size, 3);
    ck_assert_str_eq(d.media_type, "text/plain");
    ck_assert_uint_eq(d.fence.epoch, 2);
    ck_assert_uint_eq(d.fence.lsn, 0x10);
    ck_assert_str_eq(d.applied_at, "");
}
END_TEST

START_TEST(test_desired_deletion)
{
    struct hw_entry entry = {.deleted = true, .fenced = true, .fence = {3, 4}, .value = ""};
    struct agent_document d = {.set = true};
    ck_assert_int_eq(agent_desired_decode(&entry, "n1", NULL, &d, &err), HW_OK);
    ck_assert(!d.set);
    ck_assert_uint_eq(d.fence.epoch, 3);
    ck_assert_uint_eq(d.fence.lsn, 4);
    entry.fenced = false;
    ck_assert_int_eq(agent_desired_decode(&entry, "n1", NULL, &d, &err), HW_EINVAL);
}
END_TEST

/* VALUE with one piece replaced by another. */
static char *altered(const char *piece, const char *by)
{
    const char *at = strstr(VALUE, piece);
    ck_assert_msg(at != NULL, "%s is not in the value", piece);
    return hw_sprintf("%.*s%s%s", (int)(at - VALUE), VALUE, by, at + strlen(piece));
}

START_TEST(test_desired_refuses)
{
    static const struct {
        const char *piece, *by, *says;
    } cases[] = {
        {"\"n1\"", "\"n2\"", "for the node \"n2\""},
        {"\"n1\"", "1", "Expected string"},
        {"\"revision\":7", "\"revision\":0", "revision 0"},
        {"\"revision\":7", "\"revision\":-1", "revision -1"},
        {"\"revision\":7", "\"revision\":7.5", "Expected integer"},
        {"\"revision\":7", "\"revision\":\"7\"", "Expected integer"},
        {"\"revision\":7", "\"rev\":7", "revision"},
        {"\"revision\":7", "\"revision\":7,\"revision\":8", "duplicate"},
        {"\"digest\":\"sha256:b", "\"digest\":\"sha256:B", "not a digest"},
        {"\"digest\":\"sha256:b", "\"digest\":\"sha256:", "not a digest"},
        {"\"digest\":\"sha256:", "\"digest\":\"md5:", "not a digest"},
        {"\"size\":3", "\"size\":-1", "size -1"},
        {"\"size\":3", "\"size\":16777217", "size 16777217"},
        {"\"text/plain\"", "\"\"", "media type"},
        {"\"text/plain\"", "\"a\\nb\"", "media type"},
        {"\"text/plain\"", "\"a\\u0000b\"", "JSON"},
        {"\"text/plain\"", "\"t\xff\"", "JSON"},
        {"\"object\":\"b", "\"object\":\"c", "not named by the digest"},
        {"\"object\":\"b", "\"object\":\"../b", "not named by the digest"},
        {"\"epoch\":2", "\"epoch\":3", "headers say"},
        {"\"epoch\":2", "\"epoch\":0", "epoch 0"},
        {"\"lsn\":\"0/10\"", "\"lsn\":\"0/11\"", "headers say"},
        {"\"lsn\":\"0/10\"", "\"lsn\":\"10\"", "not an LSN"},
        {"\"lsn\":\"0/10\"", "\"lsn\":16", "Expected string"},
        {"{\"node\"", "[{\"node\"", "JSON"},
        {"}}", "}", "JSON"},
        {"}}", "}}x", "JSON"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        char *value = altered(cases[i].piece, cases[i].by);
        struct agent_document d = {.revision = 99};
        const enum hw_status status = decode(value, strlen(value), true, &d);
        ck_assert_msg(status == HW_EINVAL, "%s was accepted", value);
        ck_assert_msg(strstr(err.message, cases[i].says) != NULL, "%s: %s", value, err.message);
        ck_assert_int_eq(d.revision, 99);
        free(value);
    }
}
END_TEST

/* Every beginning of a value, bytes of all kinds, and a good value without the fence. */
START_TEST(test_desired_refuses_garbage)
{
    struct agent_document d;
    for (size_t len = 0; len < strlen(VALUE); len++)
        ck_assert_int_eq(decode(VALUE, len, true, &d), HW_EINVAL);
    for (int byte = 0; byte < 256; byte++)
        ck_assert_int_eq(decode(&(char){(char)byte}, 1, true, &d), HW_EINVAL);
    ck_assert_int_eq(decode(VALUE, strlen(VALUE), false, &d), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "Headwater-Epoch"));
}
END_TEST

static struct agent_document document(int64_t revision, const char *content, const char *media_type,
                                      uint64_t epoch, hw_lsn lsn)
{
    struct agent_document d = {.set = true, .revision = revision, .fence = {epoch, lsn}};
    hw_digest_of(content, strlen(content), &d.digest);
    d.size = strlen(content);
    snprintf(d.media_type, sizeof(d.media_type), "%s", media_type);
    return d;
}

START_TEST(test_desired_is_judged_by_its_fence)
{
    struct agent_state state = {.fence = {2, 100}};
    struct agent_document d = document(3, "new", "text/plain", 2, 100);
    state.running = document(2, "old", "text/plain", 2, 50);

    /* Accepted before, but neither running nor failed: interrupted. */
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_APPLY);
    d.fence.lsn = 101;
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_APPLY);
    d.fence.lsn = 99;
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_STALE);
    ck_assert_int_eq(agent_desired_judge(&state, &d, true), AGENT_DESIRED_STALE);
    /* A new epoch is newer, whatever its positions are. */
    d.fence = (struct hw_fence){3, 1};
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_APPLY);
    d.fence = (struct hw_fence){1, 1000};
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_STALE);

    d = document(5, "old", "text/plain", 2, 200);
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_ADOPT);
    strcpy(d.media_type, "text/html");
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_APPLY);
    d = document(2, "old", "text/plain", 2, 50);
    state.fence.lsn = 50;
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_KNOWN);
    ck_assert_int_eq(agent_desired_judge(&state, &d, true), AGENT_DESIRED_KNOWN);
}
END_TEST

START_TEST(test_desired_that_failed_waits_for_something_newer)
{
    struct agent_state state = {.fence = {1, 10}, .failed = {.set = true}};
    struct agent_document d = document(3, "bad", "text/plain", 1, 10);
    state.failed.document = d;
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_KNOWN);
    ck_assert_int_eq(agent_desired_judge(&state, &d, true), AGENT_DESIRED_APPLY);
    d.fence.lsn = 11;
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_APPLY);
}
END_TEST

START_TEST(test_desired_deletions_are_judged)
{
    const struct agent_state state = {.fence = {1, 10}};
    struct agent_document d = {.fence = {1, 9}};
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_STALE);
    d.fence.lsn = 10;
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_KNOWN);
    d.fence.lsn = 11;
    ck_assert_int_eq(agent_desired_judge(&state, &d, false), AGENT_DESIRED_NONE);
}
END_TEST

/* ---- text ------------------------------------------------------------------------------------ */

START_TEST(test_text_is_clean)
{
    static const struct {
        const char *bytes, *clean;
        size_t size;
    } cases[] = {
        {"plain\ttext\n", "plain\ttext\n", 64},
        {"\033[31mred\r\x7f", "?[31mred??", 64},
        {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9", 64},
        {"\xc3", "?", 64},
        {"\xff\xfe", "??", 64},
        {"\xc0\xaf", "??", 64},           /* overlong */
        {"\xe0\x9f\xbf", "???", 64},      /* overlong */
        {"\xed\xa0\x80", "???", 64},      /* a surrogate */
        {"\xf4\x90\x80\x80", "????", 64}, /* above U+10FFFF */
        {"\xf0\x9f\x8c\x8a", "\xf0\x9f\x8c\x8a", 5},
        {"\xf0\x9f\x8c\x8a", "", 4}, /* not a part of a character */
        {"abcd", "abc", 4},
        {"", "", 1},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        char out[64];
        agent_text_clean(out, cases[i].size, cases[i].bytes, strlen(cases[i].bytes));
        ck_assert_str_eq(out, cases[i].clean);
    }
    char out[8];
    agent_text_clean(out, sizeof(out), "a\0b", 3);
    ck_assert_str_eq(out, "a?b");
}
END_TEST

/* ---- the state directory --------------------------------------------------------------------- */

static struct agent_state full_state(void)
{
    struct agent_state s = {.fence = {2, 0x1234567890}, .desired_revision = 9};
    s.running = document(8, "running", "application/json", 2, 0x10);
    strcpy(s.running.applied_at, "2026-01-31T12:00:00.000Z");
    s.previous = document(0, "found", "", 0, 0);
    s.failed = (struct agent_failure){.set = true, .stage = AGENT_STAGE_APPLY};
    s.failed.document = document(9, "failed", "text/plain", 2, 0x1234567890);
    strcpy(s.failed.error, "it said \"no\"\n\xc3\xa9");
    strcpy(s.failed.at, "2026-01-31T12:00:01.000Z");
    s.refused.set = true;
    strcpy(s.refused.error, "nonsense");
    strcpy(s.refused.at, "2026-01-31T12:00:02.000Z");
    s.trial.fence = (struct hw_fence){2, 7};
    s.trial.attempts = 2;
    s.trial.open = true;
    s.nothing = true;
    s.unconfirmed = true;
    return s;
}

static void expect_same(const struct agent_state *a, const struct agent_state *b)
{
    char *x = agent_state_encode(a, "n1");
    char *y = agent_state_encode(b, "n1");
    ck_assert_str_eq(x, y);
    free(x);
    free(y);
}

START_TEST(test_state_goes_through_text)
{
    const struct agent_state state = full_state(), nothing = {0};
    const struct agent_state *const states[] = {&state, &nothing};
    for (size_t i = 0; i < HW_COUNT(states); i++) {
        char *text = agent_state_encode(states[i], "n1");
        struct agent_state back;
        ck_assert_ptr_nonnull(text);
        ck_assert_msg(agent_state_decode(text, strlen(text), "n1", &back, &err) == HW_OK, "%s",
                      err.message);
        expect_same(states[i], &back);
        ck_assert_int_eq(agent_state_decode(text, strlen(text), "n2", &back, &err), HW_ECONFLICT);
        for (size_t len = 0; len < strlen(text); len++)
            ck_assert_int_eq(agent_state_decode(text, len, "n1", &back, &err), HW_EINVAL);
        free(text);
    }
    ck_assert_str_eq(state.failed.error, "it said \"no\"\n\xc3\xa9");
}
END_TEST

static struct agent_store *open_store(const char *dir)
{
    struct agent_store *store;
    ck_assert_msg(agent_store_open(dir, &store, &err) == HW_OK, "%s", err.message);
    return store;
}

START_TEST(test_store_keeps_the_state)
{
    char *dir = test_temp_dir();
    const struct agent_state state = full_state();
    struct agent_store *store = open_store(dir);
    ck_assert_int_eq(agent_store_load(store, "n1", &err), HW_OK);
    ck_assert_uint_eq(agent_store_state(store)->fence.epoch, 0);
    ck_assert_int_eq(agent_store_save(store, &state, &err), HW_OK);
    agent_store_close(store);

    store = open_store(dir);
    ck_assert_int_eq(agent_store_load(store, "n1", &err), HW_OK);
    expect_same(agent_store_state(store), &state);
    ck_assert_int_eq(agent_store_load(store, "n2", &err), HW_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(err.message, "n1"));
    agent_store_close(store);
    free(dir);
}
END_TEST

START_TEST(test_store_belongs_to_one_agent)
{
    char *dir = test_temp_dir();
    char *below = hw_sprintf("%s/not/there/yet", dir);
    struct agent_store *store = open_store(below), *second = NULL;
    ck_assert_int_eq(agent_store_open(below, &second, &err), HW_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(err.message, below));
    ck_assert_ptr_null(second);
    agent_store_close(store);
    agent_store_close(open_store(below));
    free(below);
    free(dir);
}
END_TEST

START_TEST(test_damaged_state_is_set_aside)
{
    char *text = agent_state_encode(&(struct agent_state){.fence = {1, 1}}, "n1");
    const char *const damaged[] = {"", "{", "garbage\xff", "{\"format\":1,\"node\":\"n1\"}",
                                   "{\"format\":99,\"node\":\"n1\"}"};
    text[strlen(text) / 2] = '\0';
    for (size_t i = 0; i <= HW_COUNT(damaged); i++) {
        const char *content = i < HW_COUNT(damaged) ? damaged[i] : text;
        char *dir = test_temp_dir();
        char *path = hw_sprintf("%s/state.json", dir);
        char *bad = hw_sprintf("%s.bad", path);
        ck_assert_int_eq(hw_file_replace(path, content, strlen(content), 0600, &err), HW_OK);
        struct agent_store *store = open_store(dir);
        ck_assert_int_eq(agent_store_load(store, "n1", &err), HW_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(err.message, path));
        ck_assert_uint_eq(agent_store_state(store)->fence.epoch, 0);
        ck_assert_int_ne(access(path, F_OK), 0);
        char *kept = test_read_file(bad);
        ck_assert_str_eq(kept, content);
        free(kept);
        agent_store_close(store);
        free(bad);
        free(path);
        free(dir);
    }
    free(text);
}
END_TEST

START_TEST(test_store_keeps_copies)
{
    char *dir = test_temp_dir();
    struct agent_store *store = open_store(dir);
    const struct agent_document one = document(1, "one", "text/plain", 1, 1);
    const struct agent_document two = document(2, "two", "text/plain", 1, 2);
    const struct agent_document empty = document(3, "", "text/plain", 1, 3);
    struct agent_state state = {.running = two, .previous = empty};
    char hex[HW_DIGEST_HEX_MAX], *data;
    ck_assert_int_eq(agent_store_load(store, "n1", &err), HW_OK);
    ck_assert_int_eq(agent_store_get(store, &one, &data, &err), HW_ENOENT);
    ck_assert_int_eq(agent_store_put(store, &one, "one", &err), HW_OK);
    ck_assert_int_eq(agent_store_put(store, &two, "two", &err), HW_OK);
    ck_assert_int_eq(agent_store_put(store, &empty, "", &err), HW_OK);
    ck_assert_int_eq(agent_store_get(store, &one, &data, &err), HW_OK);
    ck_assert_str_eq(data, "one");
    free(data);
    ck_assert_int_eq(agent_store_save(store, &state, &err), HW_OK);
    agent_store_sweep(store);
    ck_assert_int_eq(agent_store_get(store, &one, &data, &err), HW_ENOENT);
    ck_assert_int_eq(agent_store_get(store, &two, &data, &err), HW_OK);
    free(data);
    ck_assert_int_eq(agent_store_get(store, &empty, &data, &err), HW_OK);
    ck_assert_str_eq(data, "");
    free(data);

    char *path = hw_sprintf("%s/blob/%s", dir, hw_digest_hex(&two.digest, hex));
    ck_assert_int_eq(hw_file_replace(path, "twO", 3, 0600, &err), HW_OK);
    ck_assert_int_eq(agent_store_get(store, &two, &data, &err), HW_ECORRUPT);
    ck_assert_int_eq(hw_file_replace(path, "two and more", 12, 0600, &err), HW_OK);
    ck_assert_int_eq(agent_store_get(store, &two, &data, &err), HW_ECORRUPT);
    agent_store_close(store);
    free(path);
    free(dir);
}
END_TEST

/* ---- the report ------------------------------------------------------------------------------ */

static void expect_report(const struct agent_state *state, const char *expected)
{
    json_t *report = agent_report_build(state, "n1", "boot", NULL, 0);
    json_t *wanted = json_loads(expected, 0, NULL);
    ck_assert_ptr_nonnull(report);
    ck_assert_ptr_nonnull(wanted);
    json_object_set_new(wanted, "agent", json_incref(json_object_get(report, "agent")));
    json_object_set_new(wanted, "node", json_string("n1"));
    json_object_set_new(wanted, "boot_id", json_string("boot"));
    if (!json_equal(report, wanted)) {
        char *text = hw_json_dump(report);
        ck_abort_msg("%s instead of %s", text, expected);
    }
    char *text = agent_report_text(report);
    ck_assert_ptr_nonnull(strstr(text, "\"reported_at\":\"20"));
    ck_assert(hw_report_matches(report, text, strlen(text)));
    ck_assert(!hw_report_matches(report, text, strlen(text) - 1));
    ck_assert(!hw_report_matches(report, "{}", 2));
    free(text);
    json_decref(wanted);
    json_decref(report);
}

START_TEST(test_report_of_every_state)
{
    struct agent_state s = {0};
    ck_assert_ptr_null(agent_report_build(&s, "n1", "boot", NULL, 0));

    s.fence = (struct hw_fence){1, 0x20};
    expect_report(&s, "{\"state\":\"applied\",\"running\":null,\"failed\":null,"
                      "\"desired_revision\":null}");
    s.running = document(7, "abc", "text/plain", 1, 0x20);
    strcpy(s.running.applied_at, "then");
    s.desired_revision = 7;
#define RUNNING                                                                                    \
    "\"running\":{\"revision\":7,\"digest\":\"" DIGEST "\",\"epoch\":1,\"lsn\":\"0/20\","          \
    "\"applied_at\":\"then\"}"
    expect_report(&s, "{\"state\":\"applied\"," RUNNING ",\"failed\":null,\"desired_revision\":7}");

    s.desired_revision = 8;
    s.failed = (struct agent_failure){.set = true, .stage = AGENT_STAGE_APPLY};
    s.failed.document = document(8, "abc", "text/plain", 1, 0x30);
    strcpy(s.failed.error, "no");
    strcpy(s.failed.at, "now");
#define FAILURE(stage)                                                                             \
    "\"failed\":{\"revision\":8,\"digest\":\"" DIGEST "\",\"epoch\":1,\"lsn\":\"0/30\","           \
    "\"stage\":\"" stage "\",\"error\":\"no\",\"at\":\"now\"}"
    expect_report(&s,
                  "{\"state\":\"failed\"," RUNNING "," FAILURE("apply") ","
                                                                        "\"desired_revision\":8}");
    s.failed.stage = AGENT_STAGE_FETCH;
    expect_report(&s,
                  "{\"state\":\"failed\"," RUNNING "," FAILURE("fetch") ","
                                                                        "\"desired_revision\":8}");
    s.failed.stage = AGENT_STAGE_VERIFY;
    expect_report(&s, "{\"state\":\"rejected\"," RUNNING
                      "," FAILURE("verify") ","
                                            "\"desired_revision\":8}");
    s.refused.set = true;
    strcpy(s.refused.error, "bad");
    strcpy(s.refused.at, "now");
    expect_report(&s, "{\"state\":\"rejected\"," RUNNING ",\"failed\":{\"revision\":null,"
                      "\"digest\":null,\"epoch\":null,\"lsn\":null,\"stage\":\"verify\","
                      "\"error\":\"bad\",\"at\":\"now\"},\"desired_revision\":8}");

    s.failed.set = s.refused.set = false;
    s.hold = (struct agent_hold){.set = true, .since = "then", .reason = "run 1", .waiting = 9};
    s.drift = (struct agent_drift){.set = true, .healed = true, .at = "now", .error = "gone"};
    expect_report(&s, "{\"state\":\"applied\"," RUNNING ",\"failed\":null,\"desired_revision\":8,"
                      "\"held\":{\"since\":\"then\",\"reason\":\"run 1\",\"waiting\":9},"
                      "\"drift\":{\"at\":\"now\",\"healed\":true,\"error\":\"gone\"}}");
    s.hold.waiting = 0;
    s.drift.set = false;
    expect_report(&s, "{\"state\":\"applied\"," RUNNING ",\"failed\":null,\"desired_revision\":8,"
                      "\"held\":{\"since\":\"then\",\"reason\":\"run 1\",\"waiting\":null}}");
}
END_TEST

START_TEST(test_hold_is_a_file)
{
    char *dir = test_temp_dir();
    char *path = hw_sprintf("%s/hold", dir);
    struct agent_hold hold, again;
    agent_hold_read(dir, &hold);
    ck_assert(!hold.set);
    ck_assert_int_eq(agent_hold_end(dir, &err), HW_OK);
    ck_assert_int_eq(agent_hold_set(dir, "first\x1b", &err), HW_OK);
    agent_hold_read(dir, &hold);
    ck_assert(hold.set);
    ck_assert_str_eq(hold.reason, "first?");
    ck_assert_uint_eq(strlen(hold.since), 24);
    /* Another reason, the same beginning. */
    ck_assert_int_eq(agent_hold_set(dir, "second", &err), HW_OK);
    agent_hold_read(dir, &again);
    ck_assert_str_eq(again.reason, "second");
    ck_assert_str_eq(again.since, hold.since);
    ck_assert_int_eq(agent_hold_end(dir, &err), HW_OK);
    agent_hold_read(dir, &hold);
    ck_assert(!hold.set);
    /* Whatever is in it: it holds. */
    ck_assert_int_eq(hw_file_replace(path, "", 0, 0600, &err), HW_OK);
    agent_hold_read(dir, &hold);
    ck_assert(hold.set);
    ck_assert_str_eq(hold.reason, "");
    free(path);
    free(dir);
}
END_TEST

TEST_MAIN("agent state", 10, test_desired_decodes, test_desired_deletion, test_desired_refuses,
          test_desired_refuses_garbage, test_desired_is_judged_by_its_fence,
          test_desired_that_failed_waits_for_something_newer, test_desired_deletions_are_judged,
          test_text_is_clean, test_state_goes_through_text, test_store_keeps_the_state,
          test_store_belongs_to_one_agent, test_damaged_state_is_set_aside, test_store_keeps_copies,
          test_report_of_every_state, test_hold_is_a_file)
