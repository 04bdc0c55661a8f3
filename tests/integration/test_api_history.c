/* How things stood at a time or a position, and where a document comes from. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/database.h"
#include "tests/support/service.h"
#include "tests/support/suite.h"

static void sql(const char *text)
{
    free(test_sql(&pg, "%s", text));
}

static int get(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int get(const char *fmt, ...)
{
    char target[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(target, sizeof(target), fmt, args);
    va_end(args);
    test_answer_free(&last);
    last = test_http(api.port, "GET", target, NULL, NULL, 0);
    return last.status;
}

/* The answer has these members, with these values. */
static void check_has(const char *expected)
{
    json_t *have, *want = json_loads(expected, 0, NULL), *value;
    const char *name;

    ck_assert_msg(last.status == 200, "%s%s", last.head, last.body);
    ck_assert_ptr_nonnull(want);
    have = test_answer_json(&last);
    json_object_foreach(want, name, value)
        ck_assert_msg(json_equal(json_object_get(have, name), value), "%s: expected %s, got:\n%s",
                      name, expected, last.body);
    json_decref(have);
    json_decref(want);
}

static void report(int kv_revision, const char *state, const char *part, int revision)
{
    free(test_sql(&pg,
                  "SELECT count(*) FROM headwater.report(jsonb_build_array(jsonb_build_object("
                  "'kv_created', '2026-01-01', 'kv_revision', %d, 'value', jsonb_build_object("
                  "'node', 'n1', 'state', '%s', '%s', jsonb_build_object('revision', %d, "
                  "'digest', headwater.digest_of('x'), 'epoch', 1, 'stage', 'apply', "
                  "'error', 'no')))))",
                  kv_revision, state, part, revision));
}

/* A time and a position that lie between two changes. */
static void mark(char **time, char **lsn)
{
    *time = test_sql(&pg, "SELECT replace(to_char(clock_timestamp() AT TIME ZONE 'UTC', "
                          "'YYYY-MM-DD HH24:MI:SS.US') || 'Z', ' ', 'T')");
    *lsn = test_sql(&pg, "SELECT pg_current_wal_insert_lsn()");
    sql("SELECT pg_logical_emit_message(true, 'test', 'so that positions differ')");
}

START_TEST(test_as_of)
{
    char *times[4], *lsns[4];

    sql("INSERT INTO headwater.node (name) VALUES ('n1')");
    mark(&times[0], &lsns[0]);
    sql("INSERT INTO headwater.config (name, content) VALUES ('c', '{\"v\": 1}')");
    sql("INSERT INTO headwater.assignment (name, config, node) VALUES ('a', 'c', 'n1')");
    report(1, "applied", "running", 1);
    mark(&times[1], &lsns[1]);
    sql("UPDATE headwater.config SET content = '{\"v\": 2}'");
    report(2, "failed", "failed", 2);
    mark(&times[2], &lsns[2]);
    sql("DELETE FROM headwater.node");
    mark(&times[3], &lsns[3]);

    for (int i = 0; i < 8; i++) {
        const char *at = i % 2 == 0 ? times[i / 2] : lsns[i / 2];

        switch (i / 2) {
        case 0: /* before there was anything, and after it went */
        case 3:
            get("/v1/nodes/n1/desired?at=%s", at);
            check_problem(404, "no-such-resource");
            get("/v1/nodes/n1/desired/content?at=%s", at);
            check_problem(404, "no-such-resource");
            get("/v1/nodes/n1/reported?at=%s", at);
            check_problem(404, "no-such-resource");
            break;
        case 1:
            get("/v1/nodes/n1/desired?at=%s", at);
            check_has("{\"node\":\"n1\",\"revision\":1,\"size\":8}");
            get("/v1/nodes/n1/desired/content?at=%s", at);
            check_has("{\"v\":1}");
            get("/v1/nodes/n1/reported?at=%s", at);
            check_has("{\"node\":\"n1\",\"state\":\"applied\",\"failed\":null}");
            break;
        default:
            get("/v1/nodes/n1/desired?at=%s", at);
            check_has("{\"node\":\"n1\",\"revision\":2}");
            get("/v1/nodes/n1/desired/content?at=%s", at);
            check_has("{\"v\":2}");
            get("/v1/nodes/n1/reported?at=%s", at);
            check_has("{\"node\":\"n1\",\"state\":\"failed\",\"running\":null}");
        }
    }
    get("/v1/nodes/n1/desired?at=2999-01-01T00:00:00Z");
    check_problem(422, "position-ahead");
    get("/v1/nodes/n1/reported?at=FFFFFFF/0");
    check_problem(422, "position-ahead");
    get("/v1/nodes/n1/desired?at=1999-12-31t23:59:59.5+01:00"); /* the plus as a space */
    check_problem(404, "no-such-resource");
    static const char *const bad[] = {"",
                                      "now",
                                      "yesterday",
                                      "2026-01-01",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01T00:00:00.Z",
                                      "2026-01-01T00:00:00%2B1:00",
                                      "0/",
                                      "1",
                                      "0/1';--"};
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        get("/v1/nodes/n1/desired?at=%s", bad[i]);
        check_problem(400, "invalid-parameter");
    }
    get("/v1/nodes/n1/desired?at=2026-02-31T00:00:00Z");
    check_problem(422, "refused");
    for (int i = 0; i < 4; i++) {
        free(times[i]);
        free(lsns[i]);
    }
}
END_TEST

