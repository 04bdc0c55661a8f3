/*
 * Every operation of the API's description, asked with values that are drawn from its own schemas,
 * and with hostile ones: each answer is one that is described. The built-in validator judges it at
 * once; where Node.js and npm are there, one of theirs judges all of them again. HW_SEED, which is
 * printed, gives the same requests again; ROUNDS, how often each operation is asked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/recovery/chance.h"
#include "tests/support/api_program.h"
#include "tests/support/draw.h"
#include "tests/support/node.h"
#include "tests/support/openapi.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum { ROUNDS = 30, FAULTS_MAX = 20 };

static struct test_postgres pg;
static struct test_database db;
static struct test_api api;
static struct chance chance;
static char *admin, *viewer;

static struct {
    unsigned long statuses[600];
    struct hw_buf faults, answers;
    int fault_count;
} seen;

/* ---- requests ---- */

struct request {
    struct hw_buf target, head, body;
    bool has_body;
};

static void add_encoded(struct hw_buf *out, const char *text)
{
    for (; *text != '\0'; text++)
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~", *text))
            hw_buf_putc(out, *text);
        else
            hw_buf_printf(out, "%%%02X", (unsigned char)*text);
}

/* A parameter's value as text. Nobody is to wait long for an answer. */
static char *parameter_text(const char *name, json_t *schema)
{
    static const char *const times[] = {"0", "1ms", "10ms"};

    if (strcmp(name, "timeout") == 0)
        return hw_strdup(times[chance_below(&chance, HW_COUNT(times))]);
    if (chance_in(&chance, 6))
        return hw_strdup(draw_hostile_text(&chance));
    if (strcmp(name, "lsn") == 0 && !chance_in(&chance, 3))
        return test_value(db.conn, "SELECT pg_current_wal_insert_lsn()");
    return draw_text(&chance, schema);
}

/* A field's value: what cannot stand in one is left out. */
static void add_field(struct hw_buf *head, const char *name, const char *text)
{
    hw_buf_printf(head, "%s: ", name);
    for (; *text != '\0'; text++)
        if ((unsigned char)*text >= ' ' && *text != 0x7f)
            hw_buf_putc(head, *text);
    hw_buf_puts(head, "\r\n");
}

static void add_parameters(struct request *r, const char *path, const json_t *operation)
{
    const char *rest = path;
    char before = '?';
    json_t *one;
    size_t i;

    while (*rest != '\0') { /* the path's variables stand in its order */
        const char *open = strchr(rest, '{');
        const size_t len = open != NULL ? (size_t)(open - rest) : strlen(rest);

        hw_buf_add(&r->target, rest, len);
        rest += len;
        if (open == NULL)
            break;
        rest = strchr(rest, '}') + 1;
        json_array_foreach(json_object_get(operation, "parameters"), i, one) {
            const json_t *parameter = test_openapi_resolve(one);

            if (strcmp(test_openapi_text(parameter, "in"), "path") == 0) {
                HW_AUTO_FREE char *text = parameter_text("", json_object_get(parameter, "schema"));

                add_encoded(&r->target, text);
            }
        }
    }
    json_array_foreach(json_object_get(operation, "parameters"), i, one) {
        const json_t *parameter = test_openapi_resolve(one);
        const char *name = test_openapi_text(parameter, "name");
        const char *in = test_openapi_text(parameter, "in");

        if (strcmp(in, "path") == 0 || (strcmp(name, "timeout") != 0 && !chance_in(&chance, 3)))
            continue;
        HW_AUTO_FREE char *text = parameter_text(name, json_object_get(parameter, "schema"));

        if (strcmp(in, "header") == 0) {
            add_field(&r->head, name, text);
            continue;
        }
        hw_buf_printf(&r->target, "%c%s=", before, name);
        add_encoded(&r->target, text);
        before = '&';
    }
    if (chance_in(&chance, 30)) {
        static const char *const odd[] = {"unknown=1", "limit=1&limit=2", "=", "%", "&&", "limit"};

        hw_buf_printf(&r->target, "%c%s", before, odd[chance_below(&chance, HW_COUNT(odd))]);
    }
}

static void add_body(struct request *r, const json_t *operation)
{
    static const char *const types[] = {"text/plain", "application/x-www-form-urlencoded", "a",
                                        "application/json; charset=x", ""};
    static const char *const bodies[] = {"", "{", "null", "[]", "{\"a\":1,\"a\":2}", "\xff"};
    json_t *content = json_object_get(json_object_get(operation, "requestBody"), "content");
    int chosen = content != NULL ? chance_below(&chance, (int)json_object_size(content)) : 0;
    const char *type;
    json_t *one = NULL;

    if (content == NULL)
        return;
    json_object_foreach(content, type, one) {
        if (chosen-- == 0)
            break;
    }
    json_t *value = draw_value(&chance, json_object_get(one, "schema"));

    if (chance_in(&chance, 4))
        value = draw_spoilt(&chance, value);
    HW_AUTO_FREE char *text = draw_dump(value);

    json_decref(value);
    r->has_body = true;
    hw_buf_puts(&r->body,
                chance_in(&chance, 30) ? bodies[chance_below(&chance, HW_COUNT(bodies))] : text);
    if (strcmp(type, "*/*") == 0)
        type = "application/x-any";
    if (chance_in(&chance, 12))
        type = types[chance_below(&chance, HW_COUNT(types))];
    if (*type != '\0')
        add_field(&r->head, "Content-Type", type);
}

/* ---- answers ---- */

