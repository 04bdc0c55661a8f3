/*
 * A nats-server that was killed and then contradicts itself about some keys (nats/hidden.h): the
 * checkpoint, an entry and a report are brought into that state, which takes 45 MB and no luck with
 * 2.9, and the reconciler has to get past it. Other servers come through the same without a
 * scratch; what the reconciler must then do is the same.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/lsn.h"
#include "base/memory.h"
#include "nats/hidden.h"
#include "nats/kv.h"
#include "protocol/entry.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum {
    BLOCK = 4 << 20, /* nats-server begins a new file behind so many bytes of a stream like ours */
    PIECE = 64 << 10,
    HISTORY = 16,
    ROUNDS = 11, /* the tenth file is what it takes; the first has none of the keys */
    WORN = 3,
};

static struct test_pipeline p;
static char filler[PIECE];
static int filled;
static bool hidden_here; /* this nats-server does it */

static void setup(void)
{
    pipeline_open(&p, NULL);
    memset(filler, '.', sizeof(filler));
    filled = 0;
}

static void teardown(void)
{
    pipeline_close(&p);
}

static void make_stream(const char *bucket, int history)
{
    HW_AUTO_FREE char *name = hw_sprintf("KV_%s", bucket);
    HW_AUTO_FREE char *subject = hw_sprintf("$KV.%s.>", bucket);
    HW_AUTO_FREE char *from = hw_sprintf("$KV.%s.cfg.>", bucket);
    HW_AUTO_FREE char *to = hw_sprintf("%s.>", bucket);
    const char *subjects[] = {subject};
    jsRePublish republish = {.Source = from, .Destination = to};
    jsStreamConfig config;

    jsStreamConfig_Init(&config);
    config.Name = name;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.MaxMsgsPerSubject = history;
    config.Discard = js_DiscardNew;
    config.Storage = js_FileStorage;
    config.Replicas = 1;
    config.AllowRollup = history > 1;
    config.DenyDelete = true;
    config.AllowDirect = true;
    if (history > 1)
        config.RePublish = &republish;
    ck_assert_int_eq(js_AddStream(NULL, p.js, &config, NULL, NULL), NATS_OK);
}

/* Other keys, until the server has begun its next file. */
static void fill(const char *bucket, int bytes)
{
    jsPubOptions options;

    jsPubOptions_Init(&options);
    for (int sent = 0; sent < bytes; sent += PIECE) {
        HW_AUTO_FREE char *subject = hw_sprintf("$KV.%s.filler.%d", bucket, filled++);

        ck_assert_int_eq(js_PublishAsync(p.js, subject, filler, sizeof(filler), NULL), NATS_OK);
    }
    options.MaxWait = test_patient_ms(30000);
    ck_assert_int_eq(js_PublishAsyncComplete(p.js, &options), NATS_OK);
}

/* Writes a key once more, as it stands. */
static void repeat(const char *stream, const char *subject, int times)
{
    natsMsg *msg = pipeline_last(&p, stream, subject), *copy = NULL;
    const char *epoch = NULL, *lsn = NULL;

    ck_assert_ptr_nonnull(msg);
    for (int i = 0; i < times; i++) {
        ck_assert_int_eq(
            natsMsg_Create(&copy, subject, NULL, natsMsg_GetData(msg), natsMsg_GetDataLength(msg)),
            NATS_OK);
        if (natsMsgHeader_Get(msg, HW_HEADER_EPOCH, &epoch) == NATS_OK &&
            natsMsgHeader_Get(msg, HW_HEADER_LSN, &lsn) == NATS_OK) {
            ck_assert_int_eq(natsMsgHeader_Set(copy, HW_HEADER_EPOCH, epoch), NATS_OK);
            ck_assert_int_eq(natsMsgHeader_Set(copy, HW_HEADER_LSN, lsn), NATS_OK);
        }
        ck_assert_int_eq(js_PublishMsg(NULL, p.js, copy, NULL, NULL), NATS_OK);
        natsMsg_Destroy(copy);
    }
    natsMsg_Destroy(msg);
}

static bool is_found(const char *stream, const char *subject)
{
    natsMsg *msg = pipeline_last(&p, stream, subject);
    const bool found = msg != NULL;

    natsMsg_Destroy(msg);
    return found;
}

/* A fleet of three, led for a while; then everything is killed while its keys are hidden. */
static void wear_out(const char *config, bool checkpoint)
{
    make_stream("headwater", HISTORY);
    make_stream("headwater_reports", 1);
    fill("headwater", BLOCK + PIECE);
    fill("headwater_reports", BLOCK + PIECE);
    pipeline_make_nodes(&p, 3);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n3", 1), 30);
    pipeline_wait_until_caught_up(&p);
    test_program_stop(&p.reconciler, SIGKILL);
    for (int i = 0; i < ROUNDS; i++) {
        if (checkpoint)
            repeat("KV_headwater", CHECKPOINT, HISTORY + 1);
        repeat("KV_headwater", DESIRED "n1", HISTORY + 1);
        fill("headwater", BLOCK + PIECE);
    }
    if (checkpoint)
        repeat("KV_headwater", CHECKPOINT, WORN);
    repeat("KV_headwater", DESIRED "n1", WORN);
    for (int i = 0; i < ROUNDS; i++) {
        pipeline_put(&p, REPORTED "n1", "{}", NULL);
        fill("headwater_reports", BLOCK + PIECE);
    }
    pipeline_put(&p, REPORTED "n1", "{}", NULL);
    pipeline_kill_nats(&p);
    p.nats.config = config != NULL ? hw_strdup(config) : NULL;
    pipeline_restart_nats(&p);
    hidden_here = !is_found("KV_headwater", DESIRED "n1");
    printf("hidden: checkpoint %d, entry %d, report %d\n", !is_found("KV_headwater", CHECKPOINT),
           hidden_here, !is_found("KV_headwater_reports", REPORTED "n1"));
}

