#include "tests/support/pipeline.h"

#include <check.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/base64.h"
#include "base/memory.h"
#include "tests/support/http.h"
#include "tests/support/process.h"

#define STREAM      "KV_headwater"
#define PATIENCE_MS 30000 /* for an answer of nats-server … */
#define TRY_MS      2000  /* … which does not answer all that is asked while a stream is made */

/* ---- servers and programs ---- */

static void connect_nats(struct test_pipeline *p)
{
    test_nats_connect(p->nats.url, 0, &p->nc, &p->js);
}

static void disconnect_nats(struct test_pipeline *p)
{
    jsCtx_Destroy(HW_TAKE(p->js));
    natsConnection_Destroy(HW_TAKE(p->nc));
}

void pipeline_open(struct test_pipeline *p, const char *extra)
{
    *p = (struct test_pipeline){0};
    test_postgres_start(&p->pg, true, extra);
    test_nats_start(&p->nats);
    p->monitor = test_free_port();
    connect_nats(p);
}

void pipeline_close(struct test_pipeline *p)
{
    disconnect_nats(p);
    test_nats_remove(&p->nats);
    test_postgres_remove(&p->pg);
}

void pipeline_start(struct test_pipeline *p, const char *const options[])
{
    HW_AUTO_FREE char *monitor = hw_sprintf("127.0.0.1:%d", p->monitor);
    const char *argv[32] = {"headwater-reconciler",
                            "--database",
                            p->pg.reconciler_url,
                            "--nats",
                            p->nats.url,
                            "--monitor",
                            monitor};
    size_t count = 7;

    for (size_t i = 0; options != NULL && options[i] != NULL && count < HW_COUNT(argv) - 1; i++)
        argv[count++] = options[i];
    test_program_start(&p->reconciler, argv, NULL);
    test_wait_for(test_http_listens(p->monitor) || !test_program_running(&p->reconciler), 30);
}

void pipeline_start_another(const struct test_pipeline *p, struct test_program *another)
{
    const char *const argv[] = {
        "headwater-reconciler", "--database", p->pg.reconciler_url, "--nats", p->nats.url, NULL};

    test_program_start(another, argv, NULL);
}

void pipeline_stop_program(struct test_program *program)
{
    test_wait_for(test_program_heeds(program, SIGTERM) || !test_program_running(program), 30);

    const int status = test_program_stop(program, SIGTERM);

    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "exit status %#x, see %s", status,
                  program->log);
}

void pipeline_stop(struct test_pipeline *p)
{
    pipeline_stop_program(&p->reconciler);
}

void pipeline_stop_nats(struct test_pipeline *p)
{
    disconnect_nats(p);
    test_nats_stop(&p->nats);
}

void pipeline_kill_nats(struct test_pipeline *p)
{
    disconnect_nats(p);
    test_nats_kill(&p->nats);
}

void pipeline_restart_nats(struct test_pipeline *p)
{
    test_nats_restart(&p->nats);
    connect_nats(p);
}

/* ---- making things happen ---- */

void pipeline_make_nodes(const struct test_pipeline *p, int count)
{
    free(test_sql(&p->pg,
                  "INSERT INTO headwater.node (name)"
                  " SELECT 'n' || i FROM generate_series(1, %d) i;"
                  "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":0}');"
                  "INSERT INTO headwater.assignment (name, config, selector)"
                  " VALUES ('all', 'c', '{}')",
                  count));
}

void pipeline_set_content(const struct test_pipeline *p, const char *content)
{
    free(test_sql(&p->pg, "UPDATE headwater.config SET content = '%s' WHERE name = 'c'", content));
}

void pipeline_put(const struct test_pipeline *p, const char *subject, const char *value, ...)
{
    natsMsg *msg = NULL;
    jsPubOptions options;
    const char *name;
    va_list headers;

    ck_assert_int_eq(natsMsg_Create(&msg, subject, NULL, value, (int)strlen(value)), NATS_OK);
    va_start(headers, value);
    while ((name = va_arg(headers, const char *)) != NULL)
        ck_assert_int_eq(natsMsgHeader_Set(msg, name, va_arg(headers, const char *)), NATS_OK);
    va_end(headers);
    jsPubOptions_Init(&options);
    options.MaxWait = test_patient_ms(PATIENCE_MS);
    ck_assert_int_eq(js_PublishMsg(NULL, p->js, msg, &options, NULL), NATS_OK);
    natsMsg_Destroy(msg);
}

void pipeline_purge(const struct test_pipeline *p, const char *stream, const char *subject)
{
    jsOptions options;

    jsOptions_Init(&options);
    options.Stream.Purge.Subject = subject;
    options.Wait = test_patient_ms(PATIENCE_MS);
    ck_assert_int_eq(js_PurgeStream(p->js, stream, &options, NULL), NATS_OK);
}

/* ---- looking ---- */