/* "path=assignment" of each key, "-" before those that were removed. */
static char *keys(void)
{
    json_t *answer = test_answer_json(&last), *key;
    char *text = hw_strdup("");
    size_t i;

    ck_assert_msg(last.status == 200, "%s", last.body);
    json_array_foreach(json_object_get(answer, "keys"), i, key) {
        char *longer =
            hw_sprintf("%s%s%s=%s ", text, json_is_true(json_object_get(key, "deleted")) ? "-" : "",
                       json_string_value(json_object_get(key, "path")),
                       json_string_value(json_object_get(key, "assignment")));

        free(text);
        text = longer;
    }
    json_decref(answer);
    return text;
}

static void check_keys(const char *expected)
{
    HW_AUTO_FREE char *have = keys();

    ck_assert_str_eq(have, expected);
}

START_TEST(test_explain)
{
    sql("INSERT INTO headwater.node (name, labels) VALUES ('n2', '{\"site\": \"north\"}'), "
        "('n3', '{}')");
    sql("INSERT INTO headwater.config (name, content) VALUES "
        "('base', '{\"rate\": 1, \"gone\": 2, \"kept\": null, \"log\": {\"level\": 1, \"to\": "
        "[1]}, "
        "\"tree\": {\"a\": 1, \"b\": {\"c\": 2}}, \"x/y~z\": 1}'), "
        "('over', '{\"rate\": 2, \"gone\": null, \"never\": null, \"log\": {\"level\": 2}, "
        "\"tree\": 7}'), "
        "('last', '{\"tree\": {\"d\": 1, \"e\": null}, \"log\": {\"to\": null}, \"empty\": {}}')");
    sql("INSERT INTO headwater.assignment (name, config, selector, priority) VALUES "
        "('a1', 'base', '{}', 0), ('a2', 'over', '{\"site\": \"north\"}', 5)");
    sql("INSERT INTO headwater.assignment (name, config, node, priority) VALUES "
        "('a3', 'last', 'n2', 5)");
    get("/v1/nodes/n2/explain");
    check_has("{\"node\":\"n2\",\"sources\":["
              "{\"assignment\":\"a1\",\"config\":\"base\",\"revision\":1,\"priority\":0,"
              "\"tie\":false},"
              "{\"assignment\":\"a2\",\"config\":\"over\",\"revision\":1,\"priority\":5,"
              "\"tie\":true},"
              "{\"assignment\":\"a3\",\"config\":\"last\",\"revision\":1,\"priority\":5,"
              "\"tie\":true}]}");
    check_keys("/empty=a3 -/gone=a2 /kept=a1 /log=a3 /log/level=a2 -/log/to=a3 /rate=a2 /tree=a3 "
               "/tree/d=a3 /x~1y~0z=a1 ");
    get("/v1/nodes/n2/explain?path=/log");
    check_keys("/log=a3 /log/level=a2 -/log/to=a3 ");
    get("/v1/nodes/n2/explain?path=/rate");
    check_keys("/rate=a2 ");
    get("/v1/nodes/n2/explain?path=/lo");
    check_keys("");
    get("/v1/nodes/n3/explain");
    check_keys("/gone=a1 /kept=a1 /log=a1 /log/level=a1 /log/to=a1 /rate=a1 /tree=a1 /tree/a=a1 "
               "/tree/b=a1 /tree/b/c=a1 /x~1y~0z=a1 ");

    /* What is said to be there is what there is. */
    HW_AUTO_FREE char *wrong = test_sql(
        &pg, "WITH RECURSIVE m AS (SELECT ''::text AS path, b.content::jsonb AS value "
             "FROM headwater.desired AS d JOIN headwater.blob AS b USING (digest) "
             "WHERE d.node = 'n2' UNION ALL SELECT path || '/' || replace(replace(key, '~', '~0'), "
             "'/', '~1'), e.value FROM m CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(m.value) "
             "WHEN 'object' THEN m.value ELSE '{}' END) AS e) "
             "SELECT string_agg(path, ' ') FROM (SELECT path FROM m WHERE path <> '') AS m FULL "
             "JOIN (SELECT path FROM headwater.explain('n2') WHERE NOT deleted) AS e USING (path) "
             "WHERE (m.path IS NULL) <> (e.path IS NULL)");
    ck_assert_msg(wrong == NULL || *wrong == '\0', "%s", wrong);

    sql("INSERT INTO headwater.config (name, content, media_type) VALUES ('text', 'hi', "
        "'text/plain')");
    sql("INSERT INTO headwater.assignment (name, config, node, priority) VALUES "
        "('a4', 'text', 'n2', 9)");
    get("/v1/nodes/n2/explain");
    check_keys("=a4 ");
    sql("DELETE FROM headwater.assignment");
    get("/v1/nodes/n2/explain");
    check_has("{\"node\":\"n2\",\"desired\":null,\"sources\":[],\"keys\":[]}");
    get("/v1/nodes/nobody/explain");
    check_problem(404, "no-such-resource");
    get("/v1/nodes/n2/explain?path=log");
    check_problem(400, "invalid-parameter");
}
END_TEST

