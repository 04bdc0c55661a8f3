#include "tests/support/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "nats/objstore.h"
#include "tests/support/process.h"

#define TIMEOUT_MS 5000 /* of our own calls: a loaded server answers late */

#define OK(call)                                                                                   \
    do {                                                                                           \
        const enum hw_status status_ = (call);                                                     \
        if (status_ != HW_OK)                                                                      \
            test_fail("%s:%d: " #call ": %s: %s", __FILE__, __LINE__, hw_status_name(status_),     \
                      err.message);                                                                \
    } while (0)

static struct hw_error err;

static void on_up(void *arg)
{
    ((struct upstream *)arg)->up = true;
}

static void on_down(void *arg, const char *why)
{
    (void)why;
    ((struct upstream *)arg)->up = false;
}

static void wait_up(struct upstream *u)
{
    if (!hw_loop_run_until(u->loop, &u->up, test_patient_ms(UPSTREAM_WAIT_S * 1000)))
        test_fail("nats-server cannot be reached");
}

void upstream_open_without_buckets(struct upstream *u)
{
    const struct hw_nats_events events = {.up = on_up, .down = on_down, .arg = u};

    test_nats_start(&u->server);
    const struct hw_nats_options options = {
        .url = u->server.url, .name = "test", .timeout_ms = test_patient_ms(TIMEOUT_MS)};
    OK(hw_loop_new(&u->loop, &err));
    OK(hw_nats_open(u->loop, &options, &events, &u->nats, &err));
    wait_up(u);
}

void upstream_open_secured(struct upstream *u, char *config, const char *url,
                           const struct hw_nats_files *files)
{
    const struct hw_nats_events events = {.up = on_up, .down = on_down, .arg = u};

    test_nats_start(&u->server);
    u->server.config = config;
    test_nats_restart(&u->server);
    snprintf(u->server.url, sizeof(u->server.url), "%s:%d", url, u->server.port);
    const struct hw_nats_options options = {.url = u->server.url,
                                            .name = "test",
                                            .files = *files,
                                            .timeout_ms = test_patient_ms(TIMEOUT_MS)};
    OK(hw_loop_new(&u->loop, &err));
    OK(hw_nats_open(u->loop, &options, &events, &u->nats, &err));
    wait_up(u);
}

void upstream_make_buckets(struct upstream *u)
{
    const struct hw_kv_config desired = {.bucket = "headwater",
                                         .history = 16,
                                         .replicas = 1,
                                         .republish_from = "$KV.headwater.cfg.>",
                                         .republish_to = "headwater.>"};
    const struct hw_kv_config reports = {
        .bucket = "headwater_reports", .history = 16, .replicas = 1};
    struct hw_kv_stream stream;

    OK(hw_kv_ensure(u->nats, &desired, &stream, &err));
    OK(hw_kv_ensure(u->nats, &reports, &stream, &err));
    OK(hw_obj_ensure(u->nats, "headwater", 1, &err));
}

void upstream_open(struct upstream *u)
{
    upstream_open_without_buckets(u);
    upstream_make_buckets(u);
}

void upstream_close(struct upstream *u)
{
    hw_nats_close(u->nats);
    hw_loop_free(u->loop);
    test_nats_remove(&u->server);
}

void upstream_turn(struct upstream *u, int64_t ms)
{
    const bool never = false;
    hw_loop_run_until(u->loop, &never, ms);
}

void upstream_stop(struct upstream *u)
{
    test_nats_stop(&u->server);
    for (const double until = test_deadline(UPSTREAM_WAIT_S); u->up && test_now() < until;)
        upstream_turn(u, 10);
    if (u->up)
        test_fail("the end of nats-server was not noticed");
}

void upstream_restart(struct upstream *u)
{
    test_nats_restart(&u->server);
    wait_up(u);
}

static bool put_done;
static struct hw_ack put_ack;

static void on_put(void *arg, const struct hw_ack *ack)
{
    (void)arg;
    put_ack = *ack;
    put_done = true;
}

void upstream_put_object(struct upstream *u, const char *name, const void *data, size_t size)
{
    put_done = false;
    OK(hw_obj_put(u->nats, "headwater", name, data, size, on_put, NULL, &err));
    if (!hw_loop_run_until(u->loop, &put_done, test_patient_ms(UPSTREAM_WAIT_S * 1000)))
        test_fail("the object was not put");
    err = put_ack.err;
    OK(put_ack.status);
}

void upstream_put_entry(struct upstream *u, const char *node, const char *value, size_t size,
                        const struct hw_fence *fence)
{
    upstream_put_signed(u, node, value, size, fence, NULL);
}

