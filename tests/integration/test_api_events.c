/* GET /v1/events against a real PostgreSQL: nothing lost, nothing doubled, whoever comes and goes.
 */
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/http.h"
#include "tests/support/nats_keys.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct test_postgres pg;
static struct test_api api;

static void start(void)
{
    const char *const options[] = {"--log-level", "debug", NULL};

    test_postgres_start(&pg, true, NULL);
    test_api_start(&api, pg.api_url, options);
}

static void stop(void)
{
    test_api_stop(&api);
    test_postgres_remove(&pg);
}

/* ---- a client of server-sent events ---- */

struct client {
    int fd;
    struct hw_buf raw;  /* as it came, behind the head */
    struct hw_buf text; /* without the chunks' frames */
    size_t at;          /* in text: behind what was parsed */
    bool has_head, ended;
    char last_id[64];
};

struct message {
    char id[64];
    char event[16];
    char *data; /* "" for a block that carries none */
};

static void client_ask(struct client *c, int fd, const char *query, const char *last_id)
{
    HW_AUTO_FREE char *header =
        last_id != NULL ? hw_sprintf("Last-Event-ID: %s\r\n", last_id) : hw_strdup("");
    HW_AUTO_FREE char *request =
        hw_sprintf("GET /v1/events%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", query, header);

    *c = (struct client){.fd = fd};
    test_http_puts(c->fd, request);
}

static void client_open(struct client *c, int port, const char *query, const char *last_id)
{
    client_ask(c, test_http_connect(port), query, last_id);
}

/* The other end of a TLS connection, by a process between. It ends when either side does. */
static int connect_tls(int port, const char *ca)
{
    HW_AUTO_FREE char *address = hw_sprintf("127.0.0.1:%d", port);
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(ends[1], 0) == 0 && dup2(ends[1], 1) == 1)
            execlp("openssl", "openssl", "s_client", "-quiet", "-no_ign_eof",
                   "-verify_return_error", "-verify_hostname", "localhost", "-CAfile", ca,
                   "-connect", address, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    return ends[0];
}

static void client_close(struct client *c)
{
    close(c->fd);
    hw_buf_free(&c->raw);
    hw_buf_free(&c->text);
}

static void take_bytes(struct hw_buf *buf, size_t len)
{
    memmove(buf->data, buf->data + len, buf->len - len + 1);
    buf->len -= len;
}

static void unframe(struct client *c)
{
    const char *end;

    if (!c->has_head) {
        end = c->raw.len > 0 ? strstr(c->raw.data, "\r\n\r\n") : NULL;
        if (end == NULL)
            return;
        ck_assert_msg(strncmp(c->raw.data, "HTTP/1.1 200 ", 13) == 0, "%s", c->raw.data);
        ck_assert_ptr_nonnull(strstr(c->raw.data, "text/event-stream"));
        take_bytes(&c->raw, (size_t)(end - c->raw.data) + 4);
        c->has_head = true;
    }
    while (c->raw.len > 0 && (end = strstr(c->raw.data, "\r\n")) != NULL) {
        const size_t len = strtoul(c->raw.data, NULL, 16);
        const size_t head = (size_t)(end - c->raw.data) + 2;

        if (len == 0)
            c->ended = true;
        if (len == 0 || c->raw.len < head + len + 2)
            return;
        hw_buf_add(&c->text, c->raw.data + head, len);
        take_bytes(&c->raw, head + len + 2);
    }
}

/* Reads what there is, waiting for the first byte. False when there is nothing more, ever. */
static bool client_fill(struct client *c)
{
    static char chunk[64 << 10];
    struct pollfd socket = {.fd = c->fd, .events = POLLIN};
    ssize_t got;

    if (c->ended)
        return false;
    if (poll(&socket, 1, test_patient_ms(90000)) != 1)
        test_fail("no event comes; so far: %s", hw_buf_str(&c->text));
    got = recv(c->fd, chunk, sizeof(chunk), 0);
    if (got <= 0)
        return false;
    hw_buf_add(&c->raw, chunk, (size_t)got);
    unframe(c);
    return true;
}

