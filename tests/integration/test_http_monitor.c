/* The monitor of a program: its pages, what clients do wrong, and what it stands. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/metrics.h"
#include "http/monitor.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

enum { PLACES = 64, DEADLINE_S = 10 };

struct values {
    uint64_t asked;
    double big;
};

static const struct hw_metric table[] = {
    {HW_METRIC(struct values, asked, "x_asked_total", "How often this was asked for.")},
    {HW_METRIC(struct values, big, "x_big", "A gauge.")},
    {0},
};

/* The program: a loop on a thread of its own. */
static struct hw_loop *loop;
static struct hw_monitor *monitor;
static struct values values;
static atomic_bool nats_ok = true;
static pthread_t thread;
static int port;

static void check(void *arg, struct hw_checks *checks)
{
    const bool ok = nats_ok;

    ck_assert(pthread_equal(pthread_self(), thread));
    ck_assert_ptr_eq(arg, &values);
    hw_check(checks, "database", true, "streams from %s", "\"headwater\"");
    hw_check(checks, "nats", ok, "%s", ok ? "connected" : "no answer\nfor 5 s");
}

static void write_metrics(void *arg, struct hw_buf *out)
{
    struct values *v = arg;

    v->asked++;
    v->big = 0.5;
    hw_metrics_write(&(struct hw_metrics){table, v}, out);
}

static const struct hw_monitor_source source = {check, write_metrics, &values};

static void *run_loop(void *arg)
{
    struct hw_error err;

    (void)arg;
    if (hw_loop_run(loop, &err) != HW_OK)
        test_fail("%s", err.message);
    return NULL;
}

static void start(void)
{
    struct hw_error err = {0};

    ck_assert_msg(hw_loop_new(&loop, &err) == HW_OK, "%s", err.message);
    ck_assert_msg(hw_monitor_start(loop, "127.0.0.1:0", &source, &monitor, &err) == HW_OK, "%s",
                  err.message);
    ck_assert_int_eq(strncmp(hw_monitor_name(monitor), "127.0.0.1:", 10), 0);
    port = (int)strtol(hw_monitor_name(monitor) + 10, NULL, 10);
    ck_assert_int_eq(pthread_create(&thread, NULL, run_loop, NULL), 0);
}

static void stop_loop(void *arg)
{
    hw_loop_stop(arg);
}

static void stop(void)
{
    hw_loop_post(loop, stop_loop, loop);
    pthread_join(thread, NULL);
    hw_monitor_stop(monitor);
    hw_loop_free(loop);
}

static struct test_answer get(const char *target)
{
    return test_http(port, "GET", target, NULL, NULL, 0);
}

static void check_status(int status, struct test_answer answer)
{
    ck_assert_msg(answer.status == status, "expected %d, got %d:\n%s%s", status, answer.status,
                  answer.head != NULL ? answer.head : "", answer.body != NULL ? answer.body : "");
    test_answer_free(&answer);
}

static void check_header(const struct test_answer *answer, const char *name, const char *value)
{
    HW_AUTO_FREE char *got = test_answer_header(answer, name);

    ck_assert_msg(got != NULL && strcmp(got, value) == 0, "%s: %s is not in\n%s", name, value,
                  answer->head);
}

/* ---- pages ---- */

START_TEST(test_health)
{
    struct test_answer answer = get("/healthz");

    ck_assert_str_eq(answer.body, "{\"status\":\"ok\"}");
    check_header(&answer, "Content-Type", "application/json");
    check_header(&answer, "Cache-Control", "no-store");
    ck_assert(answer.closed);
    check_status(200, answer);
}
END_TEST

START_TEST(test_ready)
{
    struct test_answer answer = get("/readyz");

    ck_assert_str_eq(answer.body, "{\"ready\":true,\"checks\":["
                                  "{\"name\":\"database\",\"ok\":true,"
                                  "\"text\":\"streams from \\\"headwater\\\"\"},"
                                  "{\"name\":\"nats\",\"ok\":true,\"text\":\"connected\"}]}");
    check_header(&answer, "Content-Type", "application/json");
    check_status(200, answer);

    nats_ok = false;
    answer = get("/readyz");
    json_t *body = test_answer_json(&answer);
    json_t *nats = json_array_get(json_object_get(body, "checks"), 1);
    ck_assert(json_is_false(json_object_get(body, "ready")));
    ck_assert_uint_eq(json_array_size(json_object_get(body, "checks")), 2);
    ck_assert(json_is_false(json_object_get(nats, "ok")));
    ck_assert_str_eq(json_string_value(json_object_get(nats, "text")), "no answer\nfor 5 s");
    json_decref(body);
    check_status(503, answer);
    check_status(200, get("/healthz"));

    nats_ok = true;
    check_status(200, get("/readyz"));
}
END_TEST

