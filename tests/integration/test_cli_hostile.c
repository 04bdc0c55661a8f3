/* headwater, the command line, against a server that means it harm. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/cli.h"
#include "tests/support/cli_program.h"
#include "tests/support/http.h"
#include "tests/support/patience.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum { TEST_S = 240 };

static void start(void)
{
    cli_home(0);
}

struct villain {
    pid_t pid;
    char url[64];
    char *requests; /* file that it writes what it got to */
};

/* Answers the n-th connection with the n-th of answers, the last one again and again, then closes.
 * repeat: how often the answer's last byte is sent once more. */
static void villain_start(struct villain *villain, const char *const answers[], size_t repeat)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(listener, 16), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    snprintf(villain->url, sizeof(villain->url), "http://127.0.0.1:%d", ntohs(address.sin_port));
    villain->requests = cli_file("requests", "");
    fflush(NULL);
    villain->pid = fork();
    if (villain->pid != 0) {
        close(listener);
        return;
    }
    signal(SIGPIPE, SIG_IGN);
    alarm((unsigned)(TEST_S * test_patience()));
    for (size_t n = 0;;) {
        const int fd = accept(listener, NULL, NULL);
        char request[8192];
        const ssize_t got = recv(fd, request, sizeof(request), 0);
        FILE *log = fopen(villain->requests, "a");

        fwrite(request, 1, got > 0 ? (size_t)got : 0, log);
        fclose(log);
        const char *answer = answers[n];
        n += answers[n + 1] != NULL;
        test_http_send(fd, answer, strlen(answer));
        char more[65536];
        memset(more, answer[strlen(answer) - 1], sizeof(more));
        for (size_t sent = 0; sent < repeat; sent += sizeof(more))
            if (send(fd, more, sizeof(more), MSG_NOSIGNAL) <= 0)
                break;
        shutdown(fd, SHUT_WR);
        while (recv(fd, request, sizeof(request), 0) > 0)
            ;
        close(fd);
    }
}

/* Returns the requests that it got, malloc'ed. */
static char *villain_stop(struct villain *villain)
{
    char *requests = test_read_file(villain->requests);

    kill(villain->pid, SIGKILL);
    waitpid(villain->pid, NULL, 0);
    free(villain->requests);
    return requests;
}

#define OK_JSON "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
#define PROBLEM(code)                                                                              \
    "HTTP/1.1 " code " x\r\nContent-Type: application/problem+json\r\n"                            \
    "Connection: close\r\n\r\n"