/* The next block: malloc'ed lines up to an empty one; NULL at the end of the stream. */
static char *client_block(struct client *c)
{
    for (;;) {
        const char *from = hw_buf_str(&c->text) + c->at;
        const char *end = strstr(from, "\n\n");

        if (end != NULL) {
            c->at += (size_t)(end - from) + 2;
            return hw_strndup(from, (size_t)(end - from) + 1);
        }
        if (!client_fill(c))
            return NULL;
    }
}

static void field(const char *block, const char *name, char *out, size_t size)
{
    const char *line = strstr(block, name);

    ck_assert(line == NULL || line == block || line[-1] == '\n');
    snprintf(out, size, "%.*s", line != NULL ? (int)strcspn(line + strlen(name), "\n") : 0,
             line != NULL ? line + strlen(name) : "");
}

/* The next event, past comments; the data is the caller's. False at the end. */
static bool client_next(struct client *c, struct message *message)
{
    char *block;

    while ((block = client_block(c)) != NULL) {
        char *data = strstr(block, "data: ");

        field(block, "id: ", message->id, sizeof(message->id));
        field(block, "event: ", message->event, sizeof(message->event));
        if (*message->id != '\0')
            strcpy(c->last_id, message->id);
        if (data != NULL) {
            message->data = hw_strndup(data + 6, strcspn(data + 6, "\n"));
            free(block);
            return true;
        }
        free(block);
    }
    return false;
}

/* Connected: the id to come again with is known, and nothing after it will be missed. */
static void client_connected(struct client *c)
{
    char *block = client_block(c);

    ck_assert_ptr_nonnull(block);
    ck_assert_msg(strncmp(block, ": connected\n", 12) == 0, "%s", block);
    field(block, "id: ", c->last_id, sizeof(c->last_id));
    ck_assert_str_ne(c->last_id, "");
    free(block);
}

/* The next event is this one, with these members. */
static void expect(struct client *c, const char *event, const char *members)
{
    struct message message;
    json_t *want = json_loads(members, 0, NULL), *have, *value;
    const char *name;

    ck_assert(client_next(c, &message));
    ck_assert_str_eq(message.event, event);
    have = json_loads(message.data, 0, NULL);
    ck_assert_msg(want != NULL && have != NULL, "%s or %s is not JSON", members, message.data);
    json_object_foreach(want, name, value)
        ck_assert_msg(json_equal(json_object_get(have, name), value), "%s: expected %s, got %s",
                      name, members, message.data);
    json_decref(want);
    json_decref(have);
    free(message.data);
}

/* ---- the fleet ---- */

static void sql(const char *text)
{
    free(test_sql(&pg, "%s", text));
}

static void make_fleet(const char *prefix, int count)
{
    sql("DELETE FROM headwater.assignment");
    sql("DELETE FROM headwater.node");
    free(test_sql(&pg,
                  "INSERT INTO headwater.node (name, labels) SELECT '%s' || i, "
                  "jsonb_build_object('n', i, 'odd', i %% 2 = 1, 'tags', '[1, \"x\"]'::jsonb) "
                  "FROM generate_series(1, %d) AS i",
                  prefix, count));
    sql("INSERT INTO headwater.config (name, content) VALUES ('events', '{\"v\": 0}') "
        "ON CONFLICT (name) DO UPDATE SET content = excluded.content");
    sql("INSERT INTO headwater.assignment (name, config, selector) VALUES ('events', 'events', "
        "'{}')");
}

static void change(int v)
{
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"v\": %d}' WHERE name = 'events'",
                  v));
}