START_TEST(test_metrics)
{
    for (int i = 1; i <= 2; i++) {
        HW_AUTO_FREE char *expected =
            hw_sprintf("# HELP x_asked_total How often this was asked for.\n"
                       "# TYPE x_asked_total counter\nx_asked_total %d\n"
                       "# HELP x_big A gauge.\n# TYPE x_big gauge\nx_big 0.5\n",
                       i);
        struct test_answer answer = get("/metrics?a=b");

        ck_assert_str_eq(answer.body, expected);
        check_header(&answer, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
        check_status(200, answer);
    }
}
END_TEST

START_TEST(test_head)
{
    static const char *const pages[] = {"/healthz", "/readyz", "/metrics"};

    for (size_t i = 0; i < HW_COUNT(pages); i++) {
        struct test_answer whole = get(pages[i]);
        struct test_answer head = test_http(port, "HEAD", pages[i], NULL, NULL, 0);
        HW_AUTO_FREE char *length = test_answer_header(&whole, "Content-Length");

        check_header(&head, "Content-Length", length);
        check_status(200, head);
        check_status(200, whole);
    }
    nats_ok = false;
    check_status(503, test_http(port, "HEAD", "/readyz", NULL, NULL, 0));
}
END_TEST

/* ---- what clients do wrong ---- */

START_TEST(test_refused)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "X"};
    static const char *const nowhere[] = {"/",         "/healthz/", "/healthzz", "/v1/nodes",
                                          "//healthz", "/HEALTHZ",  "/metrics/x"};

    for (size_t i = 0; i < HW_COUNT(methods); i++) {
        struct test_answer answer = test_http(port, methods[i], "/metrics", NULL, "body", 4);

        check_header(&answer, "Allow", "GET, HEAD");
        check_status(405, answer);
        check_status(404, test_http(port, methods[i], "/nowhere", NULL, NULL, 0));
    }
    for (size_t i = 0; i < HW_COUNT(nowhere); i++)
        check_status(404, get(nowhere[i]));
    ck_assert_uint_eq(values.asked, 0);
}
END_TEST

static struct test_answer ask_raw(const char *bytes)
{
    const int fd = test_http_connect(port);
    struct test_answer answer;

    test_http_puts(fd, bytes);
    answer = test_http_receive(fd, false);
    close(fd);
    return answer;
}

/* A web page with a name of its own that points here may not read. */
START_TEST(test_host)
{
    check_status(421, ask_raw("GET /metrics HTTP/1.1\r\nHost: example.org\r\n\r\n"));
    check_status(200, ask_raw("GET /metrics HTTP/1.1\r\nHost: localhost:9090\r\n\r\n"));
    check_status(400, ask_raw("GET /metrics HTTP/1.1\r\n\r\n"));
}
END_TEST

