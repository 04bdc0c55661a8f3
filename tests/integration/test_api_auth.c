/* Who may call headwater-api: tokens, roles, client certificates, and where it listens. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/routes.h"
#include "base/buf.h"
#include "base/memory.h"
#include "tests/support/api_program.h"
#include "tests/support/database.h"
#include "tests/support/http.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define JSON      "Content-Type: application/json\r\n"
#define TOKEN_LEN 64

static struct test_postgres pg;

static void start(void)
{
    test_postgres_start(&pg, true, NULL);
}

static void stop(void)
{
    test_postgres_remove(&pg);
}

/* ---- a database and a service for each test ---- */

static struct test_database db;
static struct test_api api;
static char api_url[128];

static void open_database(void)
{
    test_database_create(&pg, &db);
    snprintf(api_url, sizeof(api_url), "postgresql://headwater_api@127.0.0.1:%d/%s", pg.port,
             db.name);
}

static void open_api(void)
{
    open_database();
    test_api_start(&api, api_url, NULL);
}

static void close_api(void)
{
    test_api_stop(&api);
    test_database_drop(&pg, &db);
}

/* By SQL; malloc'ed. */
static char *create_token(const char *name, const char *role)
{
    return test_value(db.conn, "SELECT headwater.create_token('%s', '%s')", name, role);
}

/* ---- asking ---- */

static struct test_answer last;

/* authorization: the field's value, or NULL for none. */
static int call_as(const char *authorization, const char *method, const char *target,
                   const char *body)
{
    HW_AUTO_FREE char *headers = hw_sprintf(
        "%s%s%s%s", body != NULL ? JSON : "", authorization != NULL ? "Authorization: " : "",
        authorization != NULL ? authorization : "", authorization != NULL ? "\r\n" : "");

    test_answer_free(&last);
    last = test_http(api.port, method, target, headers, body, body != NULL ? strlen(body) : 0);
    return last.status;
}

static int call(const char *token, const char *method, const char *target, const char *body)
{
    HW_AUTO_FREE char *authorization = token != NULL ? hw_sprintf("Bearer %s", token) : NULL;

    return call_as(authorization, method, target, body);
}

static void check_problem(int status, const char *name)
{
    HW_AUTO_FREE char *problem = NULL;

    ck_assert_msg(last.status == status, "expected %d %s, got:\n%s%s", status, name, last.head,
                  last.body);
    problem = test_answer_problem(&last);
    ck_assert_str_eq(problem, name);
    if (status == 401) {
        HW_AUTO_FREE char *challenge = test_answer_header(&last, "WWW-Authenticate");

        ck_assert_ptr_nonnull(challenge);
        ck_assert_str_eq(challenge, "Bearer");
    }
}

static void check_detail(const char *part)
{
    ck_assert_msg(strstr(last.body, part) != NULL, "\"%s\" is not in: %s", part, last.body);
}

/* A member of the last answer that is a string, malloc'ed. */
static char *member(const char *name)
{
    json_t *body = test_answer_json(&last);
    const char *text = json_string_value(json_object_get(body, name));
    char *copy;

    ck_assert_msg(text != NULL, "no %s in: %s", name, last.body);
    copy = hw_strdup(text);
    json_decref(body);
    return copy;
}

static void check_absent(const char *file, const char *secret)
{
    HW_AUTO_FREE char *text = test_read_file(file);

    ck_assert_msg(strstr(text, secret) == NULL, "the secret is in %s", file);
}

/* ---- the first token ---- */

