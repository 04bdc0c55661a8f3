/*
 * A reconciler that publishes and cannot read what nodes report. For a minute it may be a fault
 * that passes; then readiness says so, for as long as it lasts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/suite.h"

static struct test_pipeline p;

static void setup(void)
{
    pipeline_open(&p, NULL);
}

static void teardown(void)
{
    pipeline_close(&p);
}

/* No consumer of reports can be made. */
static void forbid(void)
{
    HW_AUTO_FREE char *config = hw_sprintf("%s/nats.conf", p.nats.dir);
    FILE *file = fopen(config, "we");

    ck_assert_ptr_nonnull(file);
    fputs("authorization: { users: [ { user: a, password: a, permissions: { publish: { deny: ["
          " \"$JS.API.CONSUMER.CREATE.KV_headwater_reports\","
          " \"$JS.API.CONSUMER.CREATE.KV_headwater_reports.>\" ] } } } ] }\nno_auth_user: a\n",
          file);
    ck_assert_int_eq(fclose(file), 0);
    pipeline_stop_nats(&p);
    p.nats.config = HW_TAKE(config);
    pipeline_restart_nats(&p);
}

static void allow(void)
{
    pipeline_stop_nats(&p);
    free(HW_TAKE(p.nats.config));
    pipeline_restart_nats(&p);
}

static bool readiness_says(const char *text)
{
    struct test_answer answer = test_http(p.monitor, "GET", "/readyz", NULL, NULL, 0);
    const bool says = answer.status == 503 && strstr(answer.body, text) != NULL;

    test_answer_free(&answer);
    return says;
}

START_TEST(test_reports_that_cannot_be_read)
{
    pipeline_make_nodes(&p, 1);
    pipeline_start(&p, NULL);
    pipeline_wait_until_caught_up(&p);
    test_wait_for(pipeline_readyz(&p) == 200, 30);

    forbid();
    test_wait_for(readiness_says("headwater_reports"), 120);
    ck_assert(pipeline_log_says(&p, "reading what NATS stores begins anew"));
    ck_assert_int_ge(
        (int)pipeline_metric(&p, "headwater_reconciler_reader_restarts_total{reader=\"reports\"}"),
        1);
    /* What it can do it does: the way out is not barred by the way back. */
    pipeline_set_content(&p, "{\"a\":1}");
    pipeline_wait_until_caught_up(&p);
    ck_assert(pipeline_up_to_date(&p, "n1", 0));

    allow();
    test_wait_for(pipeline_readyz(&p) == 200, 60);
    pipeline_stop(&p);
}
END_TEST

TEST_MAIN_BETWEEN("readers", 240, setup, teardown, test_reports_that_cannot_be_read)
