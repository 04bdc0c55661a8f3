/*
 * What the running programs count, and that the files below deploy/ speak of nothing else: every
 * metric that a rule or the dashboard names is one that a program shows.
 */
#include <ctype.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define PROMTOOL  "/usr/bin/promtool"
#define RULES     "deploy/prometheus/headwater.rules.yml"
#define DASHBOARD "deploy/grafana/headwater.json"

static struct test_pipeline p;
static struct test_api api;

static void start(void)
{
    pipeline_open(&p, NULL);
    pipeline_start(&p, NULL);
    test_api_start(&api, p.pg.api_url, NULL);
    test_wait_for(pipeline_log_says(&p, "msg=started"), 60); /* its monitor listens */
}

static void stop(void)
{
    test_api_stop(&api);
    pipeline_stop(&p);
    pipeline_close(&p);
}

static char *metrics_of(int port)
{
    struct test_answer answer = test_http(port, "GET", "/metrics", NULL, NULL, 0);
    HW_AUTO_FREE char *type = test_answer_header(&answer, "Content-Type");
    char *text;

    ck_assert_int_eq(answer.status, 200);
    ck_assert_str_eq(type, "text/plain; version=0.0.4; charset=utf-8");
    text = hw_strdup(answer.body);
    test_answer_free(&answer);
    return text;
}

/* The value of a series, with its labels; -1: it is not there. */
static double value_of(int port, const char *series)
{
    HW_AUTO_FREE char *text = metrics_of(port);
    HW_AUTO_FREE char *row = hw_sprintf("\n%s ", series);
    const char *at = strstr(text, row);

    return at != NULL ? strtod(at + strlen(row), NULL) : -1;
}

static void put(const char *target, const char *body)
{
    struct test_answer answer = test_http(api.port, "PUT", target,
                                          "Content-Type: application/json\r\n", body, strlen(body));

    ck_assert_msg(answer.status / 100 == 2, "%s: %d %s", target, answer.status, answer.body);
    test_answer_free(&answer);
}

static void get(const char *target, int status)
{
    struct test_answer answer = test_http(api.port, "GET", target, NULL, NULL, 0);

    ck_assert_int_eq(answer.status, status);
    test_answer_free(&answer);
}

START_TEST(test_api_counts)
{
    static const char ok[] = "headwater_api_requests_total{method=\"GET\","
                             "route=\"/v1/nodes/{name}\",status=\"2xx\"}",
                      missing[] = "headwater_api_requests_total{method=\"GET\","
                                  "route=\"/v1/nodes/{name}\",status=\"4xx\"}",
                      timed[] = "headwater_api_request_duration_seconds_count{method=\"GET\","
                                "route=\"/v1/nodes/{name}\"}",
                      nowhere[] = "headwater_api_requests_total{method=\"other\","
                                  "route=\"none\",status=\"4xx\"}";

    ck_assert(value_of(api.port, ok) == 0);
    ck_assert(value_of(api.port, timed) == -1);
    put("/v1/nodes/counted", "{}");
    get("/v1/nodes/counted", 200);
    get("/v1/nodes/counted", 200);
    get("/v1/nodes/none", 404);
    get("/nowhere", 404);
    ck_assert(value_of(api.port, ok) == 2);
    ck_assert(value_of(api.port, missing) == 1);
    ck_assert(value_of(api.port, timed) == 3);
    ck_assert(value_of(api.port, nowhere) == 1);
    ck_assert(value_of(api.port, "headwater_api_responses_total{code=\"404\"}") == 2);
    ck_assert(value_of(api.port, "headwater_api_requests_in_flight") == 1);
    ck_assert(value_of(api.port, "headwater_api_connections") >= 1);
    test_wait_for(value_of(api.port, "headwater_api_pool_connections") == 6, 30);
    ck_assert(value_of(api.port, "headwater_api_pool_waiting") == 0);
    ck_assert(value_of(api.port, "headwater_api_database_up") == 1);
    ck_assert(value_of(api.port, "headwater_api_body_bytes") == 0);

    const int gone = test_http_connect(api.port);
    test_http_puts(gone, "PUT /v1/configs/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                         "application/json\r\nContent-Length: 1000\r\n\r\n{");
    test_wait_for(value_of(api.port, "headwater_api_body_bytes") > 0, 30);
    ck_assert(value_of(api.port, "headwater_api_requests_in_flight") == 2);
    close(gone);
    test_wait_for(value_of(api.port, "headwater_api_aborted_requests_total") == 1, 30);
    ck_assert(value_of(api.port, "headwater_api_body_bytes") == 0);
}
END_TEST

static void report(const char *node, int revision)
{
    HW_AUTO_FREE char *digest =
        test_sql(&p.pg, "SELECT digest FROM headwater.desired WHERE node = '%s'", node);
    HW_AUTO_FREE char *value = hw_sprintf(
        "{\"node\":\"%s\",\"state\":\"applied\",\"running\":{\"revision\":%d,\"digest\":\"%s\","
        "\"epoch\":1,\"lsn\":\"0/1\",\"applied_at\":\"2026-01-31T12:00:00Z\"},\"failed\":null,"
        "\"desired_revision\":%d,\"agent\":\"x\",\"boot_id\":\"x\","
        "\"reported_at\":\"2026-01-31T12:00:00Z\"}",
        node, revision, digest, revision);
    HW_AUTO_FREE char *subject = hw_sprintf("$KV.headwater_reports.cfg.reported.%s", node);

    ck_assert_int_eq(js_Publish(NULL, p.js, subject, value, (int)strlen(value), NULL, NULL),
                     NATS_OK);
}

/* A change is published once and applied once, whatever is said twice. */
START_TEST(test_reconciler_counts)
{
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_leading") == 1, 60);
    const double published = pipeline_metric(&p, "headwater_reconciler_publish_seconds_count");

    put("/v1/nodes/applying", "{}");
    put("/v1/configs/c", "{\"a\":1}");
    put("/v1/assignments/a", "{\"config\":\"c\",\"node\":\"applying\",\"priority\":1}");
    test_wait_for(pipeline_up_to_date(&p, "applying", 0), 60);
    test_wait_for(
        pipeline_metric(&p, "headwater_reconciler_publish_seconds_count") == published + 1, 60);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_publish_seconds_sum") < 600);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_entries_total") >= 1);

    report("applying", 7); /* of another revision */
    test_wait_for(
        value_of(p.monitor, "headwater_reconciler_reports_total{result=\"written\"}") == 1, 60);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_apply_seconds_count") == 0);
    report("applying", 1);
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_apply_seconds_count") == 1, 60);
    report("applying", 1);
    test_wait_for(
        value_of(p.monitor, "headwater_reconciler_reports_total{result=\"written\"}") == 3, 60);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_apply_seconds_count") == 1);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_apply_seconds_sum") < 600);

    test_wait_for(value_of(p.monitor, "headwater_reconciler_fleet_nodes{state=\"in_sync\"}") == 1,
                  60);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_slot_usable") == 1);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_postgresql_up") == 1);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_nats_up") == 1);
    ck_assert(pipeline_metric(&p, "headwater_reconciler_lag_bytes") >= 0);
    test_wait_for(pipeline_metric(&p, "headwater_reconciler_archive_usable") == 1, 60);
}
END_TEST