START_TEST(test_first_token)
{
    open_api();
    ck_assert_int_eq(call(NULL, "GET", "/v1/nodes", NULL), 200);
    ck_assert_int_eq(call("whatever", "GET", "/v1/nodes", NULL), 200); /* none is asked for */
    ck_assert_int_eq(call(NULL, "GET", "/v1/tokens", NULL), 200);

    call(NULL, "POST", "/v1/tokens", "{\"name\":\"eyes\",\"role\":\"viewer\"}");
    check_problem(422, "refused");
    check_detail("token_first_is_admin");
    ck_assert_int_eq(call(NULL, "GET", "/v1/nodes", NULL), 200);

    ck_assert_int_eq(call(NULL, "POST", "/v1/tokens",
                          "{\"name\":\"boss\",\"role\":\"admin\",\"expires_in\":\"30d\"}"),
                     201);
    HW_AUTO_FREE char *boss = member("token");
    check_detail("\"first\":true");
    HW_AUTO_FREE char *cached = hw_strdup(strstr(last.head, "no-store"));
    ck_assert_uint_eq(strlen(boss), TOKEN_LEN);
    ck_assert_ptr_nonnull(cached);
    test_expect(db.conn, "30",
                "SELECT extract(day FROM expires_at - created_at) FROM headwater.token");
    test_expect(db.conn, "http:127.0.0.1", "SELECT created_by FROM headwater.token");
    test_expect(db.conn, "t", "SELECT hash = sha256('%s') FROM headwater.token", boss);

    /* From this answer on every call needs it. */
    call(NULL, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    check_detail("is missing");
    call(NULL, "POST", "/v1/tokens", "{\"name\":\"thief\",\"role\":\"admin\"}");
    check_problem(401, "unauthenticated");
    ck_assert_int_eq(call(boss, "GET", "/v1/nodes", NULL), 200);
    ck_assert_int_eq(call(NULL, "GET", "/healthz", NULL), 200);
    ck_assert_int_eq(call(NULL, "GET", "/readyz", NULL), 200);
    ck_assert_int_eq(call(boss, "POST", "/v1/tokens", "{\"name\":\"eyes\",\"role\":\"viewer\"}"),
                     201);
    check_detail("\"first\":false");
    HW_AUTO_FREE char *eyes = member("token");
    ck_assert_int_eq(call(eyes, "GET", "/v1/nodes", NULL), 200);

    /* Neither the database, nor an answer, nor the log tells it again. */
    test_expect(db.conn, "0", "SELECT count(*) FROM headwater.token AS t WHERE t::text ~ '%s'",
                boss + TOKEN_LEN - 43);
    ck_assert_int_eq(call(boss, "GET", "/v1/tokens", NULL), 200);
    ck_assert_ptr_null(strstr(last.body, boss + TOKEN_LEN - 43));
    ck_assert_ptr_null(strstr(last.body, "hash"));

    /* Without a valid one nothing opens again by itself. */
    ck_assert_int_eq(call(boss, "DELETE", "/v1/tokens/eyes", NULL), 204);
    call(eyes, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    check_detail("was revoked");
    ck_assert_int_eq(call(boss, "DELETE", "/v1/tokens/boss", NULL), 204);
    call(boss, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    call(NULL, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    check_detail("Every token has expired or was revoked");

    /* The next one is a first one again; what the database commits is soon known. */
    test_refuse(db.conn, "23514", "token_first_is_admin", "admin",
                "SELECT headwater.create_token('op', 'operator')");
    HW_AUTO_FREE char *next = create_token("next", "admin");
    test_wait_for(call(next, "GET", "/v1/nodes", NULL) == 200, 30);
    check_absent(api.program.log, boss + TOKEN_LEN - 43);
    close_api();
}
END_TEST

START_TEST(test_tokens_refused)
{
    static const struct {
        const char *body, *problem, *detail;
        int status;
    } bad[] = {
        {"{\"name\":\"x\"}", "invalid-body", "$.role", 422},
        {"{\"name\":\"x\",\"role\":\"root\"}", "refused", "token_role_is_known", 422},
        {"{\"name\":\"x y\",\"role\":\"viewer\"}", "refused", "token_name_is_legal", 422},
        {"{\"name\":\"\",\"role\":\"viewer\"}", "refused", "token_name_is_legal", 422},
        {"{\"name\":\"boss\",\"role\":\"viewer\"}", "conflict", "token_name_is_unique", 409},
        {"{\"name\":\"x\",\"role\":\"viewer\",\"expires_in\":\"soon\"}", "invalid-body",
         "$.expires_in", 422},
        {"{\"name\":\"x\",\"role\":\"viewer\",\"expires_in\":\"0s\"}", "refused",
         "token_valid_is_positive", 422},
        {"{\"name\":\"x\",\"role\":\"viewer\",\"expires_in\":\"-3d\"}", "invalid-body",
         "$.expires_in", 422},
        {"{\"name\":\"x\",\"role\":\"viewer\",\"expires_in\":30}", "invalid-body", "$.expires_in",
         422},
        {"{\"name\":\"x\",\"role\":\"viewer\",\"hash\":\"\"}", "invalid-body", "$.hash", 422},
    };

    open_database();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    test_api_start(&api, api_url, NULL);
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        call(boss, "POST", "/v1/tokens", bad[i].body);
        check_problem(bad[i].status, bad[i].problem);
        check_detail(bad[i].detail);
    }
    call(boss, "GET", "/v1/tokens/nobody", NULL);
    check_problem(404, "no-such-resource");
    call(boss, "DELETE", "/v1/tokens/nobody", NULL);
    check_problem(404, "no-such-resource");

    for (int i = 0; i < 4; i++) {
        HW_AUTO_FREE char *body = hw_sprintf("{\"name\":\"t%d\",\"role\":\"viewer\"}", i);

        ck_assert_int_eq(call(boss, "POST", "/v1/tokens?message=why", body), 201);
    }
    ck_assert_int_eq(call(boss, "GET", "/v1/tokens?limit=2", NULL), 200);
    check_detail("\"next\":\"t0\"");
    ck_assert_int_eq(call(boss, "GET", "/v1/tokens?limit=3&after=t0", NULL), 200);
    check_detail("\"t3\"");
    check_detail("\"next\":null");
    ck_assert_int_eq(call(boss, "DELETE", "/v1/tokens/t0?message=lost", NULL), 204);
    ck_assert_int_eq(call(boss, "DELETE", "/v1/tokens/t0", NULL), 204);
    ck_assert_int_eq(call(boss, "GET", "/v1/tokens/t0", NULL), 200);
    HW_AUTO_FREE char *state = member("state");
    HW_AUTO_FREE char *made_by = member("created_by");
    ck_assert_str_eq(state, "revoked");
    ck_assert_str_eq(made_by, "token:boss");
    test_expect(db.conn, "create why token:boss,revoke lost token:boss",
                "SELECT string_agg(concat_ws(' ', action, message, author), ',' ORDER BY id) "
                "FROM headwater.audit WHERE (kind, name) = ('token', 't0')");
    close_api();
}
END_TEST

/* ---- roles ---- */

static const struct {
    const char *name;
    int role;
} roles[] = {{"admin", API_ROLE_ADMIN},
             {"viewer", API_ROLE_VIEWER},
             {"operator", API_ROLE_OPERATOR},
             {"approver", API_ROLE_APPROVER}};

/* The route's path with something in the place of each variable. */
static char *target_of(const struct http_route *route)
{
    struct hw_buf target = {0};

    for (const char *p = route->pattern; *p != '\0'; p++) {
        if (*p == '{') {
            hw_buf_puts(&target, "x");
            p = strchr(p, '}');
        } else {
            hw_buf_putc(&target, *p);
        }
    }
    /* A parameter that no route takes: whoever may call hears of that, before anything happens. */
    hw_buf_puts(&target, "?no-such-parameter=");
    return target.data;
}

static void check_route(const struct http_route *route, const char *method, const char *token,
                        int role)
{
    HW_AUTO_FREE char *target = target_of(route);
    const bool by_head = strcmp(method, "HEAD") == 0;
    const int status = call(token, method, target, route->body != HTTP_BODY_NONE ? "{}" : NULL);
    const int expected = role >= route->role ? 400 : token == NULL ? 401 : 403;

    ck_assert_msg(status == expected, "%s %s as %d: %d instead of %d", method, target, role, status,
                  expected);
    if (!by_head)
        check_problem(status, status == 400   ? "invalid-parameter"
                              : status == 401 ? "unauthenticated"
                                              : "forbidden");
}

static bool is_for_everyone(const char *pattern)
{
    static const char *const patterns[] = {"/healthz", "/readyz", "/openapi.json", "/v1",
                                           "/v1/reference"};

    for (size_t i = 0; i < HW_COUNT(patterns); i++)
        if (strcmp(pattern, patterns[i]) == 0)
            return true;
    return false;
}

/* Every route of the program, by everyone. */
START_TEST(test_routes_by_role)
{
    char *tokens[HW_COUNT(roles)];

    open_database();
    for (size_t i = 0; i < HW_COUNT(roles); i++)
        tokens[i] = create_token(roles[i].name, roles[i].name);
    test_api_start(&api, api_url, NULL);
    for (const struct http_route *r = api_routes; r->method != NULL; r++) {
        const bool is_open = is_for_everyone(r->pattern);
        const bool is_get = strcmp(r->method, "GET") == 0;
        const bool is_token = strncmp(r->pattern, "/v1/tokens", 10) == 0;

        /* What the table says is what was promised. */
        ck_assert_msg(is_open == (r->role == API_ROLE_NONE), "%s %s", r->method, r->pattern);
        ck_assert_msg(is_token == (r->role == API_ROLE_ADMIN), "%s %s", r->method, r->pattern);
        if (is_get && !is_open && !is_token)
            ck_assert_int_eq(r->role, API_ROLE_VIEWER);
        if (!is_get)
            ck_assert_int_ge(r->role, API_ROLE_OPERATOR);

        check_route(r, r->method, NULL, API_ROLE_NONE);
        for (size_t i = 0; i < HW_COUNT(roles); i++)
            check_route(r, r->method, tokens[i], roles[i].role);
        if (is_get) {
            check_route(r, "HEAD", NULL, API_ROLE_NONE);
            check_route(r, "HEAD", tokens[1], API_ROLE_VIEWER);
        }
    }
    /* What is no route is that for everyone. */
    call(NULL, "GET", "/v1/nothing", NULL);
    check_problem(404, "no-such-route");
    call(NULL, "PATCH", "/v1/nodes/x", NULL);
    check_problem(405, "method-not-allowed");
    for (size_t i = 0; i < HW_COUNT(roles); i++)
        free(tokens[i]);
    close_api();
}
END_TEST

/* Who did it is in the change log, and in what follows from it. */
START_TEST(test_author)
{
    open_database();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    HW_AUTO_FREE char *op = create_token("op.1", "operator");
    test_api_start(&api, api_url, NULL);
    ck_assert_int_eq(call(op, "PUT", "/v1/configs/c", "{\"a\":1}"), 201);
    HW_AUTO_FREE char *by = member("updated_by");
    ck_assert_str_eq(by, "token:op.1");
    test_expect(db.conn, "token:op.1 headwater-api",
                "SELECT author || ' ' || application_name FROM headwater.changelog");
    call(op, "GET", "/v1/tokens", NULL);
    check_problem(403, "forbidden");
    check_detail("needs the role admin; token:op.1 has operator");

    /* When it was used is known soon, too. */
    test_wait_for(({
                      HW_AUTO_FREE char *used =
                          test_value(db.conn, "SELECT bool_and(last_used_at >= created_at) "
                                              "FROM headwater.token_info WHERE name = 'op.1'");

                      strcmp(used, "t") == 0;
                  }),
                  30);
    test_expect(db.conn, "(null)", "SELECT last_used_at FROM headwater.token WHERE name = 'boss'");
    close_api();
}
END_TEST

/* ---- what is no valid token ---- */

START_TEST(test_refused)
{
    open_database();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    HW_AUTO_FREE char *old = create_token("old", "admin");
    HW_AUTO_FREE char *gone = create_token("gone", "admin");
    HW_AUTO_FREE char *forged = hw_strdup(boss);
    HW_AUTO_FREE char *unknown = hw_strdup(boss);
    HW_AUTO_FREE char *longer = hw_sprintf("%sA", boss);

    test_run(db.conn, "UPDATE headwater.token SET expires_at = now() WHERE name = 'old'");
    test_run(db.conn, "SELECT headwater.revoke_token('gone')");
    forged[TOKEN_LEN - 5] = forged[TOKEN_LEN - 5] == 'A' ? 'B' : 'A';
    unknown[4] = unknown[4] == '0' ? '1' : '0';
    test_api_start(&api, api_url, NULL);

    HW_AUTO_FREE char *basic = hw_sprintf("Basic %s", boss);
    HW_AUTO_FREE char *bare = hw_strdup(boss);
    HW_AUTO_FREE char *lower = hw_sprintf("bearer   %s", boss);
    HW_AUTO_FREE char *trailing = hw_sprintf("Bearer %s, Bearer %s", boss, boss);
    const struct {
        const char *authorization, *detail;
    } bad[] = {
        {"Bearer", "the scheme must be Bearer"},
        {"Bearer hwt_0_0", "not a token"},
        {"Basic Ym9zczpib3Nz", "the scheme must be Bearer"},
        {"Digest username=\"x\"", "the scheme must be Bearer"},
        {basic, "the scheme must be Bearer"},
        {bare, "the scheme must be Bearer"},
        {trailing, "not a token"},
    };
    const struct {
        const char *token, *detail;
    } wrong[] = {{forged, "no such token"},
                 {unknown, "no such token"},
                 {longer, "not a token"},
                 {old, "has expired"},
                 {gone, "was revoked"}};

    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        call_as(bad[i].authorization, "GET", "/v1/nodes", NULL);
        check_problem(401, "unauthenticated");
        check_detail(bad[i].detail);
    }
    for (size_t i = 0; i < HW_COUNT(wrong); i++) {
        call(wrong[i].token, "GET", "/v1/nodes", NULL);
        check_problem(401, "unauthenticated");
        check_detail(wrong[i].detail);
    }
    ck_assert_int_eq(call_as(lower, "GET", "/v1/nodes", NULL), 200);

    /* Twice is not once; a token in the target is none. */
    HW_AUTO_FREE char *twice = hw_sprintf("Bearer %s\r\nAuthorization: Bearer %s", boss, boss);
    call_as(twice, "GET", "/v1/nodes", NULL);
    check_problem(400, "malformed-request");
    HW_AUTO_FREE char *target = hw_sprintf("/v1/nodes?access_token=%s", boss);
    call(NULL, "GET", target, NULL);
    check_problem(401, "unauthenticated");

    /* Time ends it, without a word from the database. */
    ck_assert_int_eq(call(boss, "POST", "/v1/tokens",
                          "{\"name\":\"brief\",\"role\":\"viewer\",\"expires_in\":\"2s\"}"),
                     201); /* not by SQL: who asks until it is known is soon told 429 */
    HW_AUTO_FREE char *brief = member("token");
    ck_assert(call(brief, "GET", "/v1/nodes", NULL) == 200 || strstr(last.body, "expired") != NULL);
    test_wait_for(call(brief, "GET", "/v1/nodes", NULL) == 401, 30);
    check_detail("has expired");
    close_api();
}
END_TEST

/* Nobody sends 16 MiB to be told that they may not. */
START_TEST(test_refused_before_body)
{
    static const char *const heads[] = {
        "PUT /v1/configs/x HTTP/1.1\r\nHost: a\r\n" JSON "Content-Length: 1000000\r\n%s%s\r\n",
        "PUT /v1/nodes/x HTTP/1.1\r\nHost: a\r\n" JSON "Transfer-Encoding: chunked\r\n%s%s\r\n",
    };

    open_database();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    HW_AUTO_FREE char *eyes = create_token("eyes", "viewer");
    HW_AUTO_FREE char *authorization = hw_sprintf("Authorization: Bearer %s\r\n", eyes);
    test_api_start(&api, api_url, NULL);
    for (size_t i = 0; i < HW_COUNT(heads); i++) {
        for (int with_token = 0; with_token <= 1; with_token++) {
            const int fd = test_http_connect(api.port);
            struct hw_buf head = {0};
            const char *rest = strstr(heads[i], "%s");

            hw_buf_add(&head, heads[i], (size_t)(rest - heads[i]));
            hw_buf_puts(&head, with_token ? authorization : "");
            hw_buf_puts(&head, "\r\n");
            test_http_puts(fd, head.data);
            hw_buf_free(&head);
            test_answer_free(&last);
            last = test_http_receive(fd, false);
            check_problem(with_token ? 403 : 401, with_token ? "forbidden" : "unauthenticated");
            ck_assert(last.closed);
            close(fd);
        }
    }
    close_api();
}
END_TEST

/* ---- too many failures ---- */

/* A call from another address of this machine. */
static int call_from(const char *address, const char *authorization)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)api.port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    HW_AUTO_FREE char *head =
        hw_sprintf("GET /v1/nodes HTTP/1.1\r\nHost: a\r\nAuthorization: %s\r\n\r\n", authorization);

    ck_assert_int_eq(inet_pton(AF_INET, address, &from.sin_addr), 1);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&from, sizeof(from)), 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    test_http_puts(fd, head);
    test_answer_free(&last);
    last = test_http_receive(fd, false);
    close(fd);
    return last.status;
}