/* Nodes whose names match report that they run what they should, or failed to. */
static void report(const char *like, bool ok)
{
    static int kv_revision;

    free(test_sql(
        &pg,
        "SELECT count(*) FROM headwater.report((SELECT jsonb_agg(jsonb_build_object('kv_created', "
        "'2026-01-01', 'kv_revision', %d, 'value', jsonb_build_object('node', node, 'state', '%s', "
        "'%s', jsonb_build_object('revision', revision, 'digest', digest, 'epoch', 1, 'lsn', "
        "wal_lsn, 'stage', 'apply', 'error', 'no such crate')))) "
        "FROM headwater.desired WHERE node LIKE '%s'))",
        ++kv_revision, ok ? "applied" : "failed", ok ? "running" : "failed", like));
}

/* Both histories' ends, as an id. */
static char *end_of_history(void)
{
    return test_sql(&pg, "SELECT coalesce((SELECT max(id) FROM headwater.desired_history), 0) || "
                         "'-' || coalesce((SELECT max(id) FROM headwater.reported_history), 0)");
}

/* Reads to the end of the histories; what came is behind from, whole, each once and in order. */
static void check_rest(struct client *c, const char *from)
{
    HW_AUTO_FREE char *end = end_of_history();
    long desired = strtol(from, NULL, 10), reported = strtol(strchr(from, '-') + 1, NULL, 10);
    const long last_desired = strtol(end, NULL, 10);
    const long last_reported = strtol(strchr(end, '-') + 1, NULL, 10);
    struct message message;
    long count = 0;

    HW_AUTO_FREE char *expected =
        test_sql(&pg,
                 "SELECT (SELECT count(*) FROM headwater.desired_history WHERE id > %ld) + "
                 "(SELECT count(*) FROM headwater.reported_history WHERE id > %ld)",
                 desired, reported);
    while (desired < last_desired || reported < last_reported) {
        ck_assert(client_next(c, &message));
        const long d = strtol(message.id, NULL, 10);
        const long r = strtol(strchr(message.id, '-') + 1, NULL, 10);

        if (strcmp(message.event, "desired") == 0)
            ck_assert_msg(d > desired && r == reported, "%s follows %ld-%ld", message.id, desired,
                          reported);
        else
            ck_assert_msg(r > reported && d == desired, "%s follows %ld-%ld", message.id, desired,
                          reported);
        desired = d;
        reported = r;
        count++;
        free(message.data);
    }
    ck_assert_int_eq(count, strtol(expected, NULL, 10));
}

/* ---- tests ---- */

START_TEST(test_stream)
{
    struct client c;

    make_fleet("a", 1);
    HW_AUTO_FREE char *from = end_of_history();
    client_open(&c, api.port, "", from);
    client_connected(&c);
    change(1);
    expect(&c, "desired", "{\"node\":\"a1\",\"revision\":2,\"size\":8}");
    report("a%", true);
    expect(&c, "reported",
           "{\"node\":\"a1\",\"state\":\"applied\",\"running_revision\":2,\"failed_revision\":"
           "null}");
    /* The same again is no change. */
    report("a%", true);
    change(2);
    expect(&c, "desired", "{\"node\":\"a1\",\"revision\":3}");
    report("a%", false);
    expect(&c, "reported",
           "{\"node\":\"a1\",\"state\":\"failed\",\"failed_revision\":3,\"stage\":\"apply\","
           "\"error\":\"no such crate\"}");
    /* What is rolled back never happened. */
    free(test_sql(&pg, "DO $$ BEGIN BEGIN UPDATE headwater.config SET content = '7'; RAISE "
                       "EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN END; END $$"));
    sql("DELETE FROM headwater.node WHERE name = 'a1'");
    expect(&c, "reported", "{\"node\":\"a1\",\"state\":null}");
    expect(&c, "desired", "{\"node\":\"a1\",\"revision\":3,\"digest\":null}");
    client_close(&c);
}
END_TEST

/* A node whose report changes all the time: a bounded number of events, of which one says how many
 * changes had none, and the newest state. */
