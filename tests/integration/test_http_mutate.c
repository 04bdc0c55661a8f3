/*
 * Mutated requests against a real service: the valid ones of api/openapi.json, changed in method,
 * target, header fields, framing and body. Nothing may crash it, be answered 500, be left without
 * an answer, or keep connections and memory. What is sent follows from a seed, which is printed.
 */
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/openapi.h"
#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

enum {
    REQUESTS = 2000,
    SEED = 1,
    CALLS = 256,   /* connections at a time */
    ANSWER_S = 60, /* the longest that one may last, on a busy machine */
    REQUEST_MAX = 256 << 10,
    GROWTH_KIB = 64 << 10, /* of what is resident, between a tenth of the run and its end */
};

static struct test_postgres pg;
static struct test_api api;
static json_t *document;

/* ---- chance: xorshift64*, so that a seed means the same everywhere ---- */

static uint64_t chance;

static size_t below(size_t most)
{
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return (size_t)((chance * 0x2545F4914F6CDD1DULL) >> 33) % most;
}

static bool one_in(size_t n)
{
    return below(n) == 0;
}

static const char *any(const char *const *list, size_t count)
{
    return list[below(count)];
}
#define ANY(list) any(list, HW_COUNT(list))

/* ---- valid requests ---- */

struct valid {
    const char *method;
    const json_t *request;
};
static struct valid valid[512];
static size_t valid_count;

static void collect(void)
{
    static char methods[4][8] = {"GET", "PUT", "POST", "DELETE"};
    const char *path, *name;
    json_t *operations, *operation, *request;
    size_t i;

    document = json_loadb(api_openapi, api_openapi_len, 0, NULL);
    json_object_foreach(json_object_get(document, "paths"), path, operations) {
        json_object_foreach(operations, name, operation) {
            json_array_foreach(json_object_get(operation, "x-requests"), i, request) {
                struct valid *v = &valid[valid_count];

                for (size_t m = 0; m < HW_COUNT(methods); m++)
                    if (strcasecmp(methods[m], name) == 0)
                        v->method = methods[m];
                v->request = request;
                if (valid_count < HW_COUNT(valid) - 1)
                    valid_count++;
            }
        }
    }
    ck_assert_uint_gt(valid_count, 20);
}

/* ---- mutation ---- */