START_TEST(test_answers_that_are_none)
{
    static const struct {
        const char *answer;
        int status;
        const char *message;
    } cases[] = {
        {"\x1b]0;owned\x07 nonsense\r\n\r\n", 8, ""},
        {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", 8, "not JSON"},
        {"HTTP/1.1 200 OK\r\n\r\n{\"items\":[]}", 8, "of no type"},
        {OK_JSON "\r\n", 8, "broken"},
        {OK_JSON "\r\n{\"items\":[", 8, "broken"},
        {OK_JSON "Content-Length: 100\r\n\r\n{\"items\":[]}", 8, ""}, /* cut short */
        {OK_JSON "\r\n[1,2,3]", 8, "not a JSON object"},
        {OK_JSON "\r\n{\"items\":7}", 8, "no list"},
        {OK_JSON "\r\n{\"items\":[],\"items\":[]}", 8, "broken"},
        {OK_JSON "\r\n{\"items\":[],\"next\":\"n1\"}", 8, "lead nowhere"},
        {OK_JSON "\r\n{\"items\":[{}],\"next\":\"n1\"}", 8, "lead nowhere"},
        {OK_JSON "\r\n{\"items\":[\"\xff\"]}", 8, "broken"},
        {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 8,
         "redirections"},
        {"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", 8, "without saying why"},
        {"HTTP/1.1 404 x\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\nx", 3,
         "is it headwater-api?"},
        {PROBLEM("403") "{\"type\":7,\"detail\":[\"\"]}", 6, "refused"},
        {PROBLEM("422") "{\"type\":\"urn:headwater:problem:x\",\"detail\":\"\\u001b[2J\\u009b1m\"}",
         5, "\\u001b[2J\\u009b1m"},
        {PROBLEM("404") "{not json", 3, "without saying why"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        struct villain villain;
        villain_start(&villain, (const char *const[]){cases[i].answer, NULL}, 0);
        HW_AUTO_FREE char *output =
            HEADWATER(cases[i].status, "--server", villain.url, "get", "nodes");
        expect_in(output, cases[i].message);
        ck_assert_ptr_null(strchr(output, '\x1b'));
        ck_assert_ptr_null(strstr(output, "\xC2\x9b"));
        free(villain_stop(&villain));
    }
}
END_TEST

START_TEST(test_answer_without_end)
{
    static const char *const answers[] = {OK_JSON "\r\n{\"items\":[ ", NULL};
    struct villain villain;
    villain_start(&villain, answers, (size_t)CLI_ANSWER_MOST + (1 << 20));
    EXPECT(8, "larger than 64 MiB", "--server", villain.url, "get", "nodes");
    free(villain_stop(&villain));
    static const char *const streams[] = {
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x", NULL};
    villain_start(&villain, streams, (size_t)8 << 20);
    EXPECT(8, "larger than 4 MiB", "--server", villain.url, "watch");
    free(villain_stop(&villain));
}
END_TEST

/* Wrong types where members are expected, and orders to the terminal: shown, or refused, no more.
 */
START_TEST(test_strange_members)
{
    static const char *const answers[] = {
        OK_JSON "\r\n{\"counts\":{\"\\u001b[2J\":\"x\",\"a\":[]},\"items\":[{\"node\":{\"a\":"
                "\"\\u001b[1m\"},"
                "\"labels\":\"\\u009b1m\",\"state\":7},7,null,[],{}],\"next\":null}",
        NULL};
    static const char *const forms[] = {"table", "json", "yaml", "name"};
    for (size_t i = 0; i < HW_COUNT(forms); i++) {
        struct villain villain;
        villain_start(&villain, answers, 0);
        HW_AUTO_FREE char *output = HEADWATER(0, "--server", villain.url, "fleet", "-o", forms[i]);
        ck_assert_ptr_null(strchr(output, '\x1b'));
        ck_assert_ptr_null(strstr(output, "\xC2\x9b"));
        free(villain_stop(&villain));
    }
    static const char *const plans[] = {
        OK_JSON
        "\r\n{\"dry_run\":true,\"nodes\":1,\"changes\":[7,{\"node\":3,\"change\":[],\"old\":1,"
        "\"new\":{\"revision\":\"\\u001b\"},\"diff\":[{\"path\":\"\\u001b[2J\",\"old\":\"\\u001b\"}"
        ",7]}],"
        "\"truncated\":3}",
        OK_JSON "\r\n{\"results\":[]}", NULL};
    struct villain villain;
    villain_start(&villain, plans, 0);
    HW_AUTO_FREE char *plan =
        HEADWATER_IN(1, "kind: node\nname: a\n", "--server", villain.url, "diff", "-f", "-");
    ck_assert_ptr_null(strchr(plan, '\x1b'));
    HW_AUTO_FREE char *done =
        HEADWATER_IN(8, "kind: node\nname: a\n", "--server", villain.url, "diff", "-f", "-");
    expect_in(done, "not that of a dry run");
    free(villain_stop(&villain));
}
END_TEST

/* What the server left out is said to be left out. */
START_TEST(test_differences_that_are_left_out)
{
    static const char *const answers[] = {
        OK_JSON
        "\r\n{\"dry_run\":true,\"nodes\":2000,\"changes\":[{\"node\":\"n1\",\"change\":"
        "\"update\",\"old\":{\"revision\":1,\"digest\":\"sha256:0\",\"media_type\":\"a/b\"},"
        "\"new\":{\"revision\":2,\"digest\":\"sha256:1\",\"media_type\":\"a/b\"},\"diff\":["
        "{\"path\":\"/a\",\"old\":1,\"omitted\":\"new\"},{\"path\":\"/b\",\"new\":[2]},"
        "{\"path\":\"\",\"omitted\":\"more\"}]},{\"node\":\"n2\",\"change\":\"create\","
        "\"old\":null,\"new\":{\"revision\":1,\"digest\":\"sha256:2\",\"media_type\":\"a/b\"},"
        "\"diff\":null}],\"truncated\":true}",
        NULL};
    struct villain villain;
    villain_start(&villain, answers, 0);
    HW_AUTO_FREE char *plan =
        HEADWATER_IN(1, "kind: node\nname: a\n", "--server", villain.url, "diff", "-f", "-");
    ck_assert_str_eq(
        plan, "n1: update\n--- node revision 1  sha256:0  a/b\n+++ node revision 2  sha256:1  a/b\n"
              "@@ /a\n-1\n+(too long to show)\n@@ /b\n+[\n+  2\n+]\n@@ (and more)\n\n"
              "n2: create\n--- nothing\n+++ node revision 1  sha256:2  a/b\n\n"
              "(more nodes than are shown)\n2000 nodes would change\n");
    free(villain_stop(&villain));
}
END_TEST

static int times_in(const char *text, const char *what)
{
    int times = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        times++;
    return times;
}

/* Whatever answers 200 to everything, without being headwater-api, is told from it; and nobody is
 * told that a change was made there. */
START_TEST(test_no_headwater)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>Welcome",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        OK_JSON "\r\n{\"status\":\"ok\"}",
        OK_JSON "\r\n[]",
    };
    static const char *const commands[][6] = {{"set", "c", "a=1"},
                                              {"apply", "-f", "-"},
                                              {"apply", "-f", "-", "--dry-run"},
                                              {"apply", "-f", "-", "--wait"},
                                              {"diff", "-f", "-"},
                                              {"delete", "node", "a"},
                                              {"rollback", "c", "1"},
                                              {"get", "config", "c", "--content"},
                                              {"get", "nodes"}};

    for (size_t i = 0; i < HW_COUNT(answers); i++)
        for (size_t k = 0; k < HW_COUNT(commands); k++) {
            struct villain villain;

            villain_start(&villain, (const char *const[]){answers[i], NULL}, 0);
            HW_AUTO_FREE char *output =
                HEADWATER_IN(8, "kind: node\nname: a\n", "--server", villain.url, commands[k][0],
                             commands[k][1], commands[k][2], commands[k][3]);
            ck_assert_msg(strstr(output, "was made") == NULL && strstr(output, "Welcome") == NULL &&
                              strstr(output, "deleted") == NULL,
                          "%zu, %zu: %s", i, k, output);
            free(villain_stop(&villain));
        }
}
END_TEST

/* An outcome that nobody knows is asked about with the same key until it is known. */
START_TEST(test_same_key_until_it_is_known)
{
    static const char unknown[] =
        "HTTP/1.1 503 x\r\nContent-Type: application/problem+json\r\nRetry-After: "
        "-9223372036854775808\r\n"
        "Connection: close\r\n\r\n"
        "{\"type\":\"urn:headwater:problem:commit-outcome-unknown\",\"detail\":\"lost\"}";
    static const char *const answers[] = {unknown, OK_JSON "Content-Length: 9\r\n\r\n{", unknown,
                                          OK_JSON "Headwater-LSN: 0/10\r\n\r\n{\"results\":[]}",
                                          NULL};
    struct villain villain;
    villain_start(&villain, answers, 0);
    free(HEADWATER_IN(0, "kind: node\nname: a\n", "--server", villain.url, "apply", "-f", "-"));
    HW_AUTO_FREE char *requests = villain_stop(&villain);
    static const char header[] = "Idempotency-Key: ";
    const char *key = strstr(requests, header);
    ck_assert_ptr_nonnull(key);
    HW_AUTO_FREE char *line = hw_strndup(key, strcspn(key, "\r"));
    ck_assert_uint_eq(strlen(line), strlen(header) + 32);
    ck_assert_int_eq(times_in(requests, line), 4);
    ck_assert_int_eq(times_in(requests, "POST /v1/apply"), 4);

    /* When the time is over, the message says how to go on. */
    villain_start(&villain, (const char *const[]){unknown, NULL}, 0);
    HW_AUTO_FREE char *output = HEADWATER(7, "--server", villain.url, "--timeout", "2s", "delete",
                                          "node", "a", "--idempotency-key", "mine");
    expect_in(output, "is not known: the same command with --idempotency-key mine");
    free(villain_stop(&villain));

    /* What was refused is not tried again. */
    villain_start(&villain, (const char *const[]){PROBLEM("422") "{}", NULL}, 0);
    free(HEADWATER(5, "--server", villain.url, "delete", "node", "a"));
    HW_AUTO_FREE char *once = villain_stop(&villain);
    ck_assert_int_eq(times_in(once, "DELETE"), 1);
}
END_TEST

START_TEST(test_watch_goes_on_behind_the_last_event)
{
#define STREAM "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    static const char *const answers[] = {
        STREAM "retry: 1\nid: 7\nevent: desired\ndata: {\"node\":\"n1\",\"x\":\"\\u001b\"}\n\nid: "
               "8\ndata: cut",
        PROBLEM("503") "{}", STREAM "id: 9\ndata: no json \x1b[2J\n\n", NULL};
    struct villain villain;
    villain_start(&villain, answers, 0);
    HW_AUTO_FREE char *output = HEADWATER(0, "--server", villain.url, "watch", "-n", "2",
                                          "--selector", "site=north", "--log-level", "error");
    expect_in(output, "desired    n1");
    expect_in(output, "no json \\u001b[2J");
    ck_assert_ptr_null(strstr(output, "cut"));
    ck_assert_ptr_null(strchr(output, '\x1b'));
    HW_AUTO_FREE char *requests = villain_stop(&villain);
    ck_assert_int_eq(times_in(requests, "GET /v1/events?selector=site%3Dnorth "), 3);
    ck_assert_int_eq(times_in(requests, "Last-Event-ID: 7\r\n"), 2);
    ck_assert_int_eq(times_in(requests, "Last-Event-ID: 8"), 0);

    villain_start(&villain, (const char *const[]){PROBLEM("403") "{}", NULL}, 0);
    EXPECT(6, "refused", "--server", villain.url, "watch");
    free(villain_stop(&villain));
}
END_TEST

/* A token is sent as it is, and said nowhere. */
START_TEST(test_token_is_sent_and_not_shown)
{
    struct villain villain;
    villain_start(&villain, (const char *const[]){PROBLEM("401") "{}", NULL}, 0);
    HW_AUTO_FREE char *path = cli_file("secret", "  hwt_0123_s3cret\n");
    EXPECT(6, "refused", "--server", villain.url, "--token-file", path, "fleet");
    HW_AUTO_FREE char *output =
        HEADWATER_WITH(6, "HEADWATER_TOKEN=hwt_env_s3cret", "--server", villain.url, "--token-file",
                       path, "fleet", "--log-level", "debug");
    ck_assert_ptr_null(strstr(output, "s3cret"));
    HW_AUTO_FREE char *requests = villain_stop(&villain);
    expect_in(requests, "Authorization: Bearer hwt_0123_s3cret\r\n");
    expect_in(requests, "Authorization: Bearer hwt_env_s3cret\r\n");
}
END_TEST

TEST_MAIN_BETWEEN("cli hostile", TEST_S, start, NULL, test_answers_that_are_none, test_no_headwater,
                  test_answer_without_end, test_strange_members, test_differences_that_are_left_out,
                  test_same_key_until_it_is_known, test_watch_goes_on_behind_the_last_event,
                  test_token_is_sent_and_not_shown)