START_TEST(test_flood)
{
    struct client c;
    struct message message;
    bool is_newest = false;
    int count = 0;

    make_fleet("a", 1);
    HW_AUTO_FREE char *from = end_of_history();
    client_open(&c, api.port, "?types=reported&node=a1", from);
    client_connected(&c);
    free(test_sql(&pg,
                  "DO $$ BEGIN FOR i IN 1..500 LOOP PERFORM headwater.report(jsonb_build_array("
                  "jsonb_build_object('kv_created', now(), 'kv_revision', i, 'value', "
                  "jsonb_build_object('node', 'a1', 'state', 'failed', 'failed', "
                  "jsonb_build_object('stage', 'apply', 'error', 'e' || i, 'at', now()))))); "
                  "END LOOP; UPDATE headwater.setting SET report_rate = 6000; END $$"));
    test_wait_for(test_sql_is(&pg, "0", "SELECT count(*) FROM headwater.settle_reports()"), 30);
    for (; !is_newest; count++) {
        ck_assert(client_next(&c, &message));
        if (strcmp(message.event, "reported") == 0)
            is_newest = strstr(message.data, "\"left_out\": ") != NULL &&
                        strstr(message.data, "\"error\": \"e500\"") != NULL;
        free(message.data);
    }
    ck_assert_int_ge(count, 21);
    ck_assert_int_lt(count, 100);
    client_close(&c);
}
END_TEST

START_TEST(test_filters)
{
    static const struct {
        const char *query, *event, *node;
    } cases[] = {
        {"?node=b2", "desired", "b2"},
        {"?selector=n=", "reported", NULL}, /* a string, which no label is */
        {"?selector=n=%222%22", "reported", NULL},
        {"?selector=n=2", "desired", "b2"}, /* a string or a number */
        {"?selector=%7B%22n%22:3.0%7D", "desired", "b3"},
        {"?selector=%7B%22odd%22:false%7D&types=desired", "desired", "b2"},
        {"?selector=%7B%22tags%22:[%22x%22],%22n%22:1%7D", "desired", "b1"},
        {"?selector=%7B%22tags%22:[2]%7D", "reported", NULL},
        {"?types=reported", "reported", "b1"},
        {"?types=reported,desired&node=b3", "desired", "b3"},
        {"?node=nobody", "desired", NULL},
    };
    struct client clients[HW_COUNT(cases)];

    make_fleet("b", 3);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        client_open(&clients[i], api.port, cases[i].query, NULL);
        client_connected(&clients[i]);
    }
    change(1);
    report("b%", true);
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_FREE char *members = hw_sprintf("{\"node\":\"%s\"}", cases[i].node);

        if (cases[i].node != NULL)
            expect(&clients[i], cases[i].event, members);
    }
    /* Those that match nothing are still there: a comment comes, with how far they are. */
    HW_AUTO_FREE char *end = end_of_history();
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        if (cases[i].node == NULL) {
            HW_AUTO_FREE char *wanted = hw_sprintf(": heartbeat\nid: %s\n", end);

            /* An earlier one may have been due before all had happened. */
            for (bool there = false; !there;) {
                HW_AUTO_FREE char *block = client_block(&clients[i]);

                ck_assert_ptr_nonnull(block);
                ck_assert_msg(strncmp(block, wanted, strlen(": heartbeat\nid: ")) == 0, "%s",
                              block);
                there = strcmp(block, wanted) == 0;
            }
        }
        client_close(&clients[i]);
    }
}
END_TEST

/* From any id, at any instance, the rest comes, all of it and once. */
START_TEST(test_resume)
{
    struct client c;
    struct message message;
    struct test_api other;
    char ids[64][64];
    int count = 0;

    make_fleet("c", 8);
    HW_AUTO_FREE char *from = end_of_history();
    for (int v = 1; v <= 4; v++) {
        change(v);
        report("c%", v % 2 == 0);
    }
    client_open(&c, api.port, "", from);
    client_connected(&c);
    ck_assert_str_eq(c.last_id, from);
    while (count < 64) {
        ck_assert(client_next(&c, &message));
        strcpy(ids[count++], message.id);
        free(message.data);
    }
    client_close(&c);
    test_api_start(&other, pg.api_url, NULL);
    for (int i = 0; i < 64; i++) {
        HW_AUTO_FREE char *query = hw_sprintf("?last_event_id=%s", ids[i]);

        client_open(&c, i % 2 == 0 ? api.port : other.port, i % 3 == 0 ? query : "",
                    i % 3 == 0 ? NULL : ids[i]);
        client_connected(&c);
        ck_assert_str_eq(c.last_id, ids[i]);
        check_rest(&c, ids[i]);
        /* And on from there. */
        if (i == 10) {
            change(50);
            expect(&c, "desired", "{\"node\":\"c1\"}");
        }
        client_close(&c);
    }
    test_api_stop(&other);
}
END_TEST