START_TEST(test_hidden_keys_are_got_past)
{
    wear_out(NULL, true);
    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");

    for (int i = 1; i <= 40; i++)
        free(test_sql(&p.pg, "UPDATE headwater.config SET content = '{\"a\":%d}' WHERE name = 'c'",
                      i));
    pipeline_start(&p, NULL);
    pipeline_wait_until_caught_up(&p);
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    for (int i = 1; i <= 3; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("n%d", i);

        test_wait_for(pipeline_up_to_date(&p, node, 1), 30);
    }
    ck_assert(is_found("KV_headwater", CHECKPOINT));
    ck_assert(!pipeline_log_says(&p, "cannot go on"));
    ck_assert(!pipeline_log_says(&p, "level=error"));
    /* As many as the bucket keeps, each once. */
    struct pipeline_messages messages = pipeline_messages(&p, before, DESIRED);
    pipeline_fences_grow(&messages);
    ck_assert_uint_ge(messages.count, (size_t)3 * HISTORY - 1);
    pipeline_messages_free(&messages);
    /* A report that is written now stays. */
    if (hidden_here)
        test_wait_for(pipeline_log_says(&p, "bucket=headwater_reports"), 30);
    pipeline_put(&p, REPORTED "n1", "{}", NULL);
    ck_assert(is_found("KV_headwater_reports", REPORTED "n1"));
    ck_assert(pipeline_equal(&p));
    pipeline_stop(&p);
}
END_TEST

/* Nobody writes the key: an agent that looks for it must find it all the same. */
START_TEST(test_hidden_keys_are_found_by_their_names_again)
{
    HW_AUTO_FREE char *output = NULL;

    wear_out(NULL, true);
    if (hidden_here) { /* the comparison asks by names as an agent does */
        ck_assert_int_eq(pipeline_verify(&p, &output), 1);
        ck_assert_msg(strstr(output, "hidden node=\"n1\"") != NULL &&
                          strstr(output, "hidden node=\"n2\"") == NULL,
                      "%s", output);
    }
    pipeline_start(&p, NULL);
    pipeline_wait_until_caught_up(&p);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1), 30);
    test_wait_for(is_found("KV_headwater", CHECKPOINT), 30);
    ck_assert(!pipeline_log_says(&p, "cannot go on"));
    pipeline_stop(&p);
}
END_TEST

/* The reconciler may not purge: the error says so at a distance, readiness all the time. key: what
 * it is about. */
static void cannot_be_mended(bool checkpoint, const char *key)
{
    HW_AUTO_FREE char *config = hw_sprintf("%s/nats.conf", p.nats.dir);
    FILE *file = fopen(config, "we");

    ck_assert_ptr_nonnull(file);
    fputs("authorization: { users: [ { user: a, password: a, permissions:"
          " { publish: { deny: \"$JS.API.STREAM.PURGE.>\" } } } ] }\nno_auth_user: a\n",
          file);
    ck_assert_int_eq(fclose(file), 0);
    wear_out(config, checkpoint);
    if (!checkpoint)
        pipeline_set_content(&p, "{\"a\":1}");
    pipeline_start(&p, NULL);
    if (hidden_here) {
        const char *const what = "contradicts itself";

        test_wait_for(pipeline_log_says(&p, what), 60);
        for (const double until = test_now() + 15; test_now() < until; test_pause())
            ck_assert_int_ne(pipeline_readyz(&p), 200);
        ck_assert_int_le(pipeline_times_in_log(&p.reconciler, what), 2);
        struct test_answer answer = test_http(p.monitor, "GET", "/readyz", NULL, NULL, 0);
        ck_assert_msg(strstr(answer.body, key) != NULL &&
                          strstr(answer.body, "systemctl restart nats-server") != NULL,
                      "%s", answer.body);
        test_answer_free(&answer);
        /* As it says. */
        pipeline_stop_nats(&p);
        free(HW_TAKE(p.nats.config));
        pipeline_restart_nats(&p);
    }
    pipeline_wait_until_caught_up(&p);
    test_wait_for(pipeline_up_to_date(&p, "n1", 1) && pipeline_readyz(&p) == 200, 60);
    pipeline_stop(&p);
    free(HW_TAKE(p.nats.config));
}

START_TEST(test_a_checkpoint_that_stays_hidden)
{
    cannot_be_mended(true, "cfg.checkpoint");
}
END_TEST

START_TEST(test_an_entry_that_stays_hidden)
{
    cannot_be_mended(false, "cfg.desired.n1");
}
END_TEST

TEST_MAIN_BETWEEN("hidden", 180, setup, teardown, test_hidden_keys_are_got_past,
                  test_hidden_keys_are_found_by_their_names_again,
                  test_a_checkpoint_that_stays_hidden, test_an_entry_that_stays_hidden)
