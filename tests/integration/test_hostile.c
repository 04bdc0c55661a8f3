/*
 * Messages that nobody honest would store, in places that a node may write: their header blocks
 * look like words of the server's. What is stored is data; nothing that it names is published to,
 * nothing of others is lost, and whoever writes next is heard.
 */
#include <arpa/inet.h>
#include <nats/nats.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/loop.h"
#include "nats/kv.h"
#include "nats/stored.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define PROPOSED "$KV.headwater_reports.cfg.proposed."

static struct test_pipeline p;
static natsSubscription *consumers_made;

static const char *const subjects[] = {REPORTED "evil", PROPOSED "evil"};

/* What may begin a header block, and what a field may name. */
static const char *const status_lines[] = {"NATS/1.0 100 Idle Heartbeat",
                                           "NATS/1.0 100 FlowControl Request",
                                           "NATS/1.0 100",
                                           "NATS/1.0 404 No Messages",
                                           "NATS/1.0 408 Request Timeout",
                                           "NATS/1.0 409 Consumer Deleted",
                                           "NATS/1.0 503",
                                           "NATS/1.0 abc"};
static const char *const fields[] = {
    "",
    "Nats-Consumer-Stalled: $JS.API.STREAM.DELETE.KV_headwater\r\n",
    "Nats-Consumer-Stalled: $KV.headwater.cfg.checkpoint\r\n",
    "Nats-Last-Consumer: 1\r\nNats-Last-Stream: 1\r\n",
    ("Nats-Sequence: 1\r\nNats-Subject: $KV.headwater.cfg.checkpoint\r\n"
     "Nats-Stream: KV_headwater\r\nNats-Time-Stamp: 2026-01-01T00:00:00Z\r\n"),
    "KV-Operation: PURGE\r\n",
    "no field at all\r\n",
};

static void setup(void)
{
    pipeline_open(&p, NULL);
    pipeline_make_nodes(&p, 2);
    ck_assert_int_eq(natsConnection_SubscribeSync(&consumers_made, p.nc,
                                                  "$JS.EVENT.ADVISORY.CONSUMER.CREATED.>"),
                     NATS_OK);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_up_to_date(&p, "n2", 0), 30);
}

static void teardown(void)
{
    natsSubscription_Destroy(consumers_made);
    pipeline_stop(&p);
    pipeline_close(&p);
}

/* As the protocol has it, without a library that would put the header block right. */
static void publish_raw(const char *subject, const char *reply, const char *header,
                        const char *body)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)p.nats.port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *stream;
    char line[4096];

    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    stream = fdopen(fd, "r+");
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), stream));
    fprintf(stream,
            "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n"
            "HPUB %s%s%s %zu %zu\r\n%s%s\r\nPING\r\n",
            subject, reply != NULL ? " " : "", reply != NULL ? reply : "", strlen(header),
            strlen(header) + strlen(body), header, body);
    ck_assert_int_eq(fflush(stream), 0);
    do
        ck_assert_ptr_nonnull(fgets(line, sizeof(line), stream));
    while (strcmp(line, "PONG\r\n") != 0);
    fclose(stream);
}

/* After whatever was done: what others have and say is as it should be. */
static void check_unharmed(int round)
{
    HW_AUTO_FREE char *running = hw_sprintf("r%d", round);
    HW_AUTO_FREE char *report = hw_sprintf(
        "{\"node\":\"n1\",\"state\":\"applied\",\"agent\":\"%s\",\"boot_id\":\"b\"}", running);
    HW_AUTO_FREE char *proposal =
        hw_sprintf("{\"node\":\"n2\",\"ref\":\"%s\",\"config\":\"c\",\"base_revision\":1,"
                   "\"content\":\"{\\\"a\\\":%d}\",\"message\":\"m\"}",
                   running, round + 1);

    pipeline_put(&p, REPORTED "n1", report, NULL);
    pipeline_put(&p, PROPOSED "n2", proposal, NULL);
    test_wait_for(
        test_sql_is(&p.pg, running, "SELECT agent FROM headwater.reported WHERE node = 'n1'"), 5);
    test_wait_for(
        test_sql_is(&p.pg, running, "SELECT ref FROM headwater.proposal ORDER BY id DESC LIMIT 1"),
        5);
    for (int i = 1; i <= 2; i++) {
        HW_AUTO_FREE char *node = hw_sprintf("n%d", i);

        ck_assert(pipeline_up_to_date(&p, node, 1));
    }
}