/* A history that is much longer than what stands in memory, from its beginning. */
START_TEST(test_far_back)
{
    struct client c;

    make_fleet("d", 2000);
    change(1);
    report("d%", true);
    change(2);
    report("d%", false);
    for (int i = 0; i < 2; i++) {
        client_open(&c, api.port, "", "0-0");
        client_connected(&c);
        check_rest(&c, "0-0");
        change(10 + i);
        check_rest(&c, c.last_id);
        client_close(&c);
    }
}
END_TEST

/* Whoever reads slowly falls behind what stands in memory, and still misses nothing. */
START_TEST(test_behind)
{
    const int small = 4096;
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)api.port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct client c = {.fd = socket(AF_INET, SOCK_STREAM, 0)};

    make_fleet("e", 3000);
    ck_assert_int_eq(setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    ck_assert_int_eq(connect(c.fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    test_http_puts(c.fd, "GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n");
    client_connected(&c);
    HW_AUTO_FREE char *from = hw_strdup(c.last_id);
    for (int v = 1; v <= 8; v++)
        change(v);
    /* Someone else keeps up meanwhile. */
    struct client quick;
    client_open(&quick, api.port, "?node=e7", NULL);
    client_connected(&quick);
    change(9);
    expect(&quick, "desired", "{\"node\":\"e7\"}");
    client_close(&quick);
    check_rest(&c, from);
    client_close(&c);
}
END_TEST

/* Writers at the same time, readers that come and go: the same. */
START_TEST(test_writers)
{
    enum { WRITERS = 4, ROUNDS = 40 };
    struct client c;
    PGconn *writers[WRITERS];

    make_fleet("f", 20);
    client_open(&c, api.port, "", NULL);
    client_connected(&c);
    HW_AUTO_FREE char *from = hw_strdup(c.last_id);
    for (int i = 0; i < WRITERS; i++)
        writers[i] = PQconnectdb(pg.url);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WRITERS; i++) {
            HW_AUTO_FREE char *statement =
                i % 2 == 0
                    ? hw_sprintf("UPDATE headwater.config SET content = '{\"v\": %d}' WHERE name = "
                                 "'events'",
                                 100 * round + i)
                    : hw_sprintf("SELECT count(*) FROM headwater.report((SELECT jsonb_agg("
                                 "jsonb_build_object('kv_created', '2027-01-01', 'kv_revision', "
                                 "%d, 'value', jsonb_build_object('node', node, 'state', "
                                 "'applied', 'running', jsonb_build_object('revision', revision, "
                                 "'digest', digest, 'epoch', 1)))) FROM headwater.desired))",
                                 WRITERS * round + i + 1);

            ck_assert_int_eq(PQsendQuery(writers[i], statement), 1);
        }
        for (int i = 0; i < WRITERS; i++) {
            PGresult *result;

            while ((result = PQgetResult(writers[i])) != NULL) {
                ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK ||
                                  PQresultStatus(result) == PGRES_COMMAND_OK,
                              "%s", PQresultErrorMessage(result));
                PQclear(result);
            }
        }
    }
    for (int i = 0; i < WRITERS; i++)
        PQfinish(writers[i]);
    check_rest(&c, from);
    client_close(&c);
}
END_TEST