/* By direct get: nats-server 2.9 crashes when a message is asked for through the JetStream API in
 * the moment in which its stream is being made. */
static natsStatus get(const struct test_pipeline *p, const char *stream,
                      jsDirectGetMsgOptions *options, natsMsg **msg)
{
    const double until = test_deadline(PATIENCE_MS / 1000.0);
    jsOptions try;
    natsStatus status;

    jsOptions_Init(&try);
    try.Wait = TRY_MS;
    do
        status = js_DirectGetMsg(msg, p->js, stream, &try, options);
    while (status == NATS_TIMEOUT && test_now() < until);
    return status;
}

natsMsg *pipeline_last(const struct test_pipeline *p, const char *stream, const char *subject)
{
    jsDirectGetMsgOptions options;
    natsMsg *msg = NULL;

    jsDirectGetMsgOptions_Init(&options);
    options.LastBySubject = subject;
    return get(p, stream, &options, &msg) == NATS_OK ? msg : NULL;
}

char *pipeline_value(const struct test_pipeline *p, const char *stream, const char *subject)
{
    natsMsg *msg = pipeline_last(p, stream, subject);
    char *value = NULL;

    if (msg != NULL)
        value = hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
    return value;
}

char *pipeline_object_subject(const char *digest)
{
    const char *hex = digest + strlen("sha256:");
    HW_AUTO_FREE char *name = hw_base64url_encode(hex, strlen(hex));

    return hw_sprintf("$O.headwater.M.%s", name);
}

uint64_t pipeline_last_seq(const struct test_pipeline *p, const char *stream)
{
    const double until = test_deadline(PATIENCE_MS / 1000.0);
    jsStreamInfo *info = NULL;
    jsOptions try;
    natsStatus status;
    uint64_t seq;

    jsOptions_Init(&try);
    try.Wait = TRY_MS;
    do
        status = js_GetStreamInfo(&info, p->js, stream, &try, NULL);
    while (status == NATS_TIMEOUT && test_now() < until);
    if (status != NATS_OK)
        return 0;
    seq = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return seq;
}

static struct hw_fence fence_of(natsMsg *msg)
{
    struct hw_fence fence = {0};
    const char *epoch = NULL, *lsn = NULL;

    if (natsMsgHeader_Get(msg, "Headwater-Epoch", &epoch) == NATS_OK &&
        natsMsgHeader_Get(msg, "Headwater-LSN", &lsn) == NATS_OK &&
        hw_lsn_parse(lsn, &fence.lsn, NULL) == HW_OK)
        fence.epoch = strtoull(epoch, NULL, 10);
    return fence;
}

bool pipeline_up_to_date(const struct test_pipeline *p, const char *node, int epoch)
{
    HW_AUTO_FREE char *digest =
        test_sql(&p->pg, "SELECT digest FROM headwater.desired WHERE node = '%s'", node);
    HW_AUTO_FREE char *subject = hw_sprintf(DESIRED "%s", node);
    natsMsg *msg = pipeline_last(p, STREAM, subject);

    if (msg == NULL)
        return false;
    HW_AUTO_FREE char *value = hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    const struct hw_fence fence = fence_of(msg);
    natsMsg_Destroy(msg);
    return digest != NULL && strstr(value, digest) != NULL && fence.epoch > 0 &&
           (epoch == 0 || fence.epoch == (uint64_t)epoch);
}

int pipeline_verify(const struct test_pipeline *p, char **output)
{
    const char *const argv[] = {"headwater-reconciler",
                                "verify",
                                "--database",
                                p->pg.reconciler_url,
                                "--nats",
                                p->nats.url,
                                NULL};

    return test_program_run(argv, NULL, NULL, output);
}

bool pipeline_equal(const struct test_pipeline *p)
{
    HW_AUTO_FREE char *output = NULL;
    const int status = pipeline_verify(p, &output);

    if (status != 0)
        fprintf(stderr, "%s\n", output);
    return status == 0;
}

void pipeline_wait_until_caught_up(const struct test_pipeline *p)
{
    HW_AUTO_FREE char *lsn = test_sql(&p->pg, "SELECT pg_current_wal_lsn()");

    test_wait_for(test_sql_is(&p->pg, "t",
                              "SELECT confirmed_flush_lsn >= '%s' FROM pg_replication_slots"
                              " WHERE slot_name = 'headwater'",
                              lsn),
                  60);
}

int pipeline_times_in_log(const struct test_program *program, const char *text)
{
    char *log = test_read_file(program->log);
    int times = 0;

    for (const char *at = log; (at = strstr(at, text)) != NULL; at += strlen(text))
        times++;
    free(log);
    return times;
}

bool pipeline_log_says(const struct test_pipeline *p, const char *text)
{
    return pipeline_times_in_log(&p->reconciler, text) > 0;
}

int pipeline_readyz(const struct test_pipeline *p)
{
    struct test_answer answer = test_http(p->monitor, "GET", "/readyz", NULL, NULL, 0);
    const int status = answer.status;

    test_answer_free(&answer);
    return status;
}

