/*
 * HTTP as bytes: a client that sends what it is given, right or wrong, and reads answers strictly.
 * Any failure of the connection ends the test, except where the function says otherwise.
 */
#ifndef TEST_HTTP_H
#define TEST_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct test_answer {
    int status; /* 0: the connection ended without an answer */
    char *head; /* status line and header fields, each line with its CRLF */
    char *body; /* a NUL behind */
    size_t len;
    bool closed; /* the server said Connection: close */
};
void test_answer_free(struct test_answer *answer);

/* The value of a header field, malloc'ed, or NULL. The field may be there once at most. */
char *test_answer_header(const struct test_answer *answer, const char *name);
/* The body as JSON (fails the test when it is none), and the problem's name, malloc'ed. */
json_t *test_answer_json(const struct test_answer *answer);
char *test_answer_problem(const struct test_answer *answer);

/* ---- one request on a connection of its own ---- */

/* headers: whole lines with CRLF, or NULL; Host and Content-Length are added. */
struct test_answer test_http(int port, const char *method, const char *target, const char *headers,
                             const void *body, size_t len);

/* ---- connections ---- */

bool test_http_listens(int port);
int test_http_connect(int port);
void test_http_send(int fd, const void *bytes, size_t len); /* an early end is no failure */
void test_http_puts(int fd, const char *text);
/* head_only: the answer to HEAD. Passes 100 Continue over. At most 30 s. */
struct test_answer test_http_receive(int fd, bool head_only);
/* Did the server close, within the time? */
bool test_http_closed(int fd, double timeout_s);

#endif