START_TEST(test_refused)
{
    static const char *const ids[] = {"x",   "1",     "1-",    "-1",   "1-2-3",
                                      "1-x", " 1-2x", "-1--1", "1 -2", "9999999999999999999-1"};
    static const char *const queries[] = {"?types=",          "?types=x",         "?types=desired,",
                                          "?selector=x",      "?last_event_id=7", "?x=1",
                                          "?selector=%7Bx%7D"};

    for (size_t i = 0; i < HW_COUNT(ids); i++) {
        HW_AUTO_FREE char *header = hw_sprintf("Last-Event-ID: %s\r\n", ids[i]);
        struct test_answer answer = test_http(api.port, "GET", "/v1/events", header, NULL, 0);

        ck_assert_msg(answer.status == 400, "%s: %s%s", ids[i], answer.head, answer.body);
        test_answer_free(&answer);
    }
    for (size_t i = 0; i < HW_COUNT(queries); i++) {
        HW_AUTO_FREE char *target = hw_sprintf("/v1/events%s", queries[i]);
        struct test_answer answer = test_http(api.port, "GET", target, NULL, NULL, 0);

        ck_assert_msg(answer.status == 400, "%s: %s%s", queries[i], answer.head, answer.body);
        test_answer_free(&answer);
    }
    /* A history that is not this one's. */
    struct test_answer answer =
        test_http(api.port, "GET", "/v1/events", "Last-Event-ID: 999999999-0\r\n", NULL, 0);
    HW_AUTO_FREE char *problem = test_answer_problem(&answer);
    ck_assert_int_eq(answer.status, 409);
    ck_assert_str_eq(problem, "conflict");
    test_answer_free(&answer);
    answer = test_http(api.port, "HEAD", "/v1/events", NULL, NULL, 0);
    ck_assert_int_eq(answer.status, 200);
    test_answer_free(&answer);
}
END_TEST

static int count_in_log(const struct test_api *a, const char *what)
{
    HW_AUTO_FREE char *log = test_read_file(a->program.log);
    int count = 0;

    for (const char *p = log; (p = strstr(p, what)) != NULL; p++)
        count++;
    return count;
}

/* A client that never reads is cut off, and one that hung up is noticed. */
START_TEST(test_gone)
{
    const char *const options[] = {"--request-timeout", "2s", "--log-level", "debug", NULL};
    struct test_api hasty;
    struct client stuck, idle;

    make_fleet("g", 3000);
    test_api_start(&hasty, pg.api_url, options);
    client_open(&idle, hasty.port, "?node=nobody", NULL);
    client_connected(&idle);
    client_open(&stuck, hasty.port, "?types=desired", "0-0");
    for (int v = 1; v <= 8; v++)
        change(v);
    test_wait_for(count_in_log(&hasty, "target=\"/v1/events?types") > 0, 60);
    client_close(&stuck);
    /* The patience is for those who have something to fetch. */
    ck_assert_int_eq(count_in_log(&hasty, "target=\"/v1/events?node"), 0);
    ck_assert(!test_http_closed(idle.fd, 0));
    client_close(&idle);
    test_wait_for(count_in_log(&hasty, "target=\"/v1/events?node") > 0, 30);
    test_api_stop(&hasty);
}
END_TEST