static void on_up(void *arg)
{
    *(bool *)arg = true;
}

static uint64_t count_consumers_made(void)
{
    uint64_t count = 0;

    ck_assert_int_eq(natsConnection_FlushTimeout(p.nc, 5000), NATS_OK);
    ck_assert_int_eq(natsSubscription_QueuedMsgs(consumers_made, &count), NATS_OK);
    return count;
}

START_TEST(test_headers_of_the_server)
{
    const uint64_t before = count_consumers_made();
    int round = 0;

    for (size_t s = 0; s < HW_COUNT(subjects); s++)
        for (size_t i = 0; i < HW_COUNT(status_lines); i++) {
            for (size_t j = 0; j < HW_COUNT(fields); j++) {
                HW_AUTO_FREE char *header = hw_sprintf("%s\r\n%s\r\n", status_lines[i], fields[j]);

                publish_raw(subjects[s], NULL, header, "");
                publish_raw(subjects[s], NULL, header, "{}");
                publish_raw(subjects[s], "$KV.headwater_reports.cfg.reported.n2", header, "");
            }
            check_unharmed(++round);
        }
    ck_assert_uint_lt(count_consumers_made() - before, 10);
    ck_assert(pipeline_equal(&p));
}
END_TEST

/* They are there when a reconciler begins, too. */
START_TEST(test_restart_among_them)
{
    for (size_t s = 0; s < HW_COUNT(subjects); s++)
        publish_raw(subjects[s], NULL,
                    "NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: "
                    "$JS.API.STREAM.DELETE.KV_headwater\r\n\r\n",
                    "");
    pipeline_stop(&p);
    const uint64_t before = count_consumers_made();
    pipeline_start(&p, NULL);
    pipeline_set_content(&p, "{\"a\":7}");
    test_wait_for(pipeline_up_to_date(&p, "n1", 0), 30);
    check_unharmed(1);
    ck_assert_uint_lt(count_consumers_made() - before, 12);
}
END_TEST

/* One message of each kind, by direct get: as stored, whatever it looks like. */
START_TEST(test_read_one_by_one)
{
    const struct hw_nats_options options = {.url = p.nats.url};
    bool up = false;
    const struct hw_nats_events events = {.up = on_up, .arg = &up};
    struct hw_loop *loop;
    struct hw_nats *nats;
    struct hw_stored stored;
    struct hw_error err;

    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
    ck_assert_int_eq(hw_nats_open(loop, &options, &events, &nats, &err), HW_OK);
    ck_assert(hw_loop_run_until(loop, &up, 20000));
    for (size_t i = 0; i < HW_COUNT(status_lines); i++)
        for (size_t j = 0; j < HW_COUNT(fields); j++) {
            HW_AUTO_FREE char *header = hw_sprintf("%s\r\n%s\r\n", status_lines[i], fields[j]);

            const uint64_t seq = pipeline_last_seq(&p, "KV_headwater_reports") + 1;

            publish_raw(REPORTED "evil", NULL, header, "");
            test_wait_for(pipeline_last_seq(&p, "KV_headwater_reports") == seq, 20);
            const enum hw_status status =
                hw_stored_last(nats, "KV_headwater_reports", REPORTED "evil", &stored, &err);
            /* A block that no library can read is an error about that, and nothing else. */
            if (status == HW_EPROTO && j == HW_COUNT(fields) - 1)
                continue;
            ck_assert_msg(status == HW_OK, "%s: %s", header, err.message);
            ck_assert_str_eq(stored.subject, REPORTED "evil");
            ck_assert_uint_eq(stored.seq, seq);
            ck_assert_int_eq(natsMsg_GetDataLength(stored.msg), 0);
            hw_stored_clear(&stored);
        }
    ck_assert_int_eq(hw_stored_last(nats, "KV_headwater_reports", REPORTED "none", &stored, &err),
                     HW_ENOENT);
    /* A server may not answer at all about a stream that it does not have. */
    const enum hw_status nowhere =
        hw_stored_last(nats, "KV_nowhere", REPORTED "none", &stored, &err);
    ck_assert(nowhere == HW_EUNAVAIL || nowhere == HW_ETIMEOUT);
    hw_nats_close(nats);
    hw_loop_free(loop);
}
END_TEST

TEST_MAIN_BETWEEN("hostile", 240, setup, teardown, test_headers_of_the_server,
                  test_restart_among_them, test_read_one_by_one)