START_TEST(test_rate_limit)
{
    open_database();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    HW_AUTO_FREE char *eyes = create_token("eyes", "viewer");
    test_api_start(&api, api_url, NULL);
    for (int i = 0; i < 20; i++) {
        call_as("Bearer x", "GET", "/v1/nodes", NULL);
        check_problem(401, "unauthenticated");
    }
    call_as("Bearer x", "GET", "/v1/nodes", NULL);
    check_problem(429, "rate-limited");
    HW_AUTO_FREE char *retry = test_answer_header(&last, "Retry-After");
    ck_assert_ptr_nonnull(retry);
    ck_assert_int_ge(strtol(retry, NULL, 10), 1);
    ck_assert_int_le(strtol(retry, NULL, 10), 60);

    /* It concerns those who guess: not who knows, who has no right, or who says nothing. */
    ck_assert_int_eq(call(boss, "GET", "/v1/nodes", NULL), 200);
    call(eyes, "GET", "/v1/tokens", NULL);
    check_problem(403, "forbidden");
    call(NULL, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    ck_assert_int_eq(call_from("127.0.0.9", "Bearer x"), 401);
    ck_assert_int_eq(call_from("127.0.0.1", "Bearer x"), 429);

    /* The table of addresses is bounded; it takes any number of them. */
    for (int i = 0; i < 2000; i++) {
        HW_AUTO_FREE char *address = hw_sprintf("127.1.%d.%d", i / 250, 1 + i % 250);

        ck_assert_int_eq(call_from(address, "Bearer x"), 401);
    }
    ck_assert_int_eq(call(boss, "GET", "/v1/nodes", NULL), 200);
    close_api();
}
END_TEST

/* ---- the database goes away ---- */

START_TEST(test_database_down)
{
    struct test_postgres own;

    test_postgres_start(&own, true, NULL);
    HW_AUTO_FREE char *boss = test_sql(&own, "SELECT headwater.create_token('boss', 'admin')");
    HW_AUTO_FREE char *eyes = test_sql(&own, "SELECT headwater.create_token('eyes', 'viewer')");
    test_api_start(&api, own.api_url, NULL);
    ck_assert_int_eq(call(boss, "GET", "/v1/nodes", NULL), 200);
    test_postgres_kill(&own);
    test_wait_for(call(boss, "GET", "/v1/nodes", NULL) == 503, 30);
    check_problem(503, "database-unavailable");
    call(eyes, "DELETE", "/v1/nodes/x", NULL);
    check_problem(403, "forbidden");
    call(NULL, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    call_as("Bearer x", "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");

    /* What happened behind its back is known when it is back. */
    test_postgres_restart(&own);
    free(test_sql(&own, "SELECT headwater.revoke_token('eyes')"));
    test_wait_for(call(boss, "GET", "/v1/nodes", NULL) == 200, 60);
    test_wait_for(call(eyes, "GET", "/v1/nodes", NULL) == 401, 60);
    check_detail("was revoked");
    test_api_stop(&api);
    test_postgres_remove(&own);
}
END_TEST

static int port_of(const struct test_program *program, const char *address)
{
    HW_AUTO_FREE char *sign = hw_sprintf("address=%s:", address);
    HW_AUTO_FREE char *log = test_read_file(program->log);
    const char *found = strstr(log, sign);

    return found != NULL ? (int)strtol(found + strlen(sign), NULL, 10) : 0;
}

/* Starts it where test_api_start cannot: beyond loopback, with TLS. */
static void start_at(const char *address, const char *database, const char *const options[])
{
    HW_AUTO_FREE char *listen = hw_sprintf("%s:0", address);
    const char *argv[24] = {"headwater-api", "--database", database, "--listen", listen};
    int count = 5;

    while (options != NULL && *options != NULL && count < 23)
        argv[count++] = *options++;
    test_program_start(&api.program, argv, NULL);
    api.port = 0;
    test_wait_for(!test_program_running(&api.program) ||
                      (api.port = port_of(&api.program, address)) != 0,
                  30);
    if (api.port == 0) {
        test_print_tail(api.program.log);
        ck_abort_msg("headwater-api ended");
    }
}

/* Before it is known who may call, nobody may: anywhere. */
START_TEST(test_started_without_database)
{
    static const char *const addresses[] = {"127.0.0.1", "0.0.0.0"};
    HW_AUTO_FREE char *nobody =
        hw_sprintf("postgresql://headwater_api@127.0.0.1:%d/headwater", test_free_port());

    for (size_t i = 0; i < HW_COUNT(addresses); i++) {
        start_at(addresses[i], nobody, NULL);
        call(NULL, "GET", "/v1/nodes", NULL);
        check_problem(503, "database-unavailable");
        call_as("Bearer x", "POST", "/v1/tokens", "{\"name\":\"a\",\"role\":\"admin\"}");
        check_problem(503, "database-unavailable");
        ck_assert_int_eq(call(NULL, "GET", "/healthz", NULL), 200);
        test_api_stop(&api);
    }
}
END_TEST

static bool file_has(const char *file, const char *part)
{
    HW_AUTO_FREE char *text = test_read_file(file);

    return strstr(text, part) != NULL;
}

/* Row level security, as a hardening script switches it on, hides tokens. Hidden is not absent. */
START_TEST(test_hidden_tokens)
{
    open_api();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");

    test_wait_for(call(NULL, "GET", "/v1/nodes", NULL) == 401, 30);
    test_run(db.conn, "ALTER TABLE headwater.token ENABLE ROW LEVEL SECURITY");
    test_run(db.conn, "NOTIFY headwater_token");
    test_wait_for(file_has(api.program.log, "row-level security"), 30);
    ck_assert_int_ne(call(NULL, "GET", "/v1/nodes", NULL), 200);
    test_api_stop(&api);

    /* One that starts now has never seen a token. */
    start_at("127.0.0.1", api_url, NULL);
    test_wait_for(file_has(api.program.log, "row-level security"), 30);
    call(NULL, "GET", "/v1/nodes", NULL);
    check_problem(503, "database-unavailable");

    test_run(db.conn, "ALTER TABLE headwater.token DISABLE ROW LEVEL SECURITY");
    test_wait_for(call(NULL, "GET", "/v1/nodes", NULL) == 401, 30);
    ck_assert_int_eq(call(boss, "GET", "/v1/tokens", NULL), 200);
    close_api();
}
END_TEST

/* A table that shows nothing opens nothing, be it for a program that runs or one that starts; what
 * does is to say so. */
START_TEST(test_tokens_gone)
{
    open_api();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");

    test_wait_for(call(NULL, "GET", "/v1/nodes", NULL) == 401, 30);
    test_run(db.conn, "DELETE FROM headwater.token");
    test_wait_for(file_has(api.program.log, "there were tokens"), 30);
    call(NULL, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    check_detail("forget_tokens()");
    call(boss, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    test_api_stop(&api);
    start_at("127.0.0.1", api_url, NULL);
    test_wait_for(file_has(api.program.log, "there were tokens"), 30);
    ck_assert_int_eq(call(NULL, "GET", "/v1/nodes", NULL), 401);

    test_run(db.conn, "SELECT headwater.forget_tokens()");
    test_wait_for(call(NULL, "GET", "/v1/nodes", NULL) == 200, 30);

    HW_AUTO_FREE char *king = create_token("king", "admin");
    test_wait_for(call(NULL, "GET", "/v1/nodes", NULL) == 401, 30);
    ck_assert_int_eq(call(king, "GET", "/v1/nodes", NULL), 200);
    close_api();
}
END_TEST

/* A token expires by the database's clock, which a test need not wait for. */
START_TEST(test_token_expires)
{
    open_api();
    HW_AUTO_FREE char *boss =
        test_value(db.conn, "SELECT headwater.create_token('boss', 'admin', '1 day')");

    test_wait_for(call(boss, "GET", "/v1/nodes", NULL) == 200, 30);
    test_run(db.conn, "UPDATE headwater.clock SET shift = '2 days'; NOTIFY headwater_token");
    test_wait_for(call(boss, "GET", "/v1/nodes", NULL) == 401, 30);
    check_detail("expired");
    close_api();
}
END_TEST

/* What is hidden of any table is an error, and never an empty answer. */
START_TEST(test_hidden_rows)
{
    open_api();
    test_run(db.conn, "INSERT INTO headwater.node (name) VALUES ('n1')");
    test_wait_for(call(NULL, "GET", "/v1/nodes", NULL) == 200, 30);
    check_detail("n1");
    test_run(db.conn, "ALTER TABLE headwater.node ENABLE ROW LEVEL SECURITY");
    static const char *const targets[] = {"/v1/nodes", "/v1/nodes/n1"};
    for (size_t i = 0; i < HW_COUNT(targets); i++) {
        call(NULL, "GET", targets[i], NULL);
        check_problem(503, "not-ready");
        check_detail("ow level security");
    }
    test_run(db.conn, "ALTER TABLE headwater.node DISABLE ROW LEVEL SECURITY");
    test_wait_for(call(NULL, "GET", "/v1/nodes", NULL) == 200, 30);
    close_api();
}
END_TEST

/* ---- beyond loopback ---- */

static int run(char **output, const char *const argv[])
{
    return test_program_run(argv, NULL, NULL, output);
}

static int call_host(const char *token, const char *host)
{
    const int fd = test_http_connect(api.port);
    HW_AUTO_FREE char *head = hw_sprintf(
        "GET /v1/nodes HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", host, token);

    test_http_puts(fd, head);
    test_answer_free(&last);
    last = test_http_receive(fd, false);
    close(fd);
    return last.status;
}

START_TEST(test_beyond_loopback)
{
    char *output;

    open_database();
    const char *const serve[] = {"headwater-api", "--database", api_url,
                                 "--listen",      "0.0.0.0:0",  NULL};
    ck_assert_int_eq(run(&output, serve), 2);
    ck_assert_ptr_nonnull(strstr(output, "not a loopback address"));
    ck_assert_ptr_nonnull(strstr(output, "headwater-api token create"));
    free(output);
    HW_AUTO_FREE char *old = create_token("old", "admin");
    test_run(db.conn, "SELECT headwater.revoke_token('old')");
    ck_assert_int_eq(run(&output, serve), 2);
    free(output);

    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    start_at("0.0.0.0", api_url,
             (const char *[]){"--host", "api.example.org,other.example.org", NULL});
    test_wait_for(call(NULL, "GET", "/readyz", NULL) == 200, 30);
    HW_AUTO_FREE char *log = test_read_file(api.program.log);
    ck_assert_ptr_nonnull(strstr(log, "without TLS"));
    call(NULL, "GET", "/v1/nodes", NULL); /* from a loopback address, even */
    check_problem(401, "unauthenticated");
    ck_assert_int_eq(call(boss, "GET", "/v1/nodes", NULL), 200);

    ck_assert_int_eq(call_host(boss, "api.example.org"), 200);
    ck_assert_int_eq(call_host(boss, "API.Example.org:8080"), 200);
    ck_assert_int_eq(call_host(boss, "other.example.org"), 200);
    ck_assert_int_eq(call_host(boss, "192.0.2.1:80"), 200);
    static const char *const strange[] = {"example.org", "api.example.org.evil.org",
                                          "xapi.example.org", "api.example.org,other.example.org"};
    for (size_t i = 0; i < HW_COUNT(strange); i++) {
        call_host(boss, strange[i]);
        check_problem(421, "misdirected");
        check_detail("--host");
    }

    ck_assert_int_eq(call(boss, "DELETE", "/v1/tokens/boss", NULL), 204);
    call(NULL, "GET", "/v1/nodes", NULL);
    check_problem(401, "unauthenticated");
    check_detail("Every token has expired or was revoked");

    /* To do away with them all opens loopback, and nothing else. */
    test_run(db.conn, "SELECT headwater.forget_tokens()");
    test_wait_for(call(NULL, "GET", "/v1/nodes", NULL) == 401 &&
                      strstr(last.body, "There is no token yet") != NULL,
                  30);
    close_api();
}
END_TEST

/* ---- the command ---- */

/* The token among what was said, malloc'ed. */
static char *token_in(const char *output)
{
    const char *token = strstr(output, "hwt_");

    ck_assert_msg(token != NULL && strlen(token) >= TOKEN_LEN, "no token in: %s", output);
    return hw_strndup(token, TOKEN_LEN);
}

START_TEST(test_command)
{
    char *output;
    const char *const usage[][8] = {
        {"token", NULL},
        {"token", "make", NULL},
        {"token", "create", "--role", "admin", NULL},
        {"token", "create", "--name", "x", NULL},
        {"token", "create", "--name", "x", "--role", "root", NULL},
        {"token", "create", "--name", "x", "--role", "admin", "--expires-in=never"},
        {"token", "revoke", NULL},
        {"token", "revoke", "x", "y", NULL},
        {"token", "revoke", "x", "--name", "x", NULL},
        {"token", "list", "x", NULL},
        {"token", "list", "--role", "admin", NULL},
    };

    open_database();
    for (size_t i = 0; i < HW_COUNT(usage); i++) {
        const char *argv[12] = {"headwater-api", "--database", api_url};

        for (int k = 0; k < 7 && usage[i][k] != NULL; k++)
            argv[3 + k] = usage[i][k];
        const int status = run(&output, argv);

        ck_assert_msg(status == 2, "%zu: %d %s", i, status, output);
        free(output);
    }
    const char *const viewer[] = {"headwater-api", "token",  "create", "eyes", "--database",
                                  api_url,         "--role", "viewer", NULL};
    ck_assert_int_eq(run(&output, viewer), 1);
    ck_assert_ptr_nonnull(strstr(output, "the first one must have the role admin"));
    free(output);
    ck_assert_int_eq(run(&output, (const char *[]){"headwater-api", "token", "create", "--database",
                                                   db.url, "--name", "boss", "--role", "admin",
                                                   "--expires-in", "30d", NULL}),
                     0);
    /* It closes the door for everyone else, and says so, and how they get in. */
    ck_assert_ptr_nonnull(strstr(output, "from now on every call needs a token"));
    ck_assert_ptr_nonnull(strstr(output, "headwater-api token create NAME --role"));
    HW_AUTO_FREE char *token = token_in(output);
    free(output);
    output = hw_strdup(token);
    test_expect(db.conn, "30 postgres",
                "SELECT extract(day FROM expires_at - created_at) || ' ' || created_by "
                "FROM headwater.token WHERE hash = sha256('%s')",
                output);
    test_api_start(&api, api_url, NULL);
    ck_assert_int_eq(call(output, "GET", "/v1/nodes", NULL), 200);
    HW_AUTO_FREE char *boss = output;
    ck_assert_int_eq(run(&output, viewer), 0);
    ck_assert_ptr_null(strstr(output, "from now on"));
    free(output);
    /* The token alone is on standard output. */
    HW_AUTO_FREE char *command =
        hw_sprintf("${HW_BUILD_DIR:-build}/headwater-api token create alone --role viewer "
                   "--database %s 2>/dev/null",
                   api_url);
    ck_assert_int_eq(run(&output, (const char *[]){"/bin/sh", "-c", command, NULL}), 0);
    ck_assert_uint_eq(strlen(output), TOKEN_LEN + 1);
    free(output);
    ck_assert_int_eq(run(&output, viewer), 1);
    ck_assert_ptr_nonnull(strstr(output, "token_name_is_unique"));
    free(output);
    ck_assert_int_eq(run(&output, (const char *[]){"headwater-api", "token", "list", "--database",
                                                   api_url, NULL}),
                     0);
    ck_assert_ptr_nonnull(strstr(output, "boss"));
    ck_assert_ptr_nonnull(strstr(output, "eyes"));
    ck_assert_ptr_null(strstr(output, boss + TOKEN_LEN - 43));
    free(output);
    ck_assert_int_eq(run(&output, (const char *[]){"headwater-api", "token", "revoke", "--database",
                                                   api_url, "boss", NULL}),
                     0);
    ck_assert_str_eq(output, "token boss is revoked\n");
    free(output);
    test_wait_for(call(boss, "GET", "/v1/nodes", NULL) == 401, 30);
    ck_assert_int_eq(run(&output, (const char *[]){"headwater-api", "token", "revoke", "--database",
                                                   api_url, "--name", "nobody", NULL}),
                     1);
    ck_assert_ptr_nonnull(strstr(output, "there is no token"));
    free(output);
    close_api();
}
END_TEST

/* ---- SQL ---- */

START_TEST(test_rights)
{
    static const char *const users[] = {"headwater_api", "headwater_reconciler", "dba", "viewer"};
    /* r: may read hashes, i: may read token_info, c: may create and revoke. */
    static const char *const rights[] = {"ric", "", "ric", "i"};

    open_database();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    test_run(db.conn, "CREATE ROLE dba LOGIN IN ROLE headwater_dba");
    test_run(db.conn, "CREATE ROLE viewer LOGIN IN ROLE headwater_viewer");
    for (size_t i = 0; i < HW_COUNT(users); i++) {
        PGconn *conn = test_database_connect(&db, users[i]);
        const struct {
            char right;
            const char *sql, *rest; /* with the user between them */
        } tries[] = {
            {'r', "SELECT hash FROM headwater.token --", ""},
            {'i', "SELECT name, role, state FROM headwater.token_info --", ""},
            {'c', "SELECT headwater.create_token('of_", "', 'viewer')"},
            {'c', "SELECT headwater.revoke_token('of_", "')"},
            {'-', "UPDATE headwater.token SET role = 'admin' --", ""},
            {'-', "DELETE FROM headwater.token --", ""},
            {'-', "TRUNCATE headwater.token --", ""},
            {'-',
             "INSERT INTO headwater.token (id, name, role, hash, created_by) "
             "VALUES ('0000000000000000', 'x', 'admin', sha256(''), 'x') --",
             ""},
            {'-', "SELECT headwater.random_bytes() --", ""},
        };

        for (size_t k = 0; k < HW_COUNT(tries); k++) {
            HW_AUTO_FREE char *sql = hw_sprintf("%s%s%s", tries[k].sql, users[i], tries[k].rest);

            if (strchr(rights[i], tries[k].right) != NULL)
                test_run(conn, "%s", sql);
            else
                test_refuse(conn, "42501", "", "denied", "%s", sql);
        }
        PQfinish(conn);
    }
    test_refuse(db.conn, "55000", "token_is_kept", "one by one", "TRUNCATE headwater.token");
    test_refuse(db.conn, "P0002", "", "no token", "SELECT headwater.revoke_token('nobody')");
    test_refuse(db.conn, "23514", "token_valid_is_positive", "expired",
                "SELECT headwater.create_token('x', 'viewer', '-1 day')");
    test_refuse(db.conn, "23502", "", "null", "SELECT headwater.create_token('x', NULL)");
    test_refuse(db.conn, "23502", "", "null", "SELECT headwater.create_token(NULL, 'viewer')");
    /* A thousand are all different, and look as they should. */
    test_expect(db.conn, "1000 1000 1000",
                "SELECT count(DISTINCT token) || ' ' || count(DISTINCT substr(token, 5, 16)) || "
                "' ' || count(*) FILTER (WHERE token ~ '^hwt_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$') "
                "FROM (SELECT headwater.create_token('t' || i, 'viewer') AS token "
                "FROM generate_series(1, 1000) AS i) AS t");
    PQfinish(db.conn);
    db.conn = NULL;
    test_database_drop(&pg, &db);
    free(test_sql(&pg, "DROP ROLE dba, viewer"));
}
END_TEST

/* ---- TLS ---- */

static char *tls_dir;

/* Two authorities, each with a certificate for the service and one for a client. */
static void make_certificates(void)
{
    static const char script[] =
        "set -e; cd \"$0\"; for ca in one two; do "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key "
        "-out $ca.pem -subj /CN=$ca -days 2; "
        "for name in server alice; do "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name-$ca.key "
        "-out csr -subj /CN=$name; "
        "printf 'subjectAltName=IP:127.0.0.1,DNS:api.example.org\\n' > ext; "
        "openssl x509 -req -in csr -CA $ca.pem -CAkey $ca.key -CAcreateserial -extfile ext "
        "-out $name-$ca.pem -days 2; done; done";
    char *output;

    tls_dir = test_temp_dir();
    const int status = run(&output, (const char *[]){"/bin/sh", "-c", script, tls_dir, NULL});
    ck_assert_msg(status == 0, "%s", output);
    free(output);
}

static char *tls_file(const char *name)
{
    return hw_sprintf("%s/%s", tls_dir, name);
}

static void copy_certificate(const char *from, const char *to)
{
    char *output;
    const char script[] = "cd \"$0\" && cp \"$1.pem\" \"$2.pem\" && cp \"$1.key\" \"$2.key\"";

    ck_assert_int_eq(
        run(&output, (const char *[]){"/bin/sh", "-c", script, tls_dir, from, to, NULL}), 0);
    free(output);
}

static const char *curl_from = "127.0.0.1"; /* address */

/* The status of GET or PUT, by curl; minus curl's exit status when it got none. */
static int curl(const char *ca, const char *client, const char *token, const char *path,
                const char *body)
{
    HW_AUTO_FREE char *authority = hw_sprintf("%s/%s.pem", tls_dir, ca);
    HW_AUTO_FREE char *cert = client != NULL ? hw_sprintf("%s/%s.pem", tls_dir, client) : NULL;
    HW_AUTO_FREE char *key = client != NULL ? hw_sprintf("%s/%s.key", tls_dir, client) : NULL;
    HW_AUTO_FREE char *authorization =
        token != NULL ? hw_sprintf("Authorization: Bearer %s", token) : NULL;
    HW_AUTO_FREE char *url = hw_sprintf("https://127.0.0.1:%d%s", api.port, path);
    const char *argv[32] = {"/usr/bin/env", "curl",    "-s",           "-o",
                            "/dev/null",    "-w",      "%{http_code}", url,
                            "--cacert",     authority, "--interface",  curl_from};
    int count = 12;
    char *output;

    if (cert != NULL) {
        argv[count++] = "--cert";
        argv[count++] = cert;
        argv[count++] = "--key";
        argv[count++] = key;
    }
    if (authorization != NULL) {
        argv[count++] = "-H";
        argv[count++] = authorization;
    }
    if (body != NULL) {
        argv[count++] = "-X";
        argv[count++] = "PUT";
        argv[count++] = "-H";
        argv[count++] = "Content-Type: application/json";
        argv[count++] = "-d";
        argv[count++] = body;
    }
    const int exit_status = run(&output, argv);
    const int status = exit_status == 0 ? (int)strtol(output, NULL, 10) : -exit_status;

    free(output);
    return status;
}

START_TEST(test_tls)
{
    make_certificates();
    HW_AUTO_FREE char *cert = tls_file("now.pem");
    HW_AUTO_FREE char *key = tls_file("now.key");

    copy_certificate("server-one", "now");
    open_database();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    start_at("127.0.0.1", api_url, (const char *[]){"--tls-cert", cert, "--tls-key", key, NULL});
    test_wait_for(curl("one", NULL, NULL, "/readyz", NULL) == 200, 30);
    ck_assert_int_eq(curl("one", NULL, boss, "/v1/nodes", NULL), 200);
    ck_assert_int_eq(curl("one", NULL, NULL, "/v1/nodes", NULL), 401);
    ck_assert_int_eq(curl("one", NULL, boss, "/v1/nodes/n", "{}"), 201);
    ck_assert_int_lt(curl("two", NULL, boss, "/v1/nodes", NULL), 0);

    /* A body of many records, there and back. */
    const size_t big = (size_t)1 << 20;
    HW_AUTO_FREE char *path = tls_file("big.json");
    FILE *file = fopen(path, "we");
    fputc('"', file);
    for (size_t i = 0; i < big; i++)
        fputc('a' + (int)(i % 26), file);
    fputc('"', file);
    fclose(file);
    HW_AUTO_FREE char *data = hw_sprintf("@%s", path);
    ck_assert_int_eq(curl("one", NULL, boss, "/v1/configs/big", data), 201);
    test_expect(db.conn, "1048578", "SELECT size FROM headwater.config_revision");
    ck_assert_int_eq(curl("one", NULL, boss, "/v1/configs/big/content", NULL), 200);

    /* Who does not speak TLS hears nothing. */
    const int fd = test_http_connect(api.port);
    test_http_puts(fd, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    char byte = 0;
    ck_assert(recv(fd, &byte, 1, MSG_WAITALL) <= 0 || byte != 'H');
    close(fd);

    /* What the HTTP library refuses by itself is a problem here, too. */
    static const char *const unread[] = {"Content-Length: two", "no field", "Transfer-Encoding: x"};
    for (size_t i = 0; i < HW_COUNT(unread); i++) {
        HW_AUTO_FREE char *script =
            hw_sprintf("printf 'GET /healthz HTTP/1.1\\r\\nHost: a\\r\\n%s\\r\\n\\r\\n' | "
                       "openssl s_client -quiet -connect 127.0.0.1:%d 2>/dev/null",
                       unread[i], api.port);
        char *answer;

        run(&answer, (const char *[]){"/bin/sh", "-c", script, NULL});
        ck_assert_msg(strncmp(answer, "HTTP/1.1 ", 9) == 0 &&
                          strstr(answer, "Content-Type: application/problem+json") != NULL &&
                          strstr(answer, "urn:headwater:problem:") != NULL,
                      "%s: %s", unread[i], answer);
        free(answer);
    }

    /* A new certificate is taken at SIGHUP; of a broken one it says so, and goes on. */
    copy_certificate("server-two", "now");
    kill(api.program.pid, SIGHUP);
    test_wait_for(curl("two", NULL, boss, "/v1/nodes", NULL) == 200, 30);
    ck_assert_int_lt(curl("one", NULL, boss, "/v1/nodes", NULL), 0);
    file = fopen(cert, "we");
    fputs("nonsense", file);
    fclose(file);
    kill(api.program.pid, SIGHUP);
    test_wait_for(({
                      HW_AUTO_FREE char *log = test_read_file(api.program.log);

                      strstr(log, "those before stay in use") != NULL;
                  }),
                  30);
    ck_assert_int_eq(curl("two", NULL, boss, "/v1/nodes", NULL), 200);
    ck_assert_int_eq(test_program_stop(&api.program, SIGTERM), 0);
    check_absent(api.program.log, boss + TOKEN_LEN - 43);
    test_database_drop(&pg, &db);
    free(tls_dir);
}
END_TEST

START_TEST(test_client_certificates)
{
    make_certificates();
    HW_AUTO_FREE char *cert = tls_file("server-one.pem");
    HW_AUTO_FREE char *key = tls_file("server-one.key");
    HW_AUTO_FREE char *authority = tls_file("one.pem");

    open_database();
    HW_AUTO_FREE char *boss = create_token("boss", "admin");
    /* The certificate lets one in, the token says who one is. */
    start_at(
        "0.0.0.0", api_url,
        (const char *[]){"--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority, NULL});
    test_wait_for(curl("one", "alice-one", NULL, "/readyz", NULL) == 200, 30);
    ck_assert_int_lt(curl("one", NULL, boss, "/healthz", NULL), 0);
    ck_assert_int_lt(curl("one", "alice-two", boss, "/healthz", NULL), 0);
    ck_assert_int_eq(curl("one", "alice-one", NULL, "/v1/nodes", NULL), 401);
    ck_assert_int_eq(curl("one", "alice-one", boss, "/v1/nodes", NULL), 200);
    test_api_stop(&api);

    /* Or it says that as well; then no token is needed, and one still counts. */
    test_run(db.conn, "DELETE FROM headwater.token");
    start_at("0.0.0.0", api_url,
             (const char *[]){"--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority,
                              "--tls-client-role", "operator", NULL});
    test_wait_for(curl("one", "alice-one", NULL, "/readyz", NULL) == 200, 30);
    ck_assert_int_lt(curl("one", NULL, NULL, "/v1/nodes", NULL), 0);
    ck_assert_int_eq(curl("one", "alice-one", NULL, "/v1/nodes/a", "{}"), 201);
    ck_assert_int_eq(curl("one", "alice-one", NULL, "/v1/tokens", NULL), 403);
    HW_AUTO_FREE char *king = create_token("king", "admin");
    curl_from = "127.0.0.9"; /* who asks until it is known is soon told 429 */
    test_wait_for(curl("one", "alice-one", king, "/v1/tokens", NULL) == 200, 30);
    curl_from = "127.0.0.1";
    ck_assert_int_eq(curl("one", "alice-one", king, "/v1/nodes/b", "{}"), 201);
    ck_assert_int_eq(curl("one", "alice-one", NULL, "/v1/nodes/c", "{}"), 201);
    ck_assert_int_eq(curl("one", "alice-one", boss, "/v1/nodes/d", "{}"), 401);
    test_expect(db.conn, "cert:alice,token:king,cert:alice",
                "SELECT string_agg(author, ',' ORDER BY rev) FROM headwater.changelog");
    close_api();
    free(tls_dir);
}
END_TEST

START_TEST(test_tls_refused)
{
    char *output;

    make_certificates();
    HW_AUTO_FREE char *cert = tls_file("server-one.pem");
    HW_AUTO_FREE char *key = tls_file("server-one.key");
    HW_AUTO_FREE char *other = tls_file("server-two.key");
    HW_AUTO_FREE char *missing = tls_file("missing.pem");
    const struct {
        const char *options[6];
        int status;
        const char *says;
    } bad[] = {
        {{"--tls-cert", cert}, 2, "belong together"},
        {{"--tls-key", key}, 2, "belong together"},
        {{"--tls-client-ca", cert}, 2, "--tls-client-ca needs"},
        {{"--tls-client-role", "viewer", "--tls-cert", cert, "--tls-key", key},
         2,
         "--tls-client-role needs"},
        {{"--tls-cert", cert, "--tls-key", other}, 1, other},
        {{"--tls-cert", missing, "--tls-key", key}, 1, missing},
        {{"--tls-cert", cert, "--tls-key", cert}, 1, "--tls-key"},
    };

    open_database();
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        const char *argv[16] = {"headwater-api", "--database", api_url, "--listen", "127.0.0.1:0"};

        for (int k = 0; k < 6 && bad[i].options[k] != NULL; k++)
            argv[5 + k] = bad[i].options[k];
        const int status = run(&output, argv);

        ck_assert_msg(status == bad[i].status && strstr(output, bad[i].says) != NULL, "%zu: %d %s",
                      i, status, output);
        free(output);
    }
    test_database_drop(&pg, &db);
    free(tls_dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api auth");
    TCase *all = tcase_create("auth");

    tcase_add_unchecked_fixture(all, start, stop);
    tcase_set_timeout(all, 240);
    tcase_add_test(all, test_first_token);
    tcase_add_test(all, test_tokens_refused);
    tcase_add_test(all, test_routes_by_role);
    tcase_add_test(all, test_author);
    tcase_add_test(all, test_refused);
    tcase_add_test(all, test_refused_before_body);
    tcase_add_test(all, test_rate_limit);
    tcase_add_test(all, test_database_down);
    tcase_add_test(all, test_started_without_database);
    tcase_add_test(all, test_hidden_tokens);
    tcase_add_test(all, test_tokens_gone);
    tcase_add_test(all, test_token_expires);
    tcase_add_test(all, test_hidden_rows);
    tcase_add_test(all, test_beyond_loopback);
    tcase_add_test(all, test_command);
    tcase_add_test(all, test_rights);
    tcase_add_test(all, test_tls);
    tcase_add_test(all, test_client_certificates);
    tcase_add_test(all, test_tls_refused);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