/* Bytes that mean something to someone on the way. */
static const char *const spice[] = {
    "%00",
    "%2F",
    "%2e%2e",
    "..",
    "/",
    "//",
    "?",
    "&",
    "=",
    "#",
    "%",
    "%zz",
    "%C3%28",
    "\xC3\xBC",
    "\xFF",
    "'",
    "';--",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "0.1",
    "9223372036854775807",
    "9223372036854775808",
    "99999999999999999999",
    "\\u0000",
    "\\ud800",
    " ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "$1",
    "{}",
    "*",
    "W/",
    "\"1\"",
    "ffffffff/ffffffff",
    "0/0",
    "infinity",
    "NaN",
    "\x01",
    "\x7F",
    "<b>",
    "http://",
    "A",
    "application/json",
    ";",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static void put_in(struct hw_buf *text, size_t at, const char *what, size_t len)
{
    hw_buf_reserve(text, len);
    memmove(text->data + at + len, text->data + at, text->len - at + 1);
    memcpy(text->data + at, what, len);
    text->len += len;
}

static void take_out(struct hw_buf *text, size_t at, size_t len)
{
    memmove(text->data + at, text->data + at + len, text->len - at - len + 1);
    text->len -= len;
}

static void mutate(struct hw_buf *text)
{
    for (size_t n = 1 + below(3); n > 0; n--) {
        const size_t at = below(text->len + 1);
        const char *what = ANY(spice);

        switch (below(5)) {
        case 0:
        case 1:
            put_in(text, at, what, strlen(what));
            break;
        case 2: /* something is gone */
            if (text->len > 0)
                take_out(text, at % text->len, 1 + below(text->len - at % text->len));
            break;
        case 3: /* something is there twice, or often */
            if (text->len > 0) {
                const size_t from = at % text->len, len = 1 + below(text->len - from);
                HW_AUTO_FREE char *part = hw_strndup(text->data + from, len);

                for (size_t times = one_in(20) ? 50 : 1; times > 0 && text->len < REQUEST_MAX / 2;
                     times--)
                    put_in(text, from, part, strlen(part));
            }
            break;
        default:
            if (text->len > 0)
                text->data[at % text->len] = (char)below(256);
        }
    }
}

static void add_field(struct hw_buf *head)
{
    static const char *const names[] = {
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Content-Type",
        "If-Match",
        "If-None-Match",
        "Expect",
        "Connection",
        "Authorization",
        "Idempotency-Key",
        "Accept",
        "Range",
        "Cookie",
        "Last-Event-ID",
        "Upgrade",
        "X-Forwarded-For",
        "Content-Encoding",
        "TE",
    };
    static const char *const values[] = {
        "",
        "*",
        "\"1\"",
        "W/\"2\", \"3\"",
        "0",
        "5",
        "-1",
        "18446744073709551616",
        "chunked",
        "gzip",
        "chunked, chunked",
        "100-continue",
        "close",
        "keep-alive",
        "Upgrade",
        "application/json",
        "text/plain; charset=latin1",
        "text/plain; charset=\"utf-8\"",
        "multipart/form-data; boundary=x",
        "127.0.0.1",
        "www.example.org",
        "[::1]",
        "Bearer hwt_0123456789abcdef_",
        "Basic YTpi",
        "bytes=0-1",
        "h2c",
        "\xFF\xFE",
        "a\tb",
        "0/16B3748",
    };
    struct hw_buf value = {0};

    hw_buf_puts(&value, ANY(values));
    if (one_in(3))
        mutate(&value);
    hw_buf_printf(head, "%s%s", ANY(names), one_in(20) ? " : " : ": ");
    hw_buf_add(head, hw_buf_str(&value), value.len);
    hw_buf_puts(head, one_in(50) ? "\n" : "\r\n");
    hw_buf_free(&value);
}

static void body_of(const json_t *request, struct hw_buf *body)
{
    const json_t *value = json_object_get(request, "body");

    hw_buf_puts(body, "");
    if (json_is_string(value)) {
        hw_buf_puts(body, json_string_value(value));
    } else if (json_object_get(value, "repeat") != NULL) {
        for (size_t n = below(2000); n > 0; n--)
            hw_buf_puts(body, json_string_value(json_object_get(value, "repeat")));
    } else if (value != NULL) {
        HW_AUTO_FREE char *text = json_dumps(value, JSON_COMPACT);

        hw_buf_puts(body, text);
    }
}

static void add_chunked(struct hw_buf *out, const struct hw_buf *body)
{
    static const char *const ends[] = {
        "0\r\n\r\n",  "0\r\n\r\n",  "0\r\n\r\n", "0\r\nA: b\r\n\r\n",
        "00\r\n\r\n", "-1\r\n\r\n", "zz\r\n",    "fffffffffffffffff\r\n"};

    for (size_t at = 0; at < body->len;) {
        const size_t len = 1 + below(body->len - at);

        hw_buf_printf(out, "%zx%s\r\n", len, one_in(10) ? ";a=b" : "");
        hw_buf_add(out, body->data + at, len);
        hw_buf_puts(out, one_in(50) ? "" : "\r\n");
        at += len;
    }
    hw_buf_puts(out, ANY(ends));
}

static void make_request(struct hw_buf *out)
{
    static const char *const methods[] = {"GET",     "HEAD",  "PUT",     "POST", "DELETE", "PATCH",
                                          "OPTIONS", "TRACE", "CONNECT", "get",  "BREW",   ""};
    static const char *const versions[] = {"HTTP/1.1", "HTTP/1.1", "HTTP/1.0",
                                           "HTTP/2.0", "HTTP/1.9", "http/1.1"};
    const struct valid *v = &valid[below(valid_count)];
    struct hw_buf target = {0}, body = {0};
    const char *name;
    json_t *value;

    hw_buf_reset(out);
    hw_buf_puts(&target, json_string_value(json_object_get(v->request, "target")));
    if (strstr(target.data, "timeout") != NULL || strstr(target.data, "/v1/wait") != NULL) {
        hw_buf_reset(&target); /* a wait that is long is no stuck connection */
        hw_buf_puts(&target, "/v1/wait?lsn=0/1&timeout=0");
    }
    if (strstr(target.data, "/v1/events") != NULL) { /* nor is a stream */
        hw_buf_reset(&target);
        hw_buf_puts(&target, "/v1");
    }
    body_of(v->request, &body);
    if (one_in(4))
        mutate(&target);
    if (one_in(4))
        mutate(&body);
    hw_buf_printf(out, "%s ", one_in(4) ? ANY(methods) : v->method);
    hw_buf_add(out, hw_buf_str(&target), target.len);
    hw_buf_printf(out, " %s\r\n", one_in(20) ? ANY(versions) : "HTTP/1.1");
    if (!one_in(50))
        hw_buf_printf(out, "Host: 127.0.0.1:%d\r\n", api.port);
    json_object_foreach(json_object_get(v->request, "headers"), name, value) {
        if (!one_in(10))
            hw_buf_printf(out, "%s: %s\r\n", name, json_string_value(value));
    }
    for (size_t n = one_in(3) ? 1 + below(3) : 0; n > 0; n--)
        add_field(out);
    if (one_in(200)) /* more than there is room for */
        for (int i = 0; i < 1000; i++)
            hw_buf_printf(out, "X-Field-%d: aaaaaaaaaaaaaaaa\r\n", i);
    if (body.len > 0 && one_in(4)) {
        hw_buf_puts(out, "Transfer-Encoding: chunked\r\n\r\n");
        add_chunked(out, &body);
    } else {
        if (body.len > 0)
            hw_buf_printf(out, "Content-Length: %zu\r\n",
                          one_in(20) ? below(2 * body.len + 1) : body.len);
        hw_buf_puts(out, "\r\n");
        hw_buf_add(out, hw_buf_str(&body), body.len);
    }
    if (one_in(20))
        mutate(out);
    hw_buf_free(&target);
    hw_buf_free(&body);
}

/* ---- sending ---- */

static struct {
    unsigned long statuses[600];
    unsigned long closed;
} seen;

/* A connection that a request was sent on. What is left open is closed by the service, which gives
 * a client little time here. */
struct call {
    int fd; /* -1: none */
    size_t number;
    double until;
    struct hw_buf request, answer;
};
static struct call calls[CALLS];

static void judge(const struct call *call)
{
    const char *answer = hw_buf_str(&call->answer);
    const long status = call->answer.len > 12 ? strtol(answer + 9, NULL, 10) : 0;

    if (call->answer.len == 0) {
        seen.closed++;
        if (!test_program_running(&api.program))
            test_fail("request %zu ended the service:\n%.2000s", call->number,
                      hw_buf_str(&call->request));
        return;
    }
    if (strncmp(answer, "HTTP/1.", 7) != 0 || status < 100 || status > 599 || status == 500 ||
        strstr(answer, "HTTP/1.1 500") != NULL)
        test_fail("request %zu:\n%.2000s\n---- answered:\n%.1000s", call->number,
                  hw_buf_str(&call->request), answer);
    seen.statuses[status]++;
}

/* Reads what came on all connections; ends those that the service closed. */
static void read_answers(int wait_ms)
{
    struct pollfd sockets[CALLS];
    char chunk[16 << 10];

    for (int i = 0; i < CALLS; i++)
        sockets[i] = (struct pollfd){.fd = calls[i].fd, .events = POLLIN};
    if (poll(sockets, CALLS, wait_ms) < 0)
        test_fail("poll");
    for (int i = 0; i < CALLS; i++) {
        struct call *call = &calls[i];
        ssize_t got;

        if (call->fd >= 0 && test_now() > call->until)
            test_fail("request %zu: stuck:\n%.2000s\n---- so far:\n%.500s", call->number,
                      hw_buf_str(&call->request), hw_buf_str(&call->answer));
        if (sockets[i].revents == 0)
            continue;
        got = recv(call->fd, chunk, sizeof(chunk), 0);
        if (got > 0 && call->answer.len < sizeof(chunk))
            hw_buf_add(&call->answer, chunk, (size_t)got);
        if (got > 0)
            continue;
        judge(call);
        close(call->fd);
        call->fd = -1;
    }
}

static struct call *free_call(void)
{
    for (;; read_answers(1000))
        for (int i = 0; i < CALLS; i++)
            if (calls[i].fd < 0)
                return &calls[i];
}

static bool is_any_open(void)
{
    for (int i = 0; i < CALLS; i++)
        if (calls[i].fd >= 0)
            return true;
    return false;
}

/* A descriptor is one of a connection, of the database, or one that the service always has. */
static long descriptors(void)
{
    HW_AUTO_FREE char *path = hw_sprintf("/proc/%d/fd", (int)api.program.pid);
    DIR *dir = opendir(path);
    long count = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static size_t from_environment(const char *name, size_t preset)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtoul(text, NULL, 10) : preset;
}

START_TEST(test_mutations)
{
    const size_t requests = from_environment("REQUESTS", REQUESTS);
    const size_t seed = from_environment("SEED", SEED);
    long descriptors_before, resident_before = 0;

    printf("seed %zu, %zu requests\n", seed, requests);
    fflush(stdout);
    chance = seed * 2654435761U + 1;
    for (int i = 0; i < CALLS; i++)
        calls[i].fd = -1;
    /* The pool, and the one that listens: all of them are there. */
    test_wait_for(test_sql_is(&pg, "7",
                              "SELECT count(*) FROM pg_stat_activity "
                              "WHERE application_name LIKE 'headwater-api%%'"),
                  60);
    descriptors_before = descriptors();
    for (size_t i = 0; i < requests; i++) {
        struct call *call = free_call();

        make_request(&call->request);
        hw_buf_reset(&call->answer);
        call->number = i;
        call->fd = test_http_connect(api.port);
        call->until = test_deadline(ANSWER_S);
        test_http_send(call->fd, call->request.data, call->request.len);
        read_answers(0);
        if (i == requests / 10)
            resident_before = test_own_kib(api.program.pid);
    }
    while (is_any_open())
        read_answers(1000);
    for (size_t status = 0; status < HW_COUNT(seen.statuses); status++)
        if (seen.statuses[status] > 0)
            printf("%zu: %lu\n", status, seen.statuses[status]);
    printf("closed without an answer: %lu\n", seen.closed);
    ck_assert_uint_gt(seen.statuses[200] + seen.statuses[201] + seen.statuses[204], requests / 20);
    ck_assert_uint_lt(seen.closed, requests / 2);
    test_wait_for(descriptors() <= descriptors_before, 60);
    ck_assert_int_lt(test_own_kib(api.program.pid) - resident_before, GROWTH_KIB);
    for (int i = 0; i < CALLS; i++) {
        hw_buf_free(&calls[i].request);
        hw_buf_free(&calls[i].answer);
    }
}
END_TEST

static void start(void)
{
    /* What was freed counts as resident for a while, with the address sanitizer. */
    const char *options = getenv("ASAN_OPTIONS");
    HW_AUTO_FREE char *bounded =
        hw_sprintf("%s:quarantine_size_mb=8", options != NULL ? options : "detect_leaks=1");

    setenv("ASAN_OPTIONS", bounded, 1);
    collect();
    test_postgres_start(&pg, true, NULL);
    test_api_start(&api, pg.api_url, (const char *const[]){"--request-timeout", "400ms", NULL});
}

static void stop(void)
{
    test_api_stop(&api);
    test_postgres_remove(&pg);
    json_decref(document);
}

int main(void)
{
    Suite *suite = suite_create("http_mutate");
    TCase *tcase = tcase_create("http_mutate");

    tcase_set_timeout(tcase, 0);
    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_test(tcase, test_mutations);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
