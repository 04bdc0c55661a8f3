/* headwater-api as a server: what clients send wrong, slowly, or too much of; databases that go
 * away. */
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define JSON  "Content-Type: application/json\r\n"
#define BYTES "Content-Type: application/octet-stream\r\n"
#define LIMIT ((size_t)16 << 20)

static struct test_postgres pg;
static struct test_api api;
static struct test_api hasty; /* has no patience with clients */

static void start(void)
{
    const char *const options[] = {"--request-timeout", "500ms", NULL};

    test_postgres_start(&pg, true, NULL);
    test_api_start(&api, pg.api_url, NULL);
    test_api_start(&hasty, pg.api_url, options);
}

static void stop(void)
{
    test_api_stop(&api);
    test_api_stop(&hasty);
    test_postgres_remove(&pg);
}

static void check_status(int status, const char *problem, struct test_answer answer)
{
    ck_assert_msg(answer.status == status, "expected %d, got %d:\n%s%s", status, answer.status,
                  answer.head != NULL ? answer.head : "", answer.body != NULL ? answer.body : "");
    if (problem != NULL) {
        HW_AUTO_FREE char *name = test_answer_problem(&answer);

        ck_assert_str_eq(name, problem);
    }
    test_answer_free(&answer);
}

static void check_alive(const struct test_api *a)
{
    check_status(200, NULL, test_http(a->port, "GET", "/readyz", NULL, NULL, 0));
}

/* Sends bytes on a new connection. */
static int send_raw(const char *bytes)
{
    const int fd = test_http_connect(api.port);

    test_http_puts(fd, bytes);
    return fd;
}

/* The answer to bytes on a connection of their own. */
static struct test_answer ask_raw(const char *bytes)
{
    const int fd = send_raw(bytes);
    struct test_answer answer = test_http_receive(fd, false);

    close(fd);
    return answer;
}

/* ---- HTTP ---- */