double pipeline_metric(const struct test_pipeline *p, const char *name)
{
    struct test_answer answer = test_http(p->monitor, "GET", "/metrics", NULL, NULL, 0);
    HW_AUTO_FREE char *row = hw_sprintf("\n%s ", name);
    const char *at = answer.status == 200 ? strstr(answer.body, row) : NULL;
    const double value = at != NULL ? strtod(at + strlen(row), NULL) : -1;

    test_answer_free(&answer);
    return value;
}

/* ---- messages ---- */

void pipeline_messages_free(struct pipeline_messages *messages)
{
    free(HW_TAKE(messages->list));
    messages->count = 0;
}

struct pipeline_messages pipeline_messages(const struct test_pipeline *p, uint64_t behind,
                                           const char *subject)
{
    const uint64_t last = pipeline_last_seq(p, STREAM);
    struct pipeline_messages found = {0};
    size_t cap = 0;

    ck_assert_uint_gt(last, 0);
    for (uint64_t seq = behind + 1; seq <= last; seq++) {
        jsDirectGetMsgOptions options;
        natsMsg *msg = NULL;

        jsDirectGetMsgOptions_Init(&options);
        options.Sequence = seq;
        const natsStatus status = get(p, STREAM, &options, &msg);
        if (status == NATS_NOT_FOUND)
            continue; /* a newer revision has taken its place */
        ck_assert_int_eq(status, NATS_OK);
        if (strncmp(natsMsg_GetSubject(msg), subject, strlen(subject)) == 0) {
            if (found.count == cap) {
                cap = cap > 0 ? 2 * cap : 64;
                found.list = hw_realloc(found.list, cap * sizeof(*found.list));
            }
            struct pipeline_message *m = &found.list[found.count++];
            *m = (struct pipeline_message){.seq = seq, .fence = fence_of(msg)};
            snprintf(m->subject, sizeof(m->subject), "%s", natsMsg_GetSubject(msg));
        }
        natsMsg_Destroy(msg);
    }
    return found;
}

static int compare(const void *a, const void *b)
{
    const struct pipeline_message *x = a, *y = b;
    const int order = strcmp(x->subject, y->subject);

    return order != 0 ? order : hw_fence_compare(x->fence, y->fence);
}

static int compare_seq(const void *a, const void *b)
{
    const struct pipeline_message *x = a, *y = b;
    const int order = strcmp(x->subject, y->subject);

    return order != 0 ? order : (x->seq > y->seq) - (x->seq < y->seq);
}

static struct pipeline_messages sorted(const struct pipeline_messages *messages,
                                       int (*order)(const void *, const void *))
{
    struct pipeline_messages copy = {.list = hw_alloc((messages->count + 1) * sizeof(*copy.list)),
                                     .count = messages->count};

    for (size_t i = 0; i < copy.count; i++)
        copy.list[i] = messages->list[i];
    qsort(copy.list, copy.count, sizeof(*copy.list), order);
    return copy;
}

void pipeline_fences_grow(const struct pipeline_messages *messages)
{
    struct pipeline_messages m = sorted(messages, compare_seq);
    const struct pipeline_message *before = NULL;

    for (size_t i = 0; i < m.count; i++) {
        const struct pipeline_message *now = &m.list[i];

        if (now->fence.epoch == 0)
            continue;
        if (before != NULL && strcmp(before->subject, now->subject) == 0)
            ck_assert_msg(hw_fence_compare(before->fence, now->fence) < 0,
                          "%s: message %llu carries %llu, %s and message %llu %llu, %s",
                          now->subject, (unsigned long long)before->seq,
                          (unsigned long long)before->fence.epoch, HW_LSN(before->fence.lsn),
                          (unsigned long long)now->seq, (unsigned long long)now->fence.epoch,
                          HW_LSN(now->fence.lsn));
        before = now;
    }
    pipeline_messages_free(&m);
}

void pipeline_same_revisions(const struct pipeline_messages *expected,
                             const struct pipeline_messages *found)
{
    struct pipeline_messages e = sorted(expected, compare), f = sorted(found, compare);
    const size_t count = e.count < f.count ? e.count : f.count;

    for (size_t i = 0; i < count; i++)
        ck_assert_msg(compare(&e.list[i], &f.list[i]) == 0,
                      "expected %s with %llu, %s and found %s with %llu, %s (message %llu)",
                      e.list[i].subject, (unsigned long long)e.list[i].fence.epoch,
                      HW_LSN(e.list[i].fence.lsn), f.list[i].subject,
                      (unsigned long long)f.list[i].fence.epoch, HW_LSN(f.list[i].fence.lsn),
                      (unsigned long long)f.list[i].seq);
    ck_assert_uint_eq(e.count, f.count);
    pipeline_messages_free(&e);
    pipeline_messages_free(&f);
}