/* The same over TLS: many records, a client that comes back, one that never reads, and the end. */
START_TEST(test_tls)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *ca = hw_sprintf("%s/ca.pem", dir);
    HW_AUTO_FREE char *cert = hw_sprintf("%s/server.pem", dir);
    HW_AUTO_FREE char *key = hw_sprintf("%s/server.key", dir);
    const char *const options[] = {
        "--tls-cert", cert,          "--tls-key", key, "--request-timeout",
        "2s",         "--log-level", "debug",     NULL};
    struct client c, stuck;
    struct test_api own;

    make_fleet("t", 3000);
    test_nats_certificates(dir);
    test_api_start_tls(&own, pg.api_url, ca, options);
    HW_AUTO_FREE char *from = end_of_history();
    client_ask(&c, connect_tls(own.port, ca), "", from);
    client_connected(&c);
    change(1);
    check_rest(&c, from);
    HW_AUTO_FREE char *middle = hw_strdup(c.last_id);
    client_close(&c);
    test_wait_for(count_in_log(&own, "target=/v1/events ") == 1, 60);

    change(2);
    report("t1%", true);
    client_ask(&c, connect_tls(own.port, ca), "", middle);
    check_rest(&c, middle);

    client_ask(&stuck, connect_tls(own.port, ca), "?types=desired", "0-0");
    for (int v = 3; v <= 8; v++) {
        HW_AUTO_FREE char *last = hw_strdup(c.last_id);

        change(v);
        check_rest(&c, last);
    }
    test_wait_for(count_in_log(&own, "target=\"/v1/events?types") > 0, 60);
    client_close(&stuck);
    test_api_stop(&own);
    while (client_fill(&c))
        ;
    client_close(&c);
}
END_TEST

/* As many streams as there may be, beside clients that are busy. */
START_TEST(test_many)
{
    enum { BUSY = 200, ROUNDS = 5 };
    const char *wanted = getenv("HW_STREAMS");
    int count = wanted != NULL ? (int)strtol(wanted, NULL, 10) : 1000;
    struct rlimit limit;
    struct client *clients;
    struct test_api own;
    int busy[BUSY];

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < (rlim_t)count + BUSY + 200)
        count = (int)limit.rlim_cur - BUSY - 200;
    make_fleet("h", 3);
    test_api_start(&own, pg.api_url, NULL);
    clients = hw_alloc((size_t)count * sizeof(*clients));
    const long before = test_own_kib(own.program.pid);
    for (int i = 0; i < count; i++)
        client_open(&clients[i], own.port, i % 2 == 0 ? "?node=h2" : "", NULL);
    for (int i = 0; i < count; i++)
        client_connected(&clients[i]);
    const long after = test_own_kib(own.program.pid);
    printf("%d streams: %ld KiB, %.1f KiB each\n", count, after,
           (double)(after - before) / (double)count);

    for (int i = 0; i < BUSY; i++)
        busy[i] = test_http_connect(own.port);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BUSY; i++)
            test_http_puts(busy[i], "GET /v1/fleet HTTP/1.1\r\nHost: a\r\n\r\n");
        change(100 + round);
        for (int i = 0; i < BUSY; i++) {
            struct test_answer answer = test_http_receive(busy[i], false);

            ck_assert_int_eq(answer.status, 200);
            test_answer_free(&answer);
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < count; i++) {
            HW_AUTO_FREE char *revision = hw_sprintf("\"revision\":%d", 2 + round);

            for (int n = i % 2 == 0 ? 2 : 1; n <= (i % 2 == 0 ? 2 : 3); n++) {
                HW_AUTO_FREE char *members = hw_sprintf("{\"node\":\"h%d\",%s}", n, revision);

                expect(&clients[i], "desired", members);
            }
        }
    }
    /* Two programs of seven: four for reads, two for writes, and the one that listens. */
    test_wait_for(test_sql_is(&pg, "14",
                              "SELECT count(*) FROM pg_stat_activity "
                              "WHERE application_name LIKE 'headwater-api%%'"),
                  30);
    /* All of them end with the program, which is not held up. */
    kill(own.program.pid, SIGTERM);
    for (int i = 0; i < count; i++) {
        while (client_fill(&clients[i]))
            ;
        ck_assert(clients[i].ended);
        client_close(&clients[i]);
    }
    ck_assert_int_eq(test_program_stop(&own.program, 0), 0);
    for (int i = 0; i < BUSY; i++)
        close(busy[i]);
    free(clients);
}
END_TEST