/* ---- an agent ---- */

static struct test_program agent;
static int agent_monitor;

static void start_agent(void)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", dir), *output = hw_sprintf("%s/out", dir);

    agent_monitor = test_free_port();
    HW_AUTO_FREE char *monitor = hw_sprintf("127.0.0.1:%d", agent_monitor);
    const char *const argv[] = {"headwater-agent", "--nats", p.nats.url,    "--node", "shown",
                                "--output",        output,   "--state-dir", state,    "--monitor",
                                monitor,           NULL};

    test_program_start(&agent, argv, NULL);
    test_wait_for(pipeline_times_in_log(&agent, "showing metrics") == 1, 60);
}

START_TEST(test_agent_counts)
{
    put("/v1/nodes/shown", "{}");
    put("/v1/configs/shown", "{\"a\":1}");
    put("/v1/assignments/shown", "{\"config\":\"shown\",\"node\":\"shown\"}");
    start_agent();
    test_wait_for(value_of(agent_monitor, "headwater_agent_applies_total") == 1, 60);
    test_wait_for(value_of(agent_monitor, "headwater_agent_in_sync") == 1, 60);
    ck_assert(value_of(agent_monitor, "headwater_agent_running_revision") == 1);
    ck_assert(value_of(agent_monitor, "headwater_agent_nats_up") == 1);
    ck_assert(value_of(agent_monitor, "headwater_agent_failures_total") == 0);
    struct test_answer ready = test_http(agent_monitor, "GET", "/readyz", NULL, NULL, 0);
    ck_assert_msg(ready.status == 200, "%s", ready.body);
    test_answer_free(&ready);
    ck_assert_int_eq(test_program_stop(&agent, SIGTERM), 0);
}
END_TEST

/* ---- the files below deploy/ ---- */

/* Is there such a family? The parts of a histogram belong to one. */
static bool shown(const char *text, const char *name)
{
    static const char *const parts[] = {"", "_bucket", "_sum", "_count"};

    for (size_t i = 0; i < HW_COUNT(parts); i++) {
        const size_t len = strlen(name), part = strlen(parts[i]);

        if (len <= part || strcmp(name + len - part, parts[i]) != 0)
            continue;
        HW_AUTO_FREE char *row =
            hw_sprintf("# TYPE %.*s %s", (int)(len - part), name, part > 0 ? "histogram\n" : "");
        if (strstr(text, row) != NULL)
            return true;
    }
    return false;
}