START_TEST(test_large)
{
    const size_t len = 32 << 10, body_len = 512 << 10, too_long = 256 << 20;
    char *long_text = hw_alloc(len + 1), *body = hw_alloc(body_len);

    memset(long_text, 'a', len);
    HW_AUTO_FREE char *header = hw_sprintf("X-Long: %s\r\n", long_text);
    HW_AUTO_FREE char *target = hw_sprintf("/%s", long_text);
    check_status(431, test_http(port, "GET", "/metrics", header, NULL, 0));
    check_status(414, get(target));

    /* A body is read, so that the answer arrives; one without an end is not. */
    check_status(405, test_http(port, "POST", "/metrics", NULL, body, body_len));
    const int fd = test_http_connect(port);
    test_http_puts(fd, "POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    size_t sent = 0;
    bool cut = false;
    while (!cut && sent < too_long) {
        test_http_puts(fd, "80000\r\n");
        cut = send(fd, body, body_len, MSG_NOSIGNAL) < 0;
        test_http_puts(fd, "\r\n");
        sent += body_len;
    }
    ck_assert(cut);
    close(fd);
    check_status(200, get("/healthz"));
    free(long_text);
    free(body);
}
END_TEST

/* What is not HTTP is cut, or told so, as the library likes. */
START_TEST(test_garbage)
{
    static const char *const texts[] = {"nonsense\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n",
                                        "GET /metrics HTTP/9.9\r\nHost: a\r\n\r\n",
                                        "GET\r\n: \r\n\r\n"};

    for (size_t i = 0; i < HW_COUNT(texts); i++) {
        struct test_answer answer = ask_raw(texts[i]);

        ck_assert_msg(answer.status == 0 || answer.status == 400 || answer.status == 505, "%s: %d",
                      texts[i], answer.status);
        test_answer_free(&answer);
    }
    check_status(200, get("/healthz"));
}
END_TEST

static bool is_readable(int fd, double timeout_s)
{
    struct pollfd socket = {.fd = fd, .events = POLLIN};

    return poll(&socket, 1, (int)(timeout_s * 1000)) == 1;
}

/* Who finds all places taken waits until one is free. */
START_TEST(test_limit)
{
    int fds[PLACES];

    for (int i = 0; i < PLACES; i++)
        fds[i] = test_http_connect(port);
    const int next = test_http_connect(port);
    test_http_puts(next, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    ck_assert(!is_readable(next, 0.3));
    close(fds[0]);
    check_status(200, test_http_receive(next, false));
    close(next);
    for (int i = 1; i < PLACES; i++) {
        ck_assert(!test_http_closed(fds[i], 0)); /* not their deadline made room */
        close(fds[i]);
    }
    check_status(200, get("/healthz"));
}
END_TEST

/* Nobody keeps a place by being slow: not by silence, nor with a byte now and then. */
START_TEST(test_slow)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: ";
    int fds[PLACES];
    size_t sent = 0;
    const double begin = test_now(), until = test_deadline(2 * DEADLINE_S);

    for (int i = 0; i < PLACES; i++)
        fds[i] = test_http_connect(port);
    for (int i = 1; i < PLACES / 2; i++)
        test_http_puts(fds[i], "GET /healthz HTTP/1.1\r\nHost: a\r\n");
    const int next = test_http_connect(port);
    test_http_puts(next, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    while (!is_readable(fds[0], 0.05) && test_now() < until) {
        test_http_send(fds[0], sent < strlen(request) ? request + sent : "x", 1);
        sent++;
    }
    ck_assert_uint_gt(sent, 50);
    for (int i = 0; i < PLACES; i++) {
        ck_assert_msg(test_http_closed(fds[i], DEADLINE_S), "connection %d is still there", i);
        close(fds[i]);
    }
    ck_assert(test_now() - begin > DEADLINE_S - 0.5);
    ck_assert(test_now() - begin < DEADLINE_S + 5 * test_patience());
    check_status(200, test_http_receive(next, false));
    close(next);
}
END_TEST

/* ---- beginning and end ---- */

static void stop_monitor(void *arg)
{
    (void)arg;
    hw_monitor_stop(HW_TAKE(monitor));
}

/* Stopped while the program goes on, with clients in every state; the port is free at once. */
START_TEST(test_stop_while_connected)
{
    struct hw_address address;
    struct hw_error err = {0};
    HW_AUTO_FREE char *name = hw_strdup(hw_monitor_name(monitor));
    const int idle = test_http_connect(port), begun = test_http_connect(port);
    const int body = test_http_connect(port);
    int fd;

    test_http_puts(begun, "GET /healthz HTTP/1.1\r\nHost: a\r\n");
    test_http_puts(body, "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc");
    check_status(200, get("/healthz")); /* so the three are accepted */
    hw_loop_post(loop, stop_monitor, NULL);
    ck_assert(test_http_closed(idle, 30));
    ck_assert(test_http_closed(begun, 30));
    ck_assert(test_http_closed(body, 30));
    close(idle);
    close(begun);
    close(body);
    ck_assert_int_eq(hw_address_parse(name, &address, &err), HW_OK);
    ck_assert_msg(hw_address_listen(&address, &fd, &err) == HW_OK, "%s", err.message);
    close(fd);
}
END_TEST

START_TEST(test_start)
{
    static const struct {
        const char *listen;
        enum hw_status status;
        const char *message;
    } refused[] = {{"0.0.0.0:0", HW_EDENIED, "loopback"},
                   {"[::]:0", HW_EDENIED, "loopback"},
                   {"10.0.0.1:0", HW_EDENIED, "loopback"},
                   {"9090", HW_EINVAL, "host:port"},
                   {"example.org:80", HW_EINVAL, "numeric"}};
    struct hw_monitor *other = monitor;
    struct hw_error err = {0};

    for (size_t i = 0; i < HW_COUNT(refused); i++) {
        ck_assert_int_eq(hw_monitor_start(loop, refused[i].listen, &source, &other, &err),
                         refused[i].status);
        ck_assert_msg(strstr(err.message, refused[i].message) != NULL, "%s", err.message);
    }
    ck_assert_int_ne(hw_monitor_start(loop, hw_monitor_name(monitor), &source, &other, &err),
                     HW_OK);
    ck_assert_msg(strstr(err.message, hw_monitor_name(monitor)) != NULL, "%s", err.message);
    ck_assert_ptr_eq(other, monitor);

    ck_assert_int_eq(hw_monitor_start(loop, "", &source, &other, &err), HW_OK);
    ck_assert_ptr_null(other);
    other = monitor;
    ck_assert_int_eq(hw_monitor_start(loop, NULL, &source, &other, &err), HW_OK);
    ck_assert_ptr_null(other);
    ck_assert_str_eq(hw_monitor_name(other), "");
    hw_monitor_stop(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("monitor");
    TCase *all = tcase_create("monitor");

    tcase_add_checked_fixture(all, start, stop);
    tcase_set_timeout(all, 60);
    tcase_add_test(all, test_health);
    tcase_add_test(all, test_ready);
    tcase_add_test(all, test_metrics);
    tcase_add_test(all, test_head);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_host);
    tcase_add_test(all, test_garbage);
    tcase_add_test(all, test_large);
    tcase_add_test(all, test_limit);
    tcase_add_test(all, test_slow);
    tcase_add_test(all, test_stop_while_connected);
    tcase_add_test(all, test_start);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