static void note_fault(const char *fault, const char *method, const struct request *r,
                       const struct test_answer *answer)
{
    if (++seen.fault_count <= FAULTS_MAX)
        hw_buf_printf(&seen.faults, "%s:\n%s %.300s\n%.300s%.500s\n%.400s%.500s\n\n", fault, method,
                      hw_buf_str(&r->target), hw_buf_str(&r->head), hw_buf_str(&r->body),
                      answer->head, answer->body);
}

/* For the other validator: {"path","method","status","type","body"} on a line. */
static void keep_answer(const char *path, const char *method, const struct test_answer *answer)
{
    HW_AUTO_FREE char *type = test_answer_header(answer, "Content-Type");

    if (type == NULL || strstr(type, "json") == NULL || answer->len == 0)
        return;
    json_t *kept = json_pack("{s:s,s:s,s:i,s:s,s:s}", "path", path, "method", method, "status",
                             answer->status, "type", type, "body", answer->body);
    HW_AUTO_FREE char *line = json_dumps(kept, JSON_COMPACT);

    hw_buf_printf(&seen.answers, "%s\n", line);
    json_decref(kept);
}

/* A stream does not end: its head is asked for. */
static bool is_stream(const json_t *operation)
{
    json_t *ok = json_object_get(json_object_get(operation, "responses"), "200");

    return json_object_get(json_object_get(test_openapi_resolve(ok), "content"),
                           "text/event-stream") != NULL;
}

static void ask(const char *path, const char *method, json_t *operation, void *arg)
{
    struct request r = {0};
    const char *who = chance_in(&chance, 25) ? viewer : admin;

    (void)arg;
    if (strcmp(method, "DELETE") == 0 && !chance_in(&chance, 3))
        return; /* or little would be there */
    if (is_stream(operation))
        method = "HEAD";
    hw_buf_printf(&r.head, "Authorization: Bearer %s\r\n", who);
    if (chance_in(&chance, 40))
        hw_buf_reset(&r.head);
    add_parameters(&r, path, operation);
    add_body(&r, operation);
    struct test_answer answer =
        test_http(api.port, method, hw_buf_str(&r.target), hw_buf_str(&r.head),
                  r.has_body ? hw_buf_str(&r.body) : NULL, r.body.len);

    if (answer.status == 0)
        test_fail("no answer to %s %s", method, hw_buf_str(&r.target));
    HW_AUTO_FREE char *fault = test_openapi_answer_fault(&answer, operation, method);

    if (fault != NULL)
        note_fault(fault, method, &r, &answer);
    keep_answer(path, method, &answer);
    seen.statuses[answer.status]++;
    test_answer_free(&answer);
    hw_buf_free(&r.target);
    hw_buf_free(&r.head);
    hw_buf_free(&r.body);
}

/* ---- the other validator ---- */

static void judge_again(void)
{
    char *node_dir = test_node_dir(
        "ajv@8.20.0 ajv-formats@3.0.1",
        (const char *const[]){"tests/integration/contract.mjs", "api/openapi.json", NULL});
    char *said = NULL;

    if (node_dir == NULL)
        return;
    HW_AUTO_FREE char *script = hw_sprintf("cd '%s' && node contract.mjs", node_dir);
    const int status = test_program_run((const char *const[]){"sh", "-c", script, NULL}, NULL,
                                        hw_buf_str(&seen.answers), &said);

    ck_assert_msg(status == 0, "%s", said);
    printf("%s", said);
    free(said);
    free(node_dir);
}

START_TEST(test_contract)
{
    const char *rounds = getenv("ROUNDS"), *given = getenv("HW_SEED");
    const uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)getpid();

    printf("HW_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    chance = chance_of(seed, 0);
    for (long i = rounds != NULL ? strtol(rounds, NULL, 10) : ROUNDS; i > 0; i--) {
        test_openapi_fill(db.conn, false);
        test_openapi_each(ask, NULL);
    }
    for (size_t i = 0; i < HW_COUNT(seen.statuses); i++)
        if (seen.statuses[i] > 0)
            printf("%zu: %lu\n", i, seen.statuses[i]);
    printf("%s", hw_buf_str(&seen.faults));
    ck_assert_msg(seen.fault_count == 0,
                  "%d answers are not as described; the first ones are above", seen.fault_count);
    /* To refuse everything would be described as well. */
    ck_assert_uint_gt(seen.statuses[200] + seen.statuses[201] + seen.statuses[204], 100);
    ck_assert_uint_gt(seen.statuses[201], 5);
    judge_again();
    hw_buf_free(&seen.answers);
}
END_TEST

static void start(void)
{
    char url[128];

    test_postgres_start(&pg, true, NULL);
    test_database_create(&pg, &db);
    test_openapi_load(db.conn);
    admin = test_value(db.conn, "SELECT headwater.create_token('test-admin', 'admin')");
    viewer = test_value(db.conn, "SELECT headwater.create_token('test-viewer', 'viewer')");
    snprintf(url, sizeof(url), "postgresql://headwater_api@127.0.0.1:%d/%s", pg.port, db.name);
    test_api_start(&api, url, NULL);
}

static void stop(void)
{
    test_api_stop(&api);
    test_openapi_free();
    test_database_drop(&pg, &db);
    test_postgres_remove(&pg);
    free(admin);
    free(viewer);
}

int main(void)
{
    Suite *suite = suite_create("api_contract");
    TCase *tcase = tcase_create("api_contract");

    tcase_set_timeout(tcase, 240);
    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_add_test(tcase, test_contract);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