static int check_names(const char *path, const char *all)
{
    static const char *const prefixes[] = {"headwater_api_", "headwater_reconciler_",
                                           "headwater_agent_"};
    HW_AUTO_FREE char *text = test_read_file(path);
    int found = 0;

    ck_assert_msg(*text != '\0', "%s is missing", path);
    for (size_t i = 0; i < HW_COUNT(prefixes); i++)
        for (const char *at = text; (at = strstr(at, prefixes[i])) != NULL; found++) {
            size_t len = 0;

            while (isalnum((unsigned char)at[len]) || at[len] == '_')
                len++;
            HW_AUTO_FREE char *name = hw_strndup(at, len);
            ck_assert_msg(shown(all, name), "%s names %s, which no program shows", path, name);
            at += len;
        }
    return found;
}

/* promtool comes with the package prometheus. */
static void promtool(const char *what, const char *of, const char *file, const char *input)
{
    const char *const argv[] = {PROMTOOL, what, of, file, NULL};
    HW_AUTO_FREE char *output = NULL;

    if (access(PROMTOOL, X_OK) != 0) {
        printf("%s is not here: %s %s was not made\n", PROMTOOL, what, of);
        return;
    }
    const int status = test_program_run(argv, NULL, input, &output);
    ck_assert_msg(status == 0, "promtool %s %s: %d\n%s", what, of, status, output);
}

START_TEST(test_names)
{
    HW_AUTO_FREE char *of_api = metrics_of(api.port);
    HW_AUTO_FREE char *of_reconciler = metrics_of(p.monitor);
    start_agent();
    HW_AUTO_FREE char *of_agent = metrics_of(agent_monitor);
    ck_assert_int_eq(test_program_stop(&agent, SIGTERM), 0);
    HW_AUTO_FREE char *all = hw_sprintf("%s%s%s", of_api, of_reconciler, of_agent);
    json_error_t error;
    json_t *dashboard = json_load_file(DASHBOARD, 0, &error);

    ck_assert_msg(dashboard != NULL, "%s: %s", DASHBOARD, error.text);
    ck_assert_uint_gt(json_array_size(json_object_get(dashboard, "panels")), 0);
    json_decref(dashboard);
    ck_assert_int_gt(check_names(RULES, all), 10);
    ck_assert_int_gt(check_names(DASHBOARD, all), 10);
    promtool("check", "metrics", NULL, of_api);
    promtool("check", "metrics", NULL, of_reconciler);
    promtool("check", "metrics", NULL, of_agent);
    /* And the table for people has every family. */
    HW_AUTO_FREE char *docs = test_read_file("docs/operations.md");
    for (const char *at = all; (at = strstr(at, "# TYPE ")) != NULL;) {
        at += strlen("# TYPE ");
        HW_AUTO_FREE char *name = hw_strndup(at, strcspn(at, " "));
        HW_AUTO_FREE char *quoted = hw_sprintf("`%s`", name);
        ck_assert_msg(strstr(docs, quoted) != NULL, "docs/operations.md lacks %s", quoted);
    }
}
END_TEST

/* Each alert says what to do, in a section that there is. */
START_TEST(test_runbooks)
{
    HW_AUTO_FREE char *rules = test_read_file(RULES);
    HW_AUTO_FREE char *docs = test_read_file("docs/operations.md");
    int alerts = 0, runbooks = 0;

    for (const char *at = rules; (at = strstr(at, "- alert: ")) != NULL; at++)
        alerts++;
    for (const char *at = rules; (at = strstr(at, "runbook: ")) != NULL;) {
        at += strlen("runbook: ");
        HW_AUTO_FREE char *line = hw_strndup(at, strcspn(at, "\n"));
        static const char file[] = "docs/operations.md, ";

        ck_assert_msg(strncmp(line, file, strlen(file)) == 0, "%s", line);
        HW_AUTO_FREE char *heading = hw_sprintf("\n## %s\n", line + strlen(file));
        HW_AUTO_FREE char *case_of = hw_sprintf("**%s", line + strlen(file));
        ck_assert_msg(strstr(docs, heading) != NULL || strstr(docs, case_of) != NULL,
                      "docs/operations.md has no \"%s\"", line + strlen(file));
        runbooks++;
    }
    ck_assert_int_gt(alerts, 0);
    ck_assert_int_eq(alerts, runbooks);
}
END_TEST

START_TEST(test_promtool_files)
{
    promtool("check", "config", "deploy/prometheus/prometheus.yml", NULL);
    promtool("check", "rules", RULES, NULL);
    promtool("test", "rules", "deploy/prometheus/headwater.test.yml", NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *all = tcase_create("metrics");

    TCase *files = tcase_create("files");

    tcase_add_checked_fixture(all, start, stop);
    tcase_set_timeout(all, 300);
    tcase_set_timeout(files, 120);
    tcase_add_test(all, test_api_counts);
    tcase_add_test(all, test_reconciler_counts);
    tcase_add_test(all, test_agent_counts);
    tcase_add_test(all, test_names);
    tcase_set_timeout(files, 120);
    tcase_add_test(files, test_runbooks);
    tcase_add_test(files, test_promtool_files);
    suite_add_tcase(suite, all);
    suite_add_tcase(suite, files);
    return test_suite_finish(suite);
}