/* While the database is away streams stay, and go on where they were. */
START_TEST(test_database_restart)
{
    struct test_postgres own, shared = pg;
    struct test_api other;
    struct client c;

    test_postgres_start(&own, true, NULL);
    test_api_start(&other, own.api_url, NULL);
    pg = own;
    make_fleet("i", 5);
    client_open(&c, other.port, "", NULL);
    client_connected(&c);
    HW_AUTO_FREE char *from = hw_strdup(c.last_id);
    change(1);
    test_postgres_restart(&own);
    pg = own;
    change(2);
    report("i%", true);
    check_rest(&c, from);
    test_postgres_stop(&own);
    test_wait_for(({
                      struct test_answer answer =
                          test_http(other.port, "GET", "/v1/events?types=x", NULL, NULL, 0);
                      struct test_answer down =
                          test_http(other.port, "GET", "/v1/nodes", NULL, NULL, 0);
                      const bool is_down = down.status == 503;

                      ck_assert_int_eq(answer.status, 400);
                      test_answer_free(&answer);
                      test_answer_free(&down);
                      is_down;
                  }),
                  30);
    struct test_answer answer =
        test_http(other.port, "GET", "/v1/events", "Last-Event-ID: 0-0\r\n", NULL, 0);
    HW_AUTO_FREE char *retry = test_answer_header(&answer, "Retry-After");
    ck_assert_int_eq(answer.status, 503);
    ck_assert_ptr_nonnull(retry);
    test_answer_free(&answer);
    client_close(&c);
    test_api_stop(&other);
    test_postgres_remove(&own);
    pg = shared;
}
END_TEST

/* Streams end with the right to listen. */
START_TEST(test_revoked)
{
    struct test_postgres own;
    struct test_api other;
    struct client nobody, first, second;
    struct message message;

    test_postgres_start(&own, true, NULL);
    test_api_start(&other, own.api_url, NULL);
    client_open(&nobody, other.port, "", NULL);
    client_connected(&nobody);
    /* Both at once: who is known of makes the stream end. */
    HW_AUTO_FREE char *two = test_sql(&own, "SELECT headwater.create_token('two', 'admin') || ' ' "
                                            "|| headwater.create_token('one', 'viewer')");
    HW_AUTO_FREE char *one = hw_strdup(strchr(two, ' ') + 1);
    *strchr(two, ' ') = '\0';
    HW_AUTO_FREE char *as_one = hw_sprintf("0-0\r\nAuthorization: Bearer %s", one);
    HW_AUTO_FREE char *as_two = hw_sprintf("0-0\r\nAuthorization: Bearer %s", two);

    /* Tokens are asked for now. */
    ck_assert(!client_next(&nobody, &message));
    ck_assert(nobody.ended);
    client_open(&first, other.port, "", as_one);
    client_open(&second, other.port, "", as_two);
    client_connected(&first);
    client_connected(&second);
    free(test_sql(&own, "SELECT headwater.revoke_token('one')"));
    ck_assert(!client_next(&first, &message));
    ck_assert(first.ended);
    free(test_sql(&own, "INSERT INTO headwater.node (name) VALUES ('j1')"));
    free(test_sql(&own, "INSERT INTO headwater.config (name, content) VALUES ('j', '{}')"));
    free(test_sql(&own, "INSERT INTO headwater.assignment (name, config, node) VALUES ('j', 'j', "
                        "'j1')"));
    expect(&second, "desired", "{\"node\":\"j1\"}");
    client_close(&nobody);
    client_close(&first);
    client_close(&second);
    test_api_stop(&other);
    test_postgres_remove(&own);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api events");
    TCase *all = tcase_create("events");

    tcase_add_unchecked_fixture(all, start, stop);
    tcase_set_timeout(all, 300);
    tcase_add_test(all, test_stream);
    tcase_add_test(all, test_flood);
    tcase_add_test(all, test_filters);
    tcase_add_test(all, test_resume);
    tcase_add_test(all, test_far_back);
    tcase_add_test(all, test_behind);
    tcase_add_test(all, test_writers);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_gone);
    tcase_add_test(all, test_tls);
    tcase_add_test(all, test_many);
    tcase_add_test(all, test_database_restart);
    tcase_add_test(all, test_revoked);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