START_TEST(test_fields)
{
    static const struct {
        const char *target, *item; /* the first one */
    } cases[] = {
        {"/v1/nodes?fields=name", "{\"name\":\"n4\"}"},
        {"/v1/nodes?fields=labels,name&limit=1", "{\"labels\":{},\"name\":\"n4\"}"},
        {"/v1/configs?fields=name,size", "{\"name\":\"f\",\"size\":2}"},
        {"/v1/configs/f/revisions?fields=revision", "{\"revision\":1}"},
        {"/v1/assignments?fields=node,selector", "{\"node\":\"n4\"}"},
        {"/v1/fleet?fields=node,state", "{\"node\":\"n4\",\"state\":\"unknown\"}"},
        {"/v1/audit?kind=config&name=f&fields=action", "{\"action\":\"create\"}"},
    };
    static const char *const bad[] = {"/v1/nodes?fields=",
                                      "/v1/nodes?fields=name,",
                                      "/v1/nodes?fields=nam",
                                      "/v1/configs?fields=content",
                                      "/v1/fleet?fields=node,,state",
                                      "/v1/tokens?fields=hash",
                                      "/v1/configs/f/revisions?fields=x"};

    sql("DELETE FROM headwater.assignment");
    sql("DELETE FROM headwater.node");
    sql("DELETE FROM headwater.config");
    sql("INSERT INTO headwater.node (name) VALUES ('n4'), ('n5')");
    sql("INSERT INTO headwater.config (name, content) VALUES ('f', '{}')");
    sql("INSERT INTO headwater.assignment (name, config, node) VALUES ('f', 'f', 'n4')");
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        json_t *want = json_loads(cases[i].item, 0, NULL);

        ck_assert_msg(get("%s", cases[i].target) == 200, "%s", last.body);
        json_t *page = test_answer_json(&last);

        ck_assert_msg(json_equal(json_array_get(json_object_get(page, "items"), 0), want), "%s: %s",
                      cases[i].target, last.body);
        json_decref(page);
        json_decref(want);
    }
    get("/v1/nodes?fields=labels&limit=1");
    check_has("{\"items\":[{\"labels\":{}}],\"next\":\"n4\"}");
    for (size_t i = 0; i < HW_COUNT(bad); i++) {
        get("%s", bad[i]);
        check_problem(400, "invalid-parameter");
    }
    get("/v1/nodes?fields=x");
    ck_assert_ptr_nonnull(strstr(last.body, "name,labels,description,version"));
}
END_TEST

/* With psql the same, and the same refusals. */
START_TEST(test_psql)
{
    PGconn *conn = PQconnectdb(pg.url);

    report(3, "applied", "running", 1);
    test_run(conn, "SET ROLE headwater_viewer");
    test_expect(conn, "applied", "SELECT state FROM headwater.reported_at('n1', now())");
    test_expect(conn, "(none)", "SELECT state FROM headwater.reported_at('n1', '0/1'::pg_lsn)");
    test_expect(conn, "(none)", "SELECT * FROM headwater.desired_at('n1', now())");
    test_expect(conn, "(none)", "SELECT * FROM headwater.explain('nobody')");
    test_refuse(conn, "22023", "position_is_past", "not known yet",
                "SELECT * FROM headwater.desired_at('n1', now() + interval '1 day')");
    test_refuse(conn, "42501", "", "",
                "INSERT INTO headwater.reported_history (node) VALUES ('x')");
    test_run(conn, "RESET ROLE");
    test_refuse(conn, "55000", "reported_history_is_kept", "",
                "DELETE FROM headwater.reported_history");
    test_refuse(conn, "55000", "reported_head_is_kept", "", "TRUNCATE headwater.reported_head");
    test_run(conn, "TRUNCATE headwater.reported");
    test_expect(conn, "(none)", "SELECT state FROM headwater.reported_at('n1', now())");
    PQfinish(conn);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api history");
    TCase *all = tcase_create("history");

    tcase_add_unchecked_fixture(all, start_service, stop_service);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, test_as_of);
    tcase_add_test(all, test_explain);
    tcase_add_test(all, test_fields);
    tcase_add_test(all, test_psql);
    suite_add_tcase(suite, all);
    return test_suite_finish(suite);
}
