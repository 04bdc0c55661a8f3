#include "tests/support/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

#define ANSWER_S 30

void test_answer_free(struct test_answer *answer)
{
    free(answer->head);
    free(answer->body);
    *answer = (struct test_answer){0};
}

char *test_answer_header(const struct test_answer *answer, const char *name)
{
    const size_t name_len = strlen(name);
    char *value = NULL;

    for (const char *line = strstr(answer->head, "\r\n"); line != NULL && line[2] != '\0';
         line = strstr(line + 2, "\r\n")) {
        const char *field = line + 2;

        if (strncasecmp(field, name, name_len) != 0 || field[name_len] != ':')
            continue;
        if (value != NULL)
            test_fail("%s is there twice:\n%s", name, answer->head);
        field += name_len + 1;
        field += strspn(field, " ");
        value = hw_strndup(field, strcspn(field, "\r"));
    }
    return value;
}

json_t *test_answer_json(const struct test_answer *answer)
{
    json_error_t error;
    json_t *value =
        json_loadb(answer->body, answer->len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

    if (value == NULL)
        test_fail("not JSON (%s):\n%s%s", error.text, answer->head, answer->body);
    return value;
}

char *test_answer_problem(const struct test_answer *answer)
{
    static const char prefix[] = "urn:headwater:problem:";
    HW_AUTO_FREE char *type = test_answer_header(answer, "Content-Type");
    json_t *document = test_answer_json(answer);
    const char *urn = json_string_value(json_object_get(document, "type"));
    char *name;

    if (type == NULL || strcmp(type, "application/problem+json") != 0 || urn == NULL ||
        strncmp(urn, prefix, strlen(prefix)) != 0 ||
        json_integer_value(json_object_get(document, "status")) != answer->status ||
        !json_is_string(json_object_get(document, "title")) ||
        !json_is_string(json_object_get(document, "detail")))
        test_fail("not a problem:\n%s%s", answer->head, answer->body);
    name = hw_strdup(urn + strlen(prefix));
    json_decref(document);
    return name;
}

/* -1: nobody listens, see errno. */
static int try_to_connect(int port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool test_http_listens(int port)
{
    const int fd = try_to_connect(port);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int test_http_connect(int port)
{
    const int fd = try_to_connect(port);

    if (fd < 0)
        test_fail("connecting to port %d: %s", port, strerror(errno));
    return fd;
}

void test_http_send(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;

    while (len > 0) {
        const ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);

        if (sent < 0)
            return; /* the answer tells why */
        at += sent;
        len -= (size_t)sent;
    }
}

void test_http_puts(int fd, const char *text)
{
    test_http_send(fd, text, strlen(text));
}

/* Reads more into buf; false at the end of the connection. */
static bool read_more(int fd, struct hw_buf *buf, double until)
{
    struct pollfd socket = {.fd = fd, .events = POLLIN};
    const double left = until - test_now();
    char chunk[64 << 10];
    ssize_t got;

    if (left <= 0 || poll(&socket, 1, (int)(left * 1000) + 1) == 0)
        test_fail("no answer within %g s; so far: \"%s\"", ANSWER_S * test_patience(),
                  hw_buf_str(buf));
    got = recv(fd, chunk, sizeof(chunk), 0);
    if (got <= 0)
        return false;
    hw_buf_add(buf, chunk, (size_t)got);
    return true;
}

/* One answer from what was read; what is behind it must be nothing. */
struct test_answer test_http_receive(int fd, bool head_only)
{
    const double until = test_deadline(ANSWER_S);
    struct test_answer answer = {0};
    struct hw_buf in = {0};
    const char *end;
    size_t head_len;

    for (;;) {
        while ((end = in.len > 0 ? strstr(in.data, "\r\n\r\n") : NULL) == NULL)
            if (!read_more(fd, &in, until)) {
                if (in.len > 0)
                    test_fail("the answer ends early: \"%s\"", in.data);
                return answer;
            }
        head_len = (size_t)(end + 4 - in.data);
        if (strncmp(in.data, "HTTP/1.1 ", 9) != 0)
            test_fail("not an answer: \"%s\"", in.data);
        answer.status = (int)strtol(in.data + 9, NULL, 10);
        if (answer.status != 100)
            break;
        memmove(in.data, in.data + head_len, in.len - head_len + 1);
        in.len -= head_len;
    }
    answer.head = hw_strndup(in.data, head_len - 2);
    HW_AUTO_FREE char *length = test_answer_header(&answer, "Content-Length");
    HW_AUTO_FREE char *connection = test_answer_header(&answer, "Connection");

    answer.closed = connection != NULL && strcasecmp(connection, "close") == 0;
    if (!head_only && length != NULL && answer.status != 304)
        answer.len = strtoul(length, NULL, 10);
    while (in.len < head_len + answer.len)
        if (!read_more(fd, &in, until))
            test_fail("the body ends after %zu of %zu bytes", in.len - head_len, answer.len);
    if (in.len != head_len + answer.len)
        test_fail("%zu bytes behind the answer", in.len - head_len - answer.len);
    answer.body = hw_alloc(answer.len + 1);
    memcpy(answer.body, in.data + head_len, answer.len);
    hw_buf_free(&in);
    return answer;
}

bool test_http_closed(int fd, double timeout_s)
{
    struct pollfd socket = {.fd = fd, .events = POLLIN};
    char byte;

    return poll(&socket, 1, test_patient_ms((int)(timeout_s * 1000))) == 1 &&
           recv(fd, &byte, 1, 0) <= 0;
}

struct test_answer test_http(int port, const char *method, const char *target, const char *headers,
                             const void *body, size_t len)
{
    HW_AUTO_FREE char *head = hw_sprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s", method,
                                         target, port, headers != NULL ? headers : "");
    const int fd = test_http_connect(port);
    struct test_answer answer;

    test_http_puts(fd, head);
    if (body != NULL) {
        HW_AUTO_FREE char *length = hw_sprintf("Content-Length: %zu\r\n", len);

        test_http_puts(fd, length);
    }
    test_http_puts(fd, "\r\n");
    if (body != NULL)
        test_http_send(fd, body, len);
    answer = test_http_receive(fd, strcmp(method, "HEAD") == 0);
    close(fd);
    return answer;
}