START_TEST(test_keep_alive)
{
    const int fd = test_http_connect(api.port);
    static const struct {
        const char *request;
        int status;
    } cases[] = {
        {"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200},
        {"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404},
        {"DELETE /v1/nodes HTTP/1.1\r\nHost: a\r\n\r\n", 405},
        {"PUT /v1/nodes/ka HTTP/1.1\r\nHost: a\r\n" JSON "Content-Length: 2\r\n\r\n{}", 201},
        {"PUT /v1/nodes/ka HTTP/1.1\r\nHost: a\r\n" JSON "Content-Length: 2\r\n\r\n{]", 400},
        {"GET /v1/nodes/ka HTTP/1.1\r\nHost: a\r\n\r\n", 200},
        {"DELETE /v1/nodes/ka HTTP/1.1\r\nHost: a\r\n\r\n", 204},
        {"GET /v1/nodes/ka HTTP/1.1\r\nHost: a\r\n\r\n", 404},
    };

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        test_http_puts(fd, cases[i].request);
        struct test_answer answer = test_http_receive(fd, false);

        ck_assert_msg(answer.status == cases[i].status && !answer.closed, "%s%s", cases[i].request,
                      answer.head);
        test_answer_free(&answer);
    }
    test_http_puts(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    check_status(200, NULL, test_http_receive(fd, false));
    ck_assert(test_http_closed(fd, 10));
    close(fd);
}
END_TEST

/* Everything that comes until the server closes. */
static char *read_all(int fd)
{
    struct hw_buf all = {0};
    char chunk[4096];
    struct pollfd socket = {.fd = fd, .events = POLLIN};
    ssize_t got;

    do {
        if (poll(&socket, 1, test_patient_ms(60000)) != 1)
            test_fail("the server did not close; so far: \"%s\"", hw_buf_str(&all));
        got = recv(fd, chunk, sizeof(chunk), 0);
        hw_buf_add(&all, chunk, got > 0 ? (size_t)got : 0);
    } while (got > 0);
    close(fd);
    hw_buf_puts(&all, "");
    return all.data;
}

static int count(const char *text, const char *what)
{
    int n = 0;

    for (; (text = strstr(text, what)) != NULL; text++)
        n++;
    return n;
}

/* Requests behind each other, answered in order, though the first ones wait for the database. */
START_TEST(test_pipelining)
{
    HW_AUTO_FREE char *all = read_all(
        send_raw("PUT /v1/nodes/pipe HTTP/1.1\r\nHost: a\r\n" JSON "Content-Length: 2\r\n\r\n{}"
                 "GET /v1/nodes/pipe HTTP/1.1\r\nHost: a\r\n\r\n"
                 "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));

    ck_assert_int_eq(count(all, "HTTP/1.1 201 "), 1);
    ck_assert_int_eq(count(all, "HTTP/1.1 200 "), 2);
    ck_assert(strstr(all, "\"status\":\"ok\"") > strstr(all, "HTTP/1.1 200 "));
}
END_TEST

START_TEST(test_http_1_0)
{
    HW_AUTO_FREE char *all = read_all(send_raw("GET /healthz HTTP/1.0\r\n\r\n"));

    ck_assert_ptr_nonnull(strstr(all, " 200 "));
    ck_assert_ptr_nonnull(strstr(all, "{\"status\":\"ok\"}"));
}
END_TEST

START_TEST(test_chunked)
{
    check_status(201, NULL,
                 ask_raw("PUT /v1/configs/chunk HTTP/1.1\r\nHost: a\r\n" BYTES
                         "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n"
                         "0\r\nTrailer: x\r\n\r\n"));
    struct test_answer answer =
        test_http(api.port, "GET", "/v1/configs/chunk/content", NULL, NULL, 0);
    ck_assert_str_eq(answer.body, "abc0123456789");
    test_answer_free(&answer);

    /* Counted as it comes: the limit fits, a byte more does not. */
    static char zeros[1 << 20];
    for (int over = 0; over <= 1; over++) {
        const int fd = send_raw("PUT /v1/configs/chunk HTTP/1.1\r\nHost: a\r\n" BYTES
                                "Transfer-Encoding: chunked\r\n\r\n");

        for (int i = 0; i < 16; i++) {
            test_http_puts(fd, "100000\r\n");
            test_http_send(fd, zeros, sizeof(zeros));
            test_http_puts(fd, "\r\n");
        }
        test_http_puts(fd, over ? "1\r\nx\r\n0\r\n\r\n" : "0\r\n\r\n");
        check_status(over ? 413 : 200, over ? "too-large" : NULL, test_http_receive(fd, false));
        close(fd);
    }

    /* Without an end: cut off. */
    const int fd = send_raw("PUT /v1/configs/chunk HTTP/1.1\r\nHost: a\r\n" BYTES
                            "Transfer-Encoding: chunked\r\n\r\n");
    bool cut = false;
    for (int i = 0; i < 1000 && !cut; i++) {
        test_http_puts(fd, "100000\r\n");
        cut = send(fd, zeros, sizeof(zeros), MSG_NOSIGNAL) < 0;
        test_http_puts(fd, "\r\n");
    }
    ck_assert(cut);
    close(fd);
    check_alive(&api);
}
END_TEST

START_TEST(test_framing)
{
    static const struct {
        const char *head;
        int status;
        const char *problem;
    } cases[] = {
        {"PUT /v1/nodes/f HTTP/1.1\r\nHost: a\r\n" JSON
         "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
         400, "malformed-request"},
        {"PUT /v1/nodes/f HTTP/1.1\r\nHost: a\r\n" JSON
         "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
         400, "malformed-request"},
        {"PUT /v1/nodes/f HTTP/1.1\r\nHost: a\r\n" JSON
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         400, "malformed-request"},
        {"PUT /v1/nodes/f HTTP/1.1\r\nHost: a\r\n" JSON JSON "Content-Length: 2\r\n\r\n{}", 400,
         "malformed-request"},
        {"PUT /v1/nodes/f HTTP/1.1\r\nHost: a\r\n" JSON "Content-Length: 1048577\r\n\r\n", 413,
         "too-large"},
        {"PUT /v1/configs/f HTTP/1.1\r\nHost: a\r\n" BYTES "Content-Length: 16777217\r\n\r\n", 413,
         "too-large"},
        {"PUT /v1/configs/f HTTP/1.1\r\nHost: a\r\n" BYTES
         "Content-Length: 18446744073709551615\r\n\r\n",
         413, "too-large"},
        {"PUT /v1/nodes/f HTTP/1.1\r\nHost: a\r\n" JSON "Transfer-Encoding: gzip, chunked\r\n\r\n",
         501, "not-implemented"},
        {"GET /healthz HTTP/1.1\r\n\r\n", 400, "malformed-request"},
        {"GET /healthz HTTP/1.1\r\nHost: www.example.org\r\n\r\n", 421, "misdirected"},
        {"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed-request"},
        {"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", 200, NULL},
        {"GET /healthz HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200, NULL},
        {"GET /healthz HTTP/1.1\r\nHost: headwater.localhost\r\n\r\n", 200, NULL},
        {"GET http://127.0.0.1/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200, NULL},
        {"GET https://localhost/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200, NULL},
        {"GET http://www.example.org/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 421, "misdirected"},
        {"GET healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"},
        {"GET /v1/nodes?after=\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed-request"},
    };

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        struct test_answer answer = ask_raw(cases[i].head);

        ck_assert_msg(answer.status == cases[i].status, "%s\nexpected %d, got %d: %s",
                      cases[i].head, cases[i].status, answer.status,
                      answer.body != NULL ? answer.body : "");
        if (cases[i].problem != NULL) {
            HW_AUTO_FREE char *name = test_answer_problem(&answer);

            ck_assert_str_eq(name, cases[i].problem);
        }
        test_answer_free(&answer);
    }
    check_alive(&api);
}
END_TEST

/*
 * Heads in which another reader may see another request than the library does. Each is followed by
 * the bytes of a request that must not run, whoever takes them for a body and whoever does not.
 */
START_TEST(test_two_readings)
{
#define PUT         "PUT /v1/nodes/smuggled HTTP/1.1\r\nHost: a\r\n" JSON "Content-Length: 2\r\n\r\n{}"
#define HEAD(x)     "PUT /v1/nodes/outer HTTP/1.1\r\nHost: a\r\n" JSON x "\r\n\r\n" PUT
#define BYTES_OF(x) x, sizeof(x) - 1
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {BYTES_OF(HEAD("Content-Length : 97"))},
        {BYTES_OF(HEAD("Content-Length\t: 97"))},
        {BYTES_OF(HEAD("Transfer-Encoding : chunked"))},
        {BYTES_OF(HEAD("Transfer-Encoding:\r\n chunked"))},
        {BYTES_OF(HEAD("Transfer-Encoding: x\r\n\tchunked"))},
        {BYTES_OF(HEAD("Content-Length: 0\r\n 97"))},
        {BYTES_OF(HEAD("If-Match:\r\n \"88888\""))},
        {BYTES_OF(HEAD("If-None-Match: *\0\"9\""))},
        {BYTES_OF(HEAD("If-None-Match: *\0\0\"9\""))},
        {BYTES_OF(HEAD("If-None-Match: *\0\0\0\0\"9\"\r\nX: y"))},
        {BYTES_OF(HEAD("X\0: y\r\nContent-Length: 97"))},
        {BYTES_OF(HEAD("X: y\rContent-Length: 97"))},
        {BYTES_OF(HEAD("X: y\nContent-Length: 97"))},
        {BYTES_OF(HEAD("X: y\r\rContent-Length: 97"))},
        {BYTES_OF(HEAD("X: \x01"))},
        {BYTES_OF(HEAD("X: \x7f"))},
        {BYTES_OF(HEAD("X(y): z"))},
        {BYTES_OF(HEAD("Content-Length: 13, 13"))},
        {BYTES_OF(HEAD("Content-Length: +97"))},
        {BYTES_OF(HEAD("Content-Length: 97, 2"))},
        {BYTES_OF(HEAD("Transfer-Encoding: chunked, identity"))},
        {BYTES_OF(HEAD("Transfer-Encoding: \"chunked\""))},
        {BYTES_OF("GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n" PUT)},
        {BYTES_OF("GET /healthz  HTTP/1.1\r\nHost: a\r\n\r\n" PUT)},
        {BYTES_OF("GET\t/healthz HTTP/1.1\r\nHost: a\r\n\r\n" PUT)},
        {BYTES_OF("GET /healthz HTTP/1.1\nHost: a\n\n" PUT)},
        {BYTES_OF("GET /healthz HTTP/1.1\rHost: a\r\r" PUT)},
        {BYTES_OF("GET /healthz\0 HTTP/1.1\r\nHost: a\r\n\r\n" PUT)},
    };

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        const int fd = test_http_connect(api.port);

        ck_assert_int_eq(send(fd, cases[i].bytes, cases[i].size, MSG_NOSIGNAL),
                         (ssize_t)cases[i].size);
        HW_AUTO_FREE char *answers = read_all(fd);

        ck_assert_msg(*answers == '\0' || strncmp(answers, "HTTP/1.1 4", 10) == 0 ||
                          strncmp(answers, "HTTP/1.1 501", 12) == 0,
                      "%zu: %s\n%s", i, cases[i].bytes, answers);
        ck_assert_msg(strstr(answers + strlen("HTTP/1.1"), "HTTP/1.1 2") == NULL, "%zu: %s\n%s", i,
                      cases[i].bytes, answers);
        const char *const nodes[] = {"/v1/nodes/outer", "/v1/nodes/smuggled"};

        for (size_t j = 0; j < HW_COUNT(nodes); j++) {
            struct test_answer node = test_http(api.port, "GET", nodes[j], NULL, NULL, 0);

            ck_assert_msg(node.status == 404, "%zu: %s was made by %s", i, nodes[j],
                          cases[i].bytes);
            test_answer_free(&node);
        }
    }
#undef PUT
#undef HEAD
#undef BYTES_OF
    check_alive(&api);
}
END_TEST

/* A refusal as it was received, up to the end of the connection: what is wrong with it, or NULL. */
static char *fault_of_refusal(const char *bytes, const char *problem)
{
    static const char *const fields[] = {
        "\r\nContent-Type: application/problem+json\r\n", "\r\nCache-Control: no-cache\r\n",
        "\r\nX-Content-Type-Options: nosniff\r\n", "\r\nConnection: close\r\n"};
    const char *body = strstr(bytes, "\r\n\r\n");
    const char *length = strstr(bytes, "\r\nContent-Length: ");
    json_t *document;
    char *fault = NULL;

    if (body == NULL || length == NULL)
        return hw_sprintf("no answer");
    for (size_t i = 0; i < HW_COUNT(fields); i++) {
        const char *found = strstr(bytes, fields[i]);

        if (found == NULL || found > body)
            return hw_sprintf("without %s", fields[i]);
    }
    body += 4;
    if (strtoul(length + strlen("\r\nContent-Length: "), NULL, 10) != strlen(body))
        return hw_sprintf("of another length than its Content-Length");
    document = json_loads(body, 0, NULL);
    if (document == NULL)
        return hw_sprintf("no JSON");
    HW_AUTO_FREE char *type = hw_sprintf("urn:headwater:problem:%s", problem);
    const char *given = json_string_value(json_object_get(document, "type"));

    if (given == NULL || strcmp(given, type) != 0)
        fault = hw_sprintf("not %s", problem);
    else if (json_integer_value(json_object_get(document, "status")) !=
             strtol(bytes + strlen("HTTP/1.1 "), NULL, 10))
        fault = hw_sprintf("with another status in the document");
    json_decref(document);
    return fault;
}

/*
 * What cannot be read, where the HTTP library would answer with words of its own, or not at all.
 * Its versions find different things wrong; docs/http.md lists of what the connection is only
 * closed.
 */
START_TEST(test_refusals)
{
    enum { REFUSED, OR_CLOSED, CLOSED };
    static const char chunked[] =
        "PUT /v1/configs/f HTTP/1.1\r\nHost: a\r\n" BYTES "Transfer-Encoding: chunked\r\n\r\n";
    static const char put[] = "PUT /v1/nodes/f HTTP/1.1\r\nHost: a\r\n" JSON;
    static const char get[] = "GET /healthz HTTP/1.1\r\nHost: a\r\n";
    static const char malformed[] = "malformed-request";
    static const struct {
        const char *before, *middle;
        char many; /* this byte 64 Ki times */
        const char *behind;
        int outcome;
        const char *problem;
    } cases[] = {
        /* the request line */
        {"", "GET /\r\n\r\n", 0, "", REFUSED, malformed},
        {"", "A B C D E\r\n\r\n", 0, "", REFUSED, malformed},
        {"", "GET /healthz HTTP/1.1x\r\nHost: a\r\n\r\n", 0, "", REFUSED, malformed},
        {"", "GET /healthz http/1.1\r\nHost: a\r\n\r\n", 0, "", REFUSED, malformed},
        {"", "GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n", 0, "", REFUSED, "version-not-supported"},
        {"", "GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", 0, "", REFUSED, "version-not-supported"},
        {"", "GET /healthz HTTP/0.9\r\nHost: a\r\n\r\n", 0, "", REFUSED, "version-not-supported"},
        {"", "GET /v1/nodes/", 'x', " HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED, "target-too-long"},
        {"", "GET /v1/nodes?", '&', " HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED, "target-too-long"},
        {"", "GET /healthz ", 'H', "\r\nHost: a\r\n\r\n", REFUSED, "target-too-long"},
        {"", "", 'x', " / HTTP/1.1\r\nHost: a\r\n\r\n", OR_CLOSED, "target-too-long"},
        {"", "GET\r\n\r\n", 0, "", CLOSED, NULL},
        {"", " GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 0, "", CLOSED, NULL},
        {"", "\x16\x03\x01\x02\x05\x01\xff\xfc\x03\x03", 0, "", CLOSED, NULL},
        {"", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n", 0, "", CLOSED, NULL},
        /* the head */
        {get, "X: ", 'x', "\r\n\r\n", REFUSED, "headers-too-large"},
        {get, "", 'x', ": y\r\n\r\n", REFUSED, "headers-too-large"},
        {get, "X\r\n\r\n", 0, "", REFUSED, malformed},
        {"", "GET /healthz HTTP/1.1\r\nHost a\r\n\r\n", 0, "", REFUSED, malformed},
        {get, "X : a\r\n\r\n", 0, "", REFUSED, malformed},
        {get, ": a\r\n\r\n", 0, "", REFUSED, malformed},
        {get, "X: a\rb\r\n\r\n", 0, "", REFUSED, malformed},
        {get, "Content-Length: two\r\n\r\n", 0, "", REFUSED, malformed},
        {put, "Content-Length: two\r\n\r\n{}", 0, "", REFUSED, malformed},
        {put, "Content-Length: -1\r\n\r\n{}", 0, "", REFUSED, malformed},
        {put, "Content-Length: +2\r\n\r\n{}", 0, "", REFUSED, malformed},
        {put, "Content-Length: 2, 2\r\n\r\n{}", 0, "", REFUSED, malformed},
        {put, "Content-Length: 0x2\r\n\r\n{}", 0, "", REFUSED, malformed},
        {put, "Content-Length:\r\n\r\n{}", 0, "", REFUSED, malformed},
        {put, "Content-Length: 99999999999999999999\r\n\r\n{}", 0, "", REFUSED, "too-large"},
        {put, "Content-Length: 18446744073709551615\r\n\r\n{}", 0, "", REFUSED, "too-large"},
        {put, "Transfer-Encoding: gzip\r\n\r\n", 0, "", REFUSED, "not-implemented"},
        {put, "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, "", REFUSED, "not-implemented"},
        {get, "Transfer-Encoding: identity\r\n\r\n", 0, "", REFUSED, "not-implemented"},
        /* the body */
        {chunked, "zz\r\nab\r\n0\r\n\r\n", 0, "", REFUSED, malformed},
        {chunked, "-2\r\nab\r\n0\r\n\r\n", 0, "", REFUSED, malformed},
        {chunked, "2\r\nabc\r\n0\r\n\r\n", 0, "", REFUSED, malformed},
        {chunked, "fffffffffffffffff\r\nab\r\n0\r\n\r\n", 0, "", REFUSED, "too-large"},
    };
    struct hw_buf faults = {0};
    HW_AUTO_FREE char *many = hw_alloc((64 << 10) + 1);

    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        const int fd = test_http_connect(hasty.port);

        test_http_puts(fd, cases[i].before);
        test_http_puts(fd, cases[i].middle);
        memset(many, cases[i].many, 64 << 10);
        test_http_puts(fd, many);
        test_http_puts(fd, cases[i].behind);
        HW_AUTO_FREE char *answer = read_all(fd);
        HW_AUTO_FREE char *fault = NULL;

        if (cases[i].outcome == CLOSED)
            fault = *answer != '\0' ? hw_strdup("answered") : NULL;
        else if (cases[i].outcome != OR_CLOSED || *answer != '\0')
            fault = fault_of_refusal(answer, cases[i].problem);
        if (fault != NULL)
            hw_buf_printf(&faults, "\n%s%s%.1s…%s%s: %s", cases[i].before, cases[i].middle, many,
                          cases[i].behind, fault, answer);
    }
    ck_assert_msg(faults.len == 0, "%s", hw_buf_str(&faults));
    check_alive(&api);
}
END_TEST

/* More parameters and cookies than the HTTP library has room for are no trouble: of those we read
 * the query ourselves, and no connection is held for ever. */
START_TEST(test_many_values)
{
    struct hw_buf query = {0}, cookie = {0};

    for (int i = 0; i < 2000; i++)
        hw_buf_printf(&query, "a%d&", i);
    for (int i = 0; i < 1000; i++)
        hw_buf_printf(&cookie, "a%d=b; ", i);
    HW_AUTO_FREE char *asked =
        hw_sprintf("GET /v1/nodes?%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", query.data);
    check_status(400, "malformed-request", ask_raw(asked));
    HW_AUTO_FREE char *remembered =
        hw_sprintf("GET /healthz HTTP/1.1\r\nHost: a\r\nCookie: %s\r\n\r\n", cookie.data);
    check_status(200, NULL, ask_raw(remembered));
    hw_buf_free(&query);
    hw_buf_free(&cookie);
}
END_TEST

/* What is refused while the client is sending is received all the same. */
START_TEST(test_refused_while_sending)
{
    HW_AUTO_FREE char *header = hw_alloc((4 << 20) + 1);

    memset(header, 'x', 4 << 20);
    for (int i = 0; i < 10; i++) {
        HW_AUTO_FREE char *request =
            hw_sprintf("GET /healthz HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n", header);

        check_status(431, "headers-too-large", ask_raw(request));
    }
}
END_TEST

/* A NUL in the target, which ends it for some. */
START_TEST(test_nul)
{
    static const char nul[] = "GET /v1/nodes/a\0b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    const int fd = test_http_connect(api.port);

    test_http_send(fd, nul, sizeof(nul) - 1);
    HW_AUTO_FREE char *all = read_all(fd);
    ck_assert_ptr_null(strstr(all, " 200 "));
    check_alive(&api);
}
END_TEST

/* Who asks first gets the refusal before the body, and no invitation to send it. */
START_TEST(test_expect)
{
    int fd = send_raw("PUT /v1/configs/e HTTP/1.1\r\nHost: a\r\n" BYTES
                      "Expect: 100-continue\r\nContent-Length: 16777217\r\n\r\n");
    HW_AUTO_FREE char *refused = read_all(fd);

    ck_assert(strncmp(refused, "HTTP/1.1 413 ", 13) == 0);
    fd = send_raw("PUT /v1/configs/e HTTP/1.1\r\nHost: a\r\n" BYTES
                  "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    char interim[64] = {0};
    ck_assert_int_gt(recv(fd, interim, sizeof(interim) - 1, 0), 0);
    ck_assert(strncmp(interim, "HTTP/1.1 100 ", 13) == 0);
    test_http_puts(fd, "abc");
    check_status(201, NULL, test_http_receive(fd, false));
    close(fd);
}
END_TEST

/* A deterministic generator: what failed once can be had again. */
static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245U + 12345U;
    return *state >> 16;
}

static void mutate(struct hw_buf *bytes, unsigned *state)
{
    const size_t at = next_random(state) % bytes->len;

    switch (next_random(state) % 3) {
    case 0:
        bytes->data[at] = (char)next_random(state);
        break;
    case 1:
        memmove(bytes->data + at, bytes->data + at + 1, bytes->len - at - 1);
        bytes->len--;
        break;
    default: {
        HW_AUTO_FREE char *copy = hw_strndup(bytes->data + at, bytes->len - at);

        hw_buf_add(bytes, copy, strlen(copy));
    }
    }
}

/* Requests with bytes flipped, cut out and doubled: no crash, no 500, none stuck. */
START_TEST(test_mutations)
{
    static const char *const seeds[] = {
        "GET /v1/nodes?selector=%7B%22a%22:1%7D&limit=5&after=n1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT /v1/nodes/mutant HTTP/1.1\r\nHost: a\r\n" JSON
        "If-Match: \"1\", W/\"2\"\r\nContent-Length: 45\r\n\r\n"
        "{\"labels\":{\"a\":\"b\"},\"description\":\"\\u00e4\\n\" }",
        "PUT /v1/configs/mutant?message=x HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain; "
        "a=\"b\"\r\n"
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "PUT /v1/assignments/mutant HTTP/1.1\r\nHost: a\r\n" JSON "Content-Length: 47\r\n\r\n"
        "{\"config\":\"c\",\"selector\":{\"a\":1},\"priority\":5}",
        "GET /v1/wait?lsn=0/1&timeout=0 HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"x\"\r\n\r\n",
        "POST /v1/configs/mutant/rollback HTTP/1.1\r\nHost: a\r\n" JSON
        "Content-Length: 14\r\n\r\n{\"revision\":1}",
        "GET /v1/fleet?state=failed HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    enum { ROUNDS = 20, AT_ONCE = 150 };
    unsigned state = 20260131;

    for (int round = 0; round < ROUNDS; round++) {
        int fds[AT_ONCE];

        for (int i = 0; i < AT_ONCE; i++) {
            struct hw_buf bytes = {0};

            hw_buf_puts(&bytes, seeds[next_random(&state) % HW_COUNT(seeds)]);
            for (unsigned m = 1 + next_random(&state) % 4; m > 0; m--)
                mutate(&bytes, &state);
            fds[i] = test_http_connect(hasty.port);
            test_http_send(fds[i], bytes.data, bytes.len);
            hw_buf_free(&bytes);
        }
        /* Each is answered or not, and then closed when its time is over. */
        for (int i = 0; i < AT_ONCE; i++) {
            HW_AUTO_FREE char *answer = read_all(fds[i]);

            ck_assert_msg(strstr(answer, "HTTP/1.1 500 ") == NULL, "round %d: %s", round, answer);
        }
    }
    check_alive(&hasty);
}
END_TEST

/* ---- slow and many clients ---- */

START_TEST(test_slow)
{
    const int idle = test_http_connect(hasty.port);
    const int head = test_http_connect(hasty.port);
    const int body = test_http_connect(hasty.port);
    const int kept = test_http_connect(hasty.port);

    test_http_puts(head, "GET /healthz HT");
    test_http_puts(body, "PUT /v1/nodes/slow HTTP/1.1\r\nHost: a\r\n" JSON
                         "Content-Length: 1000\r\n\r\n");
    test_http_puts(kept, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    check_status(200, NULL, test_http_receive(kept, false));
    /* A byte now and then changes nothing. */
    const double until = test_deadline(20);
    bool closed = false;
    while (!closed && test_now() < until) {
        test_http_puts(body, " ");
        closed = test_http_closed(body, 0.05);
    }
    ck_assert(closed);
    ck_assert(test_http_closed(idle, 20));
    ck_assert(test_http_closed(head, 20));
    ck_assert(test_http_closed(kept, 20));
    check_alive(&hasty);
    close(idle);
    close(head);
    close(body);
    close(kept);
}
END_TEST

/* Heads of many fields, up to what fits, and beyond. */
START_TEST(test_many_headers)
{
    for (int fields = 1; fields <= 4096; fields *= 8) {
        struct hw_buf head = {0};

        hw_buf_puts(&head, "GET /healthz HTTP/1.1\r\nHost: a\r\n");
        for (int i = 0; i < fields; i++)
            hw_buf_printf(&head, "X-%d: y\r\n", i);
        hw_buf_puts(&head, "\r\n");
        struct test_answer answer = ask_raw(head.data);

        ck_assert_msg(fields <= 64     ? answer.status == 200
                      : fields == 4096 ? answer.status == 431 || answer.status == 0
                                       : answer.status == 200 || answer.status == 431,
                      "%d fields: %d", fields, answer.status);
        test_answer_free(&answer);
        hw_buf_free(&head);
    }
    check_alive(&api);
}
END_TEST

/* Heads that come byte by byte hold nobody up, and end when their time is over. */
START_TEST(test_slow_heads)
{
    enum { SLOW = 300 };
    static const char head[] = "GET /healthz HTTP/1.1\r\nHost: a\r\nX: ";
    int fds[SLOW], left = SLOW;
    const double until = test_deadline(60);

    for (int i = 0; i < SLOW; i++)
        fds[i] = test_http_connect(hasty.port);
    for (size_t at = 0; left > 0 && test_now() < until; at++) {
        for (int i = 0; i < SLOW; i++) {
            if (fds[i] < 0)
                continue;
            test_http_send(fds[i], at < sizeof(head) - 1 ? head + at : "x", 1);
            if (test_http_closed(fds[i], 0)) {
                close(fds[i]);
                fds[i] = -1;
                left--;
            }
        }
        check_status(200, NULL, test_http(hasty.port, "GET", "/v1/nodes", NULL, NULL, 0));
    }
    ck_assert_int_eq(left, 0);
}
END_TEST

START_TEST(test_many_connections)
{
    enum { CONNECTIONS = 800 };
    int fds[CONNECTIONS];

    for (int i = 0; i < CONNECTIONS; i++) {
        fds[i] = test_http_connect(api.port);
        test_http_puts(fds[i], "GET /v1/nodes?limit=1 HTTP/1.1\r\nHost: a\r\n");
    }
    check_alive(&api);
    for (int i = 0; i < CONNECTIONS; i++)
        test_http_puts(fds[i], "\r\n");
    for (int i = 0; i < CONNECTIONS; i++) {
        check_status(200, NULL, test_http_receive(fds[i], false));
        close(fds[i]);
    }
}
END_TEST

/* Large bodies share a bound; who does not fit hears when to come back, and then fits. */
START_TEST(test_memory)
{
    const char *const options[] = {"--memory", "80MiB", NULL};
    struct test_api small;
    char *bytes = hw_alloc(LIMIT);

    test_api_start(&small, pg.api_url, options);
    const int first = test_http_connect(small.port);
    test_http_puts(first, "PUT /v1/configs/memory HTTP/1.1\r\nHost: a\r\n" BYTES
                          "Expect: 100-continue\r\nContent-Length: 16777216\r\n\r\n");
    char interim[64];
    ck_assert_int_gt(recv(first, interim, sizeof(interim), 0), 0);

    struct test_answer answer =
        test_http(small.port, "PUT", "/v1/configs/memory2", BYTES, bytes, LIMIT);
    HW_AUTO_FREE char *retry = test_answer_header(&answer, "Retry-After");
    ck_assert_ptr_nonnull(retry);
    check_status(503, "overloaded", answer);
    check_status(201, NULL, test_http(small.port, "PUT", "/v1/nodes/memory", JSON, "{}", 2));

    /* The same where the size was not announced. */
    const int chunks = test_http_connect(small.port);
    test_http_puts(chunks, "PUT /v1/configs/memory2 HTTP/1.1\r\nHost: a\r\n" BYTES
                           "Transfer-Encoding: chunked\r\n\r\nF00000\r\n");
    test_http_send(chunks, bytes, 0xF00000);
    test_http_puts(chunks, "\r\n0\r\n\r\n");
    check_status(503, "overloaded", test_http_receive(chunks, false));
    close(chunks);

    test_http_send(first, bytes, LIMIT);
    check_status(201, NULL, test_http_receive(first, false));
    close(first);
    check_status(201, NULL,
                 test_http(small.port, "PUT", "/v1/configs/memory2", BYTES, bytes, LIMIT));
    test_api_stop(&small);
    free(bytes);
}
END_TEST

/* An upload of so many bytes that has announced itself, so that memory is set aside for it. */
static int begin_upload(int port, size_t len)
{
    HW_AUTO_FREE char *head = hw_sprintf("PUT /v1/configs/upload HTTP/1.1\r\nHost: a\r\n" BYTES
                                         "Expect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
                                         len);
    const int fd = test_http_connect(port);
    char interim[64];

    test_http_puts(fd, head);
    ck_assert_int_gt(recv(fd, interim, sizeof(interim), 0), 0);
    return fd;
}

/* A change that was committed is answered as such, also when others have taken all the memory
 * meanwhile: 503 would say that nothing was done. A read that does not fit is refused as before. */
START_TEST(test_memory_after_commit)
{
    enum { NODES = 2500, BOUND = 80 << 20, COPIES = 4, SPARE = 16 << 10, LARGE = 1 << 20 };
    const char *const options[] = {"--memory", "80MiB", NULL};
    struct test_api small;
    struct hw_buf body = {0};

    hw_buf_puts(&body, "{\"resources\":[");
    for (int i = 0; i < NODES; i++)
        hw_buf_printf(&body, "%s{\"kind\":\"node\",\"name\":\"after-commit-%d\"}", i > 0 ? "," : "",
                      i);
    hw_buf_puts(&body, "]}");
    char *bytes = hw_alloc(LARGE);
    test_api_start(&small, pg.api_url, options);
    check_status(201, NULL,
                 test_http(small.port, "PUT", "/v1/configs/after-commit", BYTES, bytes, LARGE));
    const int first = begin_upload(small.port, LIMIT);
    const int second = begin_upload(small.port, (BOUND - SPARE) / COPIES - LIMIT - body.len);
    for (int i = 0; i < 2; i++) {
        struct test_answer answer = test_http(
            small.port, "POST", "/v1/apply",
            i == 0 ? JSON : JSON "Idempotency-Key: after-commit\r\n", body.data, body.len);
        HW_AUTO_FREE char *lsn = test_answer_header(&answer, "Headwater-LSN");

        ck_assert_int_eq(answer.status, 200);
        ck_assert_ptr_nonnull(lsn);
        ck_assert_uint_gt(answer.len, 64 << 10);
        HW_AUTO_JSON json_t *object = test_answer_json(&answer);
        ck_assert_uint_eq(json_array_size(json_object_get(object, "results")), NODES);
        test_answer_free(&answer);
    }
    check_status(503, "overloaded",
                 test_http(small.port, "GET", "/v1/configs/after-commit/content", NULL, NULL, 0));
    close(first);
    close(second);
    test_wait_for(({
                      struct test_answer answer = test_http(
                          small.port, "GET", "/v1/configs/after-commit/content", NULL, NULL, 0);
                      const int status = answer.status;

                      test_answer_free(&answer);
                      status == 200;
                  }),
                  30);
    test_api_stop(&small);
    hw_buf_free(&body);
    free(bytes);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
/* Idle after large bodies came and went as small as before. */
START_TEST(test_idle_memory)
{
    char *bytes = hw_alloc(LIMIT);

    for (int i = 0; i < 6; i++) {
        bytes[0]++;
        struct test_answer answer =
            test_http(api.port, "PUT", "/v1/configs/idle", BYTES, bytes, LIMIT);
        ck_assert_int_eq(answer.status / 100, 2);
        test_answer_free(&answer);
        check_status(200, NULL,
                     test_http(api.port, "GET", "/v1/configs/idle/content", NULL, NULL, 0));
    }
    free(bytes);
    test_wait_for(test_own_kib(api.program.pid) < 24 << 10, 20);
}
END_TEST
#endif

/* ---- a database that goes away ---- */

START_TEST(test_database_restart)
{
    struct test_postgres own;
    struct test_api other;
    static const struct {
        const char *method, *target, *headers, *body;
    } requests[] = {{"GET", "/readyz", NULL, NULL},
                    {"GET", "/v1/nodes", NULL, NULL},
                    {"PUT", "/v1/nodes/x", JSON, "{}"},
                    {"DELETE", "/v1/nodes/x", NULL, NULL},
                    {"GET", "/v1/wait?lsn=0/1&timeout=0", NULL, NULL}};

    test_postgres_start(&own, true, NULL);
    test_api_start(&other, own.api_url, NULL);
    check_status(201, NULL, test_http(other.port, "PUT", "/v1/nodes/x", JSON, "{}", 2));
    test_postgres_stop(&own);
    for (size_t i = 0; i < HW_COUNT(requests); i++) {
        const char *body = requests[i].body;
        struct test_answer answer =
            test_http(other.port, requests[i].method, requests[i].target, requests[i].headers, body,
                      body != NULL ? strlen(body) : 0);
        HW_AUTO_FREE char *retry = test_answer_header(&answer, "Retry-After");

        ck_assert_ptr_nonnull(retry);
        check_status(503, "database-unavailable", answer);
    }
    check_status(200, NULL, test_http(other.port, "GET", "/healthz", NULL, NULL, 0));

    test_postgres_restart(&own);
    test_wait_for(({
                      struct test_answer answer =
                          test_http(other.port, "GET", "/v1/nodes/x", NULL, NULL, 0);
                      const int status = answer.status;

                      test_answer_free(&answer);
                      ck_assert(status == 200 || status == 503);
                      status == 200;
                  }),
                  30);
    check_status(200, NULL, test_http(other.port, "PUT", "/v1/nodes/x", JSON, "{}", 2));
    test_api_stop(&other);
    test_postgres_remove(&own);
}
END_TEST

/* A psql session that holds the lock that every write needs; killed when closed. */
static PGconn *hold_lock(const struct test_postgres *server)
{
    PGconn *conn = PQconnectdb(server->url);

    PQclear(PQexec(conn, "BEGIN"));
    PGresult *result = PQexec(conn, "SELECT 1 FROM headwater.changelog_head FOR UPDATE");
    ck_assert_int_eq(PQresultStatus(result), PGRES_TUPLES_OK);
    PQclear(result);
    return conn;
}

static bool is_blocked(const struct test_postgres *server)
{
    HW_AUTO_FREE char *waiting =
        test_sql(server, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                         "AND application_name = 'headwater-api'");

    return strcmp(waiting, "1") == 0;
}

/* A write whose end nobody saw is never a success, nor said to have failed. */
START_TEST(test_outcome_unknown)
{
    struct test_postgres own;
    struct test_api other;

    test_postgres_start(&own, true, NULL);
    test_api_start(&other, own.api_url, NULL);
    PGconn *holder = hold_lock(&own);
    const int fd = test_http_connect(other.port);
    test_http_puts(fd, "PUT /v1/nodes/unknown HTTP/1.1\r\nHost: a\r\n" JSON
                       "Content-Length: 2\r\n\r\n{}");
    test_wait_for(is_blocked(&own), 30);
    test_postgres_kill(&own);
    check_status(503, "commit-outcome-unknown", test_http_receive(fd, false));
    PQfinish(holder);
    close(fd);
    test_api_stop(&other);
    test_postgres_remove(&own);
}
END_TEST

/* Those in line behind them were not begun: they hear so when the database is lost, not when their
 * time in the line is over. */
START_TEST(test_line_is_lost)
{
    enum { WRITERS = 12, POOL = 2 }; /* the connections for writes */
    struct test_postgres own;
    struct test_api other;
    int fds[WRITERS], unknown = 0, unavailable = 0;

    test_postgres_start(&own, true, NULL);
    test_api_start(&other, own.api_url, NULL);
    PGconn *holder = hold_lock(&own);
    for (int i = 0; i < WRITERS; i++) {
        HW_AUTO_FREE char *request = hw_sprintf(
            "PUT /v1/nodes/line%d HTTP/1.1\r\nHost: a\r\n" JSON "Content-Length: 2\r\n\r\n{}", i);

        fds[i] = test_http_connect(other.port);
        test_http_puts(fds[i], request);
    }
    test_wait_for(({
                      HW_AUTO_FREE char *waiting = test_sql(
                          &own, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = "
                                "'Lock' AND application_name = 'headwater-api'");
                      strcmp(waiting, "2") == 0;
                  }),
                  30);
    test_postgres_kill(&own);
    for (int i = 0; i < WRITERS; i++) {
        struct test_answer answer = test_http_receive(fds[i], false);
        HW_AUTO_FREE char *problem = test_answer_problem(&answer);
        HW_AUTO_FREE char *retry = test_answer_header(&answer, "Retry-After");

        ck_assert_int_eq(answer.status, 503);
        ck_assert_ptr_nonnull(retry);
        unknown += strcmp(problem, "commit-outcome-unknown") == 0;
        unavailable += strcmp(problem, "database-unavailable") == 0;
        test_answer_free(&answer);
        close(fds[i]);
    }
    ck_assert_int_eq(unknown, POOL);
    ck_assert_int_eq(unavailable, WRITERS - POOL);
    PQfinish(holder);
    test_api_stop(&other);
    test_postgres_remove(&own);
}
END_TEST

/* Deadlocks and such are tried again, not handed on. */
START_TEST(test_retry)
{
    struct test_postgres own;
    struct test_api other;

    test_postgres_start(&own, true, NULL);
    test_api_start(&other, own.api_url, NULL);
    free(test_sql(&own, "CREATE SEQUENCE public.attempts"));
    free(test_sql(&own, "GRANT USAGE ON SEQUENCE public.attempts TO PUBLIC"));
    free(test_sql(&own,
                  "CREATE FUNCTION public.fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$ "
                  "BEGIN IF nextval('public.attempts') < 3 THEN RAISE EXCEPTION 'try again' USING "
                  "ERRCODE = CASE currval('public.attempts') WHEN 1 THEN 'deadlock_detected' ELSE "
                  "'serialization_failure' END; END IF; RETURN NEW; END $$"));
    free(test_sql(&own, "CREATE TRIGGER fail_twice BEFORE INSERT ON headwater.node "
                        "FOR EACH ROW EXECUTE FUNCTION public.fail_twice()"));
    check_status(201, NULL, test_http(other.port, "PUT", "/v1/nodes/retry", JSON, "{}", 2));
    free(test_sql(&own, "CREATE OR REPLACE FUNCTION public.fail_twice() RETURNS trigger "
                        "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = "
                        "'serialization_failure'; END $$"));
    struct test_answer answer = test_http(other.port, "PUT", "/v1/nodes/retry2", JSON, "{}", 2);
    HW_AUTO_FREE char *retry = test_answer_header(&answer, "Retry-After");
    ck_assert_ptr_nonnull(retry);
    check_status(503, "contention", answer);

    /* What nobody foresaw is 500, told by a number that the log has too. */
    free(test_sql(&own, "CREATE OR REPLACE FUNCTION public.fail_twice() RETURNS trigger "
                        "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'secret' USING ERRCODE = "
                        "'XX000'; END $$"));
    answer = test_http(other.port, "PUT", "/v1/nodes/retry3", JSON, "{}", 2);
    ck_assert_ptr_null(strstr(answer.body, "secret"));
    json_t *body = test_answer_json(&answer);
    HW_AUTO_FREE char *log = test_read_file(other.program.log);
    ck_assert_ptr_nonnull(strstr(log, json_string_value(json_object_get(body, "correlation_id"))));
    ck_assert_ptr_nonnull(strstr(log, "secret"));
    json_decref(body);
    check_status(500, "internal", answer);
    ck_assert_int_eq(test_program_stop(&other.program, SIGTERM), 0);
    test_postgres_remove(&own);
}
END_TEST

/* ---- the end ---- */

static bool accepts(int port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const bool connected = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;

    close(fd);
    return connected;
}

/* A write that the lock stops, sent. */
static int send_blocked_write(int port)
{
    const int fd = test_http_connect(port);

    test_http_puts(fd, "PUT /v1/nodes/drain HTTP/1.1\r\nHost: a\r\n" JSON
                       "Content-Length: 2\r\n\r\n{}");
    test_wait_for(is_blocked(&pg), 30);
    return fd;
}

/* What runs is finished, what waits is told, nobody new comes in. */
START_TEST(test_drain)
{
    struct test_api own;

    free(test_sql(&pg, "INSERT INTO headwater.node (name) VALUES ('drained')"));
    free(test_sql(&pg, "INSERT INTO headwater.config (name, content) VALUES ('drained', '{}')"));
    free(test_sql(&pg, "INSERT INTO headwater.assignment (name, config, node) "
                       "VALUES ('drained', 'drained', 'drained')"));
    HW_AUTO_FREE char *lsn = test_sql(&pg, "SELECT pg_current_wal_insert_lsn()");
    HW_AUTO_FREE char *wait =
        hw_sprintf("GET /v1/wait?lsn=%s&timeout=10m HTTP/1.1\r\nHost: a\r\n\r\n", lsn);
    PGconn *holder = hold_lock(&pg);

    test_api_start(&own, pg.api_url, NULL);
    const int waiter = test_http_connect(own.port);
    const int idle = test_http_connect(own.port);
    test_http_puts(waiter, wait);
    const int writer = send_blocked_write(own.port);

    kill(own.program.pid, SIGTERM);
    check_status(503, "shutting-down", test_http_receive(waiter, false));
    test_wait_for(!accepts(own.port), 30);
    PQfinish(holder); /* which frees the lock */
    struct test_answer answer = test_http_receive(writer, false);
    ck_assert(answer.closed);
    check_status(201, NULL, answer);
    ck_assert_int_eq(test_program_stop(&own.program, 0), 0);
    ck_assert(test_http_closed(idle, 10));
    close(writer);
    close(waiter);
    close(idle);
}
END_TEST

/* What does not end in time is told that its outcome is not known; the program ends all the same.
 */
START_TEST(test_drain_timeout)
{
    struct test_api own;
    PGconn *holder = hold_lock(&pg);

    test_api_start(&own, pg.api_url, NULL);
    const int writer = send_blocked_write(own.port);

    ck_assert_int_eq(test_program_stop(&own.program, SIGTERM), 0);
    check_status(503, "commit-outcome-unknown", test_http_receive(writer, false));
    PQfinish(holder);
    close(writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api server");
    TCase *all = tcase_create("server");

    tcase_add_unchecked_fixture(all, start, stop);
    tcase_set_timeout(all, 240);
    tcase_add_test(all, test_keep_alive);
    tcase_add_test(all, test_pipelining);
    tcase_add_test(all, test_http_1_0);
    tcase_add_test(all, test_chunked);
    tcase_add_test(all, test_framing);
    tcase_add_test(all, test_two_readings);
    tcase_add_test(all, test_refusals);
    tcase_add_test(all, test_many_values);
    tcase_add_test(all, test_refused_while_sending);
    tcase_add_test(all, test_nul);
    tcase_add_test(all, test_expect);
    tcase_add_test(all, test_mutations);
    tcase_add_test(all, test_slow);
    tcase_add_test(all, test_slow_heads);
    tcase_add_test(all, test_many_headers);
    tcase_add_test(all, test_many_connections);
    tcase_add_test(all, test_memory);
    tcase_add_test(all, test_memory_after_commit);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(all, test_idle_memory);
#endif
    tcase_add_test(all, test_database_restart);
    tcase_add_test(all, test_outcome_unknown);
    tcase_add_test(all, test_line_is_lost);
    tcase_add_test(all, test_retry);
    tcase_add_test(all, test_drain);
    tcase_add_test(all, test_drain_timeout);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