void upstream_put_signed(struct upstream *u, const char *node, const char *value, size_t size,
                         const struct hw_fence *fence, const char *signature)
{
    HW_AUTO_FREE char *key = hw_sprintf("cfg.desired.%s", node);
    natsMsg *msg;

    OK(hw_entry_message("headwater", key, value, size, fence, signature, &msg, &err));
    OK(hw_nats_publish_wait(u->nats, msg, HW_SEQ_ANY, NULL, &err));
}

static char *digest_of(const void *data, size_t size, char out[static HW_DIGEST_STR_MAX])
{
    struct hw_digest digest;

    hw_digest_of(data, size, &digest);
    return hw_digest_format(&digest, out);
}

void upstream_point(struct upstream *u, const char *node, int revision, const void *data,
                    size_t size, const char *media_type, hw_lsn lsn)
{
    const struct hw_fence fence = {1, lsn};
    char digest[HW_DIGEST_STR_MAX];

    digest_of(data, size, digest);
    HW_AUTO_FREE char *value =
        hw_sprintf("{\"node\":\"%s\",\"revision\":%d,\"digest\":\"%s\",\"size\":%zu,"
                   "\"media_type\":\"%s\",\"object\":\"%s\",\"epoch\":1,\"lsn\":\"%s\","
                   "\"committed_at\":\"2026-01-31T12:00:00Z\",\"sources\":[]}",
                   node, revision, digest, size, media_type, digest + 7, HW_LSN(lsn));
    const struct hw_statement statement = {.node = node,
                                           .fence = fence,
                                           .digest = digest,
                                           .revision = revision,
                                           .size = (int64_t)size,
                                           .media_type = media_type};
    HW_AUTO_FREE char *signature = u->signer != NULL ? hw_signer_sign(u->signer, &statement) : NULL;
    upstream_put_signed(u, node, value, strlen(value), &fence, signature);
}

void upstream_desire(struct upstream *u, const char *node, int revision, const char *content)
{
    const size_t size = strlen(content);
    char digest[HW_DIGEST_STR_MAX];

    upstream_put_object(u, digest_of(content, size, digest) + 7, content, size);
    upstream_point(u, node, revision, content, size, "application/json", 16 * (hw_lsn)revision);
}

json_t *upstream_report(struct upstream *u, const char *node, uint64_t *seq)
{
    HW_AUTO_FREE char *key = hw_sprintf("cfg.reported.%s", node);
    struct hw_kv_entry entry;
    json_t *report;

    if (!u->up || hw_kv_get(u->nats, "headwater_reports", key, &entry, &err) != HW_OK)
        return NULL;
    OK(hw_json_parse_object(entry.value, entry.size, &report, &err));
    if (seq != NULL)
        *seq = entry.seq;
    hw_kv_entry_clear(&entry);
    return report;
}

const char *upstream_text(const json_t *report, const char *part, const char *member)
{
    const char *text = json_string_value(json_object_get(json_object_get(report, part), member));
    return text != NULL ? text : "";
}

static void give_up(const json_t *report, const char *wanted)
{
    HW_AUTO_FREE char *text = report != NULL ? hw_json_dump(report) : NULL;
    test_fail("waited for %s; the report is %s", wanted, text != NULL ? text : "missing");
}

json_t *upstream_expect(struct upstream *u, const char *node, const char *state, int running,
                        const char *stage)
{
    for (const double until = test_deadline(UPSTREAM_WAIT_S);;) {
        upstream_turn(u, 10);
        json_t *report = upstream_report(u, node, NULL);
        if (report != NULL &&
            strcmp(json_string_value(json_object_get(report, "state")), state) == 0 &&
            json_integer_value(json_object_get(json_object_get(report, "running"), "revision")) ==
                running &&
            strcmp(upstream_text(report, "failed", "stage"), stage != NULL ? stage : "") == 0)
            return report;
        if (test_now() > until) {
            HW_AUTO_FREE char *wanted = hw_sprintf("%s, running %d, stage %s", state, running,
                                                   stage != NULL ? stage : "none");
            give_up(report, wanted);
        }
        json_decref(report);
    }
}

void upstream_expect_applied(struct upstream *u, const char *node, int revision)
{
    json_decref(upstream_expect(u, node, "applied", revision, NULL));
}

json_t *upstream_expect_member(struct upstream *u, const char *node, const char *member, bool there)
{
    for (const double until = test_deadline(UPSTREAM_WAIT_S);;) {
        upstream_turn(u, 10);
        json_t *report = upstream_report(u, node, NULL);
        if (report != NULL && json_is_object(json_object_get(report, member)) == there)
            return report;
        if (test_now() > until)
            give_up(report, member);
        json_decref(report);
    }
}
