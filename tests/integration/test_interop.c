/*
 * Another vendor's client, the JavaScript one of npm, reads the keys and objects that we wrote, and
 * we read its. Skipped, with a sentence, where Node.js, npm or its registry is missing.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "nats/kv.h"
#include "nats/objstore.h"
#include "tests/support/node.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

enum { SKIPPED = 77 };

static const size_t sizes[] = {
    0,       1, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 1 << 20, (1 << 20) - 1, (1 << 20) + 1,
    16 << 20};
static const size_t their_sizes[] = {
    0, 1, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, (1 << 20) + 1, 16 << 20};

static struct test_nats server;
static struct hw_loop *loop;
static struct hw_nats *nats;
static struct hw_error err;
static char *node_dir; /* where the packages are installed */

#define OK(call)                                                                                   \
    do {                                                                                           \
        err = (struct hw_error){0};                                                                \
        ck_assert_msg((call) == HW_OK, #call ": %s", err.message);                                 \
    } while (0)

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static void begin(void)
{
    static bool up;
    const struct hw_nats_options options = {
        .url = server.url, .name = "interop", .timeout_ms = test_patient_ms(10000)};
    const struct hw_nats_events events = {.up = set_flag, .arg = &up};
    OK(hw_loop_new(&loop, &err));
    OK(hw_nats_open(loop, &options, &events, &nats, &err));
    ck_assert(hw_loop_run_until(loop, &up, test_patient_ms(30000)));
}

static void end(void)
{
    hw_nats_close(nats);
    hw_loop_free(loop);
}

static uint64_t put(const char *key, const char *value)
{
    uint64_t seq;
    OK(hw_kv_put(nats, "ours", key, value, value != NULL ? strlen(value) : 0, HW_SEQ_ANY, &seq,
                 &err));
    return seq;
}

static void on_put(void *arg, const struct hw_ack *ack)
{
    ck_assert_msg(ack->status == HW_OK, "%s", ack->err.message);
    set_flag(arg);
}

/* Keys and objects for the other client; adds to lines what it must print of them. */
static void write_ours(struct hw_buf *lines)
{
    const struct hw_kv_config config = {.bucket = "ours",
                                        .description = "written by Headwater",
                                        .history = 16,
                                        .replicas = 1,
                                        .republish_from = "$KV.ours.cfg.>",
                                        .republish_to = "hints.>"};
    struct hw_kv_stream stream;
    OK(hw_kv_ensure(nats, &config, &stream, &err));
    put("cfg.twice", "one");
    const uint64_t empty = put("cfg.empty", "");
    put("cfg.gone", "x");
    put("cfg.gone", NULL);
    const uint64_t twice = put("cfg.twice", "two");
    hw_buf_printf(lines, "key cfg.empty revision %lu PUT \n", (unsigned long)empty);
    hw_buf_printf(lines, "key cfg.twice revision %lu PUT two\n", (unsigned long)twice);
    hw_buf_puts(lines, "key cfg.gone DEL\nhistory of cfg.twice one two\n");

    HW_AUTO_FREE unsigned char *data = hw_alloc(16 << 20);
    for (size_t i = 0; i < 16 << 20; i++)
        data[i] = (unsigned char)((i * 2654435761U) >> 11);
    OK(hw_obj_ensure(nats, "ours", 1, &err));
    for (size_t i = 0; i < HW_COUNT(sizes); i++) {
        struct hw_digest digest;
        char name[HW_DIGEST_HEX_MAX];
        bool done = false;
        hw_digest_of(data, sizes[i], &digest);
        OK(hw_obj_put(nats, "ours", hw_digest_hex(&digest, name), data, sizes[i], on_put, &done,
                      &err));
        ck_assert(hw_loop_run_until(loop, &done, test_patient_ms(30000)));
    }
    static const size_t sorted[] = {0,
                                    1,
                                    (128 << 10) - 1,
                                    128 << 10,
                                    (128 << 10) + 1,
                                    (1 << 20) - 1,
                                    1 << 20,
                                    (1 << 20) + 1,
                                    16 << 20};
    for (size_t i = 0; i < HW_COUNT(sorted); i++)
        hw_buf_printf(lines, "object of %zu bytes arrived\n", sorted[i]);
    hw_buf_puts(lines, "purge is refused\ncreate over an entry is refused\n"
                       "purge is accepted\ncreate over an entry is refused\ndone\n");
}

static void expect_key(const char *bucket, const char *key, const char *value)
{
    struct hw_kv_entry entry;
    OK(hw_kv_get(nats, bucket, key, &entry, &err));
    ck_assert_int_eq(entry.deleted, value == NULL);
    if (value != NULL) {
        ck_assert_uint_eq(entry.size, strlen(value));
        ck_assert_mem_eq(entry.value, value, entry.size);
    }
    hw_kv_entry_clear(&entry);
}

static void read_theirs(const char *bucket)
{
    unsigned char *got = NULL;
    size_t size;
    expect_key(bucket, "js.plain", "written by JavaScript");
    expect_key(bucket, "js.empty", "");
    expect_key(bucket, "js.gone", NULL);
    expect_key(bucket, "js.created", "updated");
    for (size_t i = 0; i < HW_COUNT(their_sizes); i++) {
        char name[32];
        snprintf(name, sizeof(name), "js-%zu", their_sizes[i]);
        OK(hw_obj_get(nats, bucket, name, 16 << 20, &got, &size, NULL, &err));
        ck_assert_uint_eq(size, their_sizes[i]);
        size_t same = 0; /* not an assertion a byte: each is a message to the runner */
        while (same < size && got[same] == (unsigned char)(same * 31 + (same >> 9)))
            same++;
        ck_assert_uint_eq(same, size);
        free(got);
    }
    ck_assert_int_eq(hw_obj_get(nats, bucket, "js-gone", 100, &got, &size, NULL, &err), HW_ENOENT);
}

START_TEST(test_other_client_reads_ours_and_we_read_its)
{
    struct hw_buf expected = {0};
    char *printed = NULL;
    begin();
    write_ours(&expected);
    HW_AUTO_FREE char *script = hw_sprintf("%s/interop.mjs", node_dir);
    const int status = test_program_run((const char *const[]){"node", script, server.url, NULL},
                                        NULL, NULL, &printed);
    ck_assert_msg(status == 0, "node ended with %d:\n%s", status, printed);
    ck_assert_str_eq(printed, hw_buf_str(&expected));
    read_theirs("ours");
    read_theirs("theirs");
    expect_key("theirs", "js.purged", NULL);
    free(printed);
    hw_buf_free(&expected);
    end();
}
END_TEST

int main(void)
{
    node_dir = test_node_dir("@nats-io/kv@3.4.0 @nats-io/obj@3.4.0 @nats-io/transport-node@3.4.0",
                             (const char *const[]){"tests/integration/interop.mjs", NULL});
    if (node_dir == NULL)
        return SKIPPED;
    test_nats_start(&server);
    Suite *suite = suite_create("interop");
    TCase *tcase = tcase_create("interop");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_other_client_reads_ours_and_we_read_its);
    suite_add_tcase(suite, tcase);
    const int result = test_suite_finish(suite);
    test_nats_remove(&server);
    free(node_dir);
    return result;
}
