/*
 * Many writers at once leave desired exactly what the rules make of node, config and assignment:
 * computed here anew, in C, without a line of the schema's SQL.
 *
 * HEADWATER_TEST_SECONDS sets how long they write (default 20), HEADWATER_TEST_SEED what.
 */
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/memory.h"
#include "tests/support/sql.h"

#define WRITERS     8
#define NODES       60
#define CONFIGS     12
#define ASSIGNMENTS 40

static void setup(void)
{
    start_server();
    create_database();
}

static void teardown(void)
{
    drop_database();
    remove_server();
}

static double env_number(const char *name, double otherwise)
{
    const char *value = getenv(name);
    return value != NULL ? strtod(value, NULL) : otherwise;
}

/* ---- writers ----------------------------------------------------------------------------------*/

struct writer {
    pthread_t thread;
    PGconn *conn;
    unsigned seed;
    double until;
    int committed, rolled_back, refused, serialization, deadlocks;
    char failure[512]; /* what no writer should meet */
};

static int pick(struct writer *w, int n)
{
    return (int)(rand_r(&w->seed) % (unsigned)n);
}

static void random_content(struct writer *w, char *set, size_t size)
{
    static const char *const members[][2] = {
        {"\"rate\": ", ""},
        {"\"daq\": {\"gain\": ", "}"},
        {"\"daq\": {\"gain\": null, \"n\": ", "}"},
        {"\"list\": [", ", null]"},
        {"\"rate\": null, \"x\": ", ""},
        {"\"deep\": {\"er\": {\"k\": ", "}}"},
        {"\"deep\": {\"er\": null, \"o\": ", "}"},
        {"\"daq\": ", ""},
    };
    const char *const *member = members[pick(w, (int)HW_COUNT(members))];
    char document[160];
    switch (pick(w, 12)) {
    case 0:
        snprintf(set, size, "content = 'text %d', encoding = 'utf-8', media_type = 'text/plain'",
                 pick(w, 9));
        return;
    case 1:
        snprintf(set, size,
                 "content = encode('bytes %d'::bytea, 'base64'), encoding = 'base64', "
                 "media_type = 'application/octet-stream'",
                 pick(w, 9));
        return;
    case 2:
        snprintf(set, size,
                 "content = encode('{\"coded\": %d}'::bytea, 'base64'), encoding = 'base64', "
                 "media_type = 'application/json'",
                 pick(w, 9));
        return;
    case 3:
        snprintf(document, sizeof(document), "[ %d ]", pick(w, 9));
        break;
    default:
        snprintf(document, sizeof(document), "{ \"m%d\":%d, %s%d%s }", pick(w, 3), pick(w, 9),
                 member[0], pick(w, 9), member[1]);
    }
    snprintf(set, size, "content = '%s', encoding = 'utf-8', media_type = 'application/%s'",
             document, pick(w, 4) > 0 ? "json" : "x+json");
}

static void random_statement(struct writer *w, char *sql, size_t size)
{
    char set[320];
    const int node = pick(w, NODES), config = pick(w, CONFIGS), assignment = pick(w, ASSIGNMENTS);
    switch (pick(w, 10)) {
    case 0:
    case 1: /* a node moves */
        snprintf(sql, size,
                 "UPDATE headwater.node SET labels = labels || '{\"site\": \"%d\"}' WHERE name = "
                 "'n%d'",
                 pick(w, 4), node);
        break;
    case 2: /* many move */
        snprintf(sql, size,
                 "UPDATE headwater.node SET labels = labels || '{\"rack\": \"%d\"}' WHERE labels "
                 "@> '{\"site\": \"%d\"}'",
                 pick(w, 4), pick(w, 4));
        break;
    case 3:
        snprintf(sql, size,
                 "INSERT INTO headwater.node (name, labels) VALUES ('n%d', '{\"site\": \"%d\"}') "
                 "ON CONFLICT (name) DO UPDATE SET labels = excluded.labels",
                 node, pick(w, 4));
        break;
    case 4:
        snprintf(sql, size, "DELETE FROM headwater.node WHERE name = 'n%d'", node);
        break;
    case 5:
    case 6: /* a config changes */
        random_content(w, set, sizeof(set));
        snprintf(sql, size, "UPDATE headwater.config SET %s WHERE name = 'c%d'", set, config);
        break;
    case 7: /* an assignment comes */
        snprintf(sql, size,
                 "INSERT INTO headwater.assignment (name, config, %s, priority) VALUES ('a%d', "
                 "'c%d', '%s%d%s', %d)",
                 assignment % 2 ? "node" : "selector", assignment, config,
                 assignment % 2 ? "n" : "{\"site\": \"", assignment % 2 ? node : pick(w, 4),
                 assignment % 2 ? "" : "\"}", pick(w, 4));
        break;
    case 8: /* or changes */
        snprintf(sql, size,
                 "UPDATE headwater.assignment SET priority = %d, config = 'c%d', revision = %s "
                 "WHERE name = 'a%d'",
                 pick(w, 4), config,
                 pick(w, 3) > 0 ? "NULL"
                                : "(SELECT min(revision) FROM headwater.config_revision AS r "
                                  "WHERE r.config = assignment.config)",
                 assignment);
        break;
    default: /* or goes */
        snprintf(sql, size, "DELETE FROM headwater.assignment WHERE name = 'a%d'", assignment);
    }
}

/* False when the transaction cannot go on. */
static bool execute(struct writer *w, const char *sql)
{
    PGresult *result = PQexec(w->conn, sql);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const bool ok = PQresultStatus(result) == PGRES_COMMAND_OK;
    if (ok)
        ;
    else if (sqlstate != NULL && strcmp(sqlstate, "40001") == 0)
        w->serialization++;
    else if (sqlstate != NULL && strcmp(sqlstate, "40P01") == 0)
        w->deadlocks++;
    else if (sqlstate != NULL && strncmp(sqlstate, "23", 2) == 0)
        w->refused++; /* a node or revision that is not there, an assignment that is */
    else
        snprintf(w->failure, sizeof(w->failure), "%s: %s", sql, PQresultErrorMessage(result));
    PQclear(result);
    return ok;
}

static void *write_until(void *arg)
{
    static const char *const levels[] = {"READ COMMITTED", "READ COMMITTED", "REPEATABLE READ",
                                         "REPEATABLE READ", "SERIALIZABLE"};
    struct writer *w = arg;
    char sql[640];
    while (test_now() < w->until && w->failure[0] == '\0') {
        snprintf(sql, sizeof(sql), "BEGIN ISOLATION LEVEL %s",
                 levels[pick(w, (int)HW_COUNT(levels))]);
        bool alive = execute(w, sql);
        for (int left = 1 + pick(w, 4); alive && left > 0; left--) {
            const bool is_tried = pick(w, 4) == 0;
            if (is_tried)
                alive = execute(w, "SAVEPOINT s");
            random_statement(w, sql, sizeof(sql));
            alive = alive && execute(w, sql);
            if (is_tried && (!alive || pick(w, 2) == 0))
                alive = execute(w, "ROLLBACK TO s");
        }
        if (alive && pick(w, 8) > 0)
            w->committed += execute(w, "COMMIT");
        else
            w->rolled_back += execute(w, "ROLLBACK");
        if (PQtransactionStatus(w->conn) != PQTRANS_IDLE)
            PQclear(PQexec(w->conn, "ROLLBACK"));
    }
    return NULL;
}

/* ---- what nodes should run, by the rules ------------------------------------------------------*/

/* RFC 7396, section 2. Takes target, borrows patch; returns a new reference. */
static json_t *merge_patch(json_t *target, json_t *patch)
{
    if (!json_is_object(patch)) {
        json_decref(target);
        return json_incref(patch);
    }
    json_t *result = json_is_object(target) ? json_copy(target) : json_object();
    json_decref(target);
    const char *key;
    json_t *value;
    json_object_foreach(patch, key, value) {
        if (json_is_null(value))
            json_object_del(result, key);
        else
            json_object_set_new(result, key,
                                merge_patch(json_incref(json_object_get(result, key)), value));
    }
    return result;
}

static int compare_keys(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    const size_t n = strlen(*x), m = strlen(*y);
    return n != m ? (n > m) - (n < m) : strcmp(*x, *y);
}

/* As jsonb prints: members by the length of their names, then by name; ": " and ", ". */
static void print_jsonb(struct hw_buf *out, json_t *value)
{
    if (json_is_array(value)) {
        hw_buf_add(out, "[", 1);
        for (size_t i = 0; i < json_array_size(value); i++) {
            hw_buf_add(out, ", ", i > 0 ? 2 : 0);
            print_jsonb(out, json_array_get(value, i));
        }
        hw_buf_add(out, "]", 1);
    } else if (json_is_object(value)) {
        const char *keys[32], *key;
        size_t count = 0;
        json_t *member;
        json_object_foreach(value, key, member)
            keys[count++] = key;
        qsort(keys, count, sizeof(keys[0]), compare_keys);
        hw_buf_add(out, "{", 1);
        for (size_t i = 0; i < count; i++) {
            hw_buf_printf(out, "%s\"%s\": ", i > 0 ? ", " : "", keys[i]);
            print_jsonb(out, json_object_get(value, keys[i]));
        }
        hw_buf_add(out, "}", 1);
    } else {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        hw_buf_add(out, text, strlen(text));
        free(text);
    }
}

struct source {
    const char *assignment, *config, *revision, *media_type;
    long priority;
    unsigned char *bytes;
    size_t size;
};

static int compare_sources(const void *a, const void *b)
{
    const struct source *x = a, *y = b;
    return x->priority != y->priority ? (x->priority > y->priority) - (x->priority < y->priority)
                                      : strcmp(x->assignment, y->assignment);
}

static bool is_json(const char *media_type)
{
    const size_t n = strlen(media_type);
    return strcmp(media_type, "application/json") == 0 ||
           (n > 5 && strcmp(media_type + n - 5, "+json") == 0);
}

/* What the sources make, as one line: digest, size, media type, sources. */
static char *fold(const struct source *sources, size_t count)
{
    json_t *document = NULL; /* NULL: not JSON */
    size_t first = 0;
    for (size_t i = 0; i < count; i++) {
        json_t *json =
            is_json(sources[i].media_type)
                ? json_loadb((const char *)sources[i].bytes, sources[i].size, JSON_DECODE_ANY, NULL)
                : NULL;
        if (document == NULL || !json_is_object(json)) {
            first = i;
            json_decref(document);
            document = json;
        } else {
            document = merge_patch(document, json);
            json_decref(json);
        }
    }

    struct hw_buf bytes = {0}, line = {0};
    if (first + 1 == count)
        hw_buf_add(&bytes, sources[first].bytes, sources[first].size);
    else
        print_jsonb(&bytes, document);
    struct hw_digest digest;
    hw_digest_of(bytes.data, bytes.len, &digest);
    char text[HW_DIGEST_STR_MAX];
    hw_buf_printf(&line, "%s %zu %s", hw_digest_format(&digest, text), bytes.len,
                  sources[count - 1].media_type);
    for (size_t i = first; i < count; i++)
        hw_buf_printf(&line, " %s=%s@%s", sources[i].assignment, sources[i].config,
                      sources[i].revision);
    json_decref(document);
    hw_buf_free(&bytes);
    return line.data;
}

static PGresult *query(const char *sql)
{
    PGresult *result = PQexec(db.conn, sql);
    ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(result));
    return result;
}

static bool contains(const char *labels, const char *selector)
{
    json_t *all = json_loads(labels, 0, NULL), *some = json_loads(selector, 0, NULL), *value;
    const char *key;
    bool result = true;
    json_object_foreach(some, key, value)
        result = result && json_equal(json_object_get(all, key), value);
    json_decref(all);
    json_decref(some);
    return result;
}

/* Compares desired with what the rules make of the other tables; returns the number of nodes that
 * have a document. */
static int check_desired(void)
{
    PGresult *nodes = query("SELECT name, labels FROM node ORDER BY name");
    PGresult *assignments = query("SELECT name, node, selector, priority, config, revision FROM "
                                  "assignment");
    PGresult *configs = query("SELECT name, revision FROM config");
    PGresult *revisions = query("SELECT r.config, r.revision, r.media_type, r.encoding, r.content "
                                "FROM config_revision AS r JOIN (SELECT config, revision FROM "
                                "assignment UNION SELECT name, revision FROM config) AS used "
                                "USING (config, revision)");
    PGresult *desired = query(
        "SELECT d.node, concat_ws(' ', d.digest, d.size, d.media_type, (SELECT string_agg(concat("
        "s ->> 'assignment', '=', s ->> 'config', '@', s ->> 'revision'), ' ' ORDER BY i) "
        "FROM jsonb_array_elements(d.sources) WITH ORDINALITY AS e (s, i))) "
        "FROM desired AS d JOIN blob AS b USING (digest, size) ORDER BY d.node");
    int found = 0;
    for (int n = 0; n < PQntuples(nodes); n++) {
        struct source sources[ASSIGNMENTS];
        size_t count = 0;
        for (int a = 0; a < PQntuples(assignments); a++) {
            if (!PQgetisnull(assignments, a, 1)
                    ? strcmp(PQgetvalue(assignments, a, 1), PQgetvalue(nodes, n, 0)) != 0
                    : !contains(PQgetvalue(nodes, n, 1), PQgetvalue(assignments, a, 2)))
                continue;
            struct source *s = &sources[count++];
            *s = (struct source){.assignment = PQgetvalue(assignments, a, 0),
                                 .priority = strtol(PQgetvalue(assignments, a, 3), NULL, 10),
                                 .config = PQgetvalue(assignments, a, 4),
                                 .revision = PQgetvalue(assignments, a, 5)};
            for (int c = 0; PQgetisnull(assignments, a, 5) && c < PQntuples(configs); c++)
                if (strcmp(PQgetvalue(configs, c, 0), s->config) == 0)
                    s->revision = PQgetvalue(configs, c, 1);
            for (int r = 0; r < PQntuples(revisions); r++) {
                if (strcmp(PQgetvalue(revisions, r, 0), s->config) != 0 ||
                    strcmp(PQgetvalue(revisions, r, 1), s->revision) != 0)
                    continue;
                const char *content = PQgetvalue(revisions, r, 4);
                s->media_type = PQgetvalue(revisions, r, 2);
                s->size = strlen(content);
                if (strcmp(PQgetvalue(revisions, r, 3), "base64") == 0)
                    ck_assert_int_eq(hw_base64_decode(content, s->size, &s->bytes, &s->size, NULL),
                                     0);
                else
                    s->bytes = (unsigned char *)hw_strdup(content);
            }
            ck_assert_ptr_nonnull(s->bytes);
        }
        qsort(sources, count, sizeof(sources[0]), compare_sources);
        const bool has_row = found < PQntuples(desired) &&
                             strcmp(PQgetvalue(desired, found, 0), PQgetvalue(nodes, n, 0)) == 0;
        ck_assert_msg(has_row == (count > 0), "%s: %zu sources, %s row", PQgetvalue(nodes, n, 0),
                      count, has_row ? "a" : "no");
        if (count > 0) {
            char *expected = fold(sources, count);
            ck_assert_msg(strcmp(expected, PQgetvalue(desired, found, 1)) == 0,
                          "%s should be %s, is %s", PQgetvalue(nodes, n, 0), expected,
                          PQgetvalue(desired, found, 1));
            free(expected);
            found++;
        }
        for (size_t i = 0; i < count; i++)
            free(sources[i].bytes);
    }
    ck_assert_int_eq(found, PQntuples(desired)); /* no row without a node */
    PQclear(nodes);
    PQclear(assignments);
    PQclear(configs);
    PQclear(revisions);
    PQclear(desired);
    return found;
}

/* What holds of the histories, whatever was written. */
static void check_history(void)
{
    test_expect(
        db.conn, "t",
        "SELECT count(*) = max(rev) AND max(rev) = (SELECT rev FROM changelog_head) AND "
        "count(DISTINCT nonce) = count(*) AND count(DISTINCT xid) = count(*) FROM changelog");
    test_expect(db.conn, "0",
                "SELECT count(*) FROM config AS c LEFT JOIN config_revision AS r ON r.config = "
                "c.name AND r.revision = c.revision AND (r.content, r.encoding, r.media_type) = "
                "(c.content, c.encoding, c.media_type) WHERE r.config IS NULL");
    test_expect(db.conn, "0",
                "SELECT count(*) FROM (SELECT FROM config_revision GROUP BY config "
                "HAVING count(*) <> max(revision)) AS gaps");
    /* A node's revision grows by one where the document changed or came back, else not at all. */
    test_expect(
        db.conn, "0",
        "SELECT count(*) FROM (SELECT revision, digest, media_type, lag(revision) OVER w AS r, "
        "lag(digest) OVER w AS d, lag(media_type) OVER w AS m FROM desired_history "
        "WINDOW w AS (PARTITION BY node ORDER BY id)) AS h WHERE revision <> coalesce(r, 0) + "
        "(digest IS NOT NULL AND (d, m) IS DISTINCT FROM (digest, media_type))::int");
    test_expect(db.conn, "0",
                "SELECT count(*) FROM (SELECT DISTINCT ON (node) * FROM desired_history ORDER BY "
                "node, id DESC) AS h FULL JOIN desired AS d USING (node) WHERE (h.revision, "
                "h.digest, h.sources) IS DISTINCT FROM (d.revision, d.digest, d.sources) AND NOT "
                "(h.digest IS NULL AND d.node IS NULL)");
    test_expect(db.conn, "0",
                "SELECT count(*) FROM desired_history AS h LEFT JOIN changelog AS c USING (rev) "
                "WHERE c.rev IS NULL");
    /* In the order of revs, which is the order of commits, nothing moves back. */
    test_expect(db.conn, "0",
                "SELECT count(*) FROM (SELECT rev, lag(rev) OVER w AS r, wal_lsn, lag(wal_lsn) "
                "OVER w AS l FROM desired_history WINDOW w AS (ORDER BY id)) AS h WHERE rev < r OR "
                "wal_lsn < l");
}

START_TEST(test_concurrent_writers)
{
    const unsigned seed =
        (unsigned)env_number("HEADWATER_TEST_SEED", (double)(time(NULL) % 100000));
    const double seconds = env_number("HEADWATER_TEST_SECONDS", 20);
    printf("HEADWATER_TEST_SEED=%u\n", seed);
    fflush(stdout);

    test_run(db.conn,
             "INSERT INTO node (name, labels) SELECT 'n' || i, jsonb_build_object('site', "
             "(i %% 4)::text) FROM generate_series(0, %d) AS i",
             NODES - 1);
    test_run(db.conn,
             "INSERT INTO config (name, content) SELECT 'c' || i, format('{\"c%%s\": "
             "{\"n\": %%s}}', i, i) FROM generate_series(0, %d) AS i",
             CONFIGS - 1);
    test_run(db.conn, "INSERT INTO assignment (name, config, selector) VALUES ('everyone', 'c0', "
                      "'{}')");

    struct writer writers[WRITERS] = {0};
    for (int i = 0; i < WRITERS; i++) {
        writers[i].seed = seed * WRITERS + (unsigned)i;
        writers[i].conn = test_database_connect(&db, i % 2 ? "headwater_api" : NULL);
        writers[i].until = test_now() + seconds;
        ck_assert_int_eq(pthread_create(&writers[i].thread, NULL, write_until, &writers[i]), 0);
    }
    struct writer sum = {0};
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        PQfinish(writers[i].conn);
        sum.committed += writers[i].committed;
        sum.rolled_back += writers[i].rolled_back;
        sum.refused += writers[i].refused;
        sum.serialization += writers[i].serialization;
        sum.deadlocks += writers[i].deadlocks;
        ck_assert_msg(writers[i].failure[0] == '\0', "%s", writers[i].failure);
    }
    const int nodes = check_desired();
    check_history();
    test_expect(db.conn, "0", "SELECT count(*) FROM desired_drift()");
    test_expect(db.conn, "0", "SELECT recompute()");
    printf("%d committed, %d rolled back, %d refused, %d serialization failures, %d deadlocks; "
           "%d nodes with a document\n",
           sum.committed, sum.rolled_back, sum.refused, sum.serialization, sum.deadlocks, nodes);
    fflush(stdout);
    ck_assert_int_gt(sum.committed, 100);
    ck_assert_int_gt(sum.serialization, 0);
    ck_assert_int_eq(sum.deadlocks, 0); /* every statement takes the one lock first */
    ck_assert_int_gt(nodes, 0);
}
END_TEST

/* Without the lock, the second writer would compute from what the first has not committed yet. */
START_TEST(test_the_second_writer_sees_the_first)
{
    test_run(db.conn, "INSERT INTO node (name, labels) VALUES ('n', '{\"site\": \"a\"}')");
    test_run(db.conn, "INSERT INTO config (name, content) VALUES ('c', '1')");
    test_run(db.conn, "INSERT INTO assignment (name, config, selector) VALUES ('b', 'c', "
                      "'{\"site\": \"b\"}')");
    PGconn *second = test_database_connect(&db, NULL);
    char *waits;

    test_run(db.conn, "BEGIN");
    test_run(db.conn, "UPDATE node SET labels = '{\"site\": \"b\"}'");
    ck_assert_int_eq(PQsendQuery(second, "UPDATE headwater.config SET content = '2'"), 1);
    do {
        waits = test_value(db.conn, "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %d",
                           PQbackendPID(second));
        test_pause();
    } while (strcmp(waits, "0") == 0 && (free(waits), true));
    free(waits);
    test_run(db.conn, "COMMIT");
    for (PGresult *r; (r = PQgetResult(second)) != NULL; PQclear(r))
        ck_assert_msg(PQresultStatus(r) == PGRES_COMMAND_OK, "%s", PQresultErrorMessage(r));
    test_expect(db.conn, "2", "SELECT content FROM desired JOIN blob USING (digest)");

    /* With a snapshot of its own it must not go on. */
    test_run(second, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM headwater.node");
    test_run(db.conn, "UPDATE node SET labels = '{\"site\": \"a\"}'");
    test_refuse(second, "40001", "", "concurrent update",
                "UPDATE headwater.config SET content = '3'");
    test_run(second, "ROLLBACK");

    /* A writer that waits too long for another gives up, where its role says so. */
    test_run(second, "SET lock_timeout = '50ms'");
    test_run(db.conn, "BEGIN; UPDATE node SET labels = '{\"site\": \"b\"}'");
    test_refuse(second, "55P03", "", "lock timeout", "DELETE FROM headwater.assignment");
    test_run(db.conn, "COMMIT");
    test_expect(db.conn, "0", "SELECT recompute()");
    PQfinish(second);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sql_concurrency");
    TCase *tcase = tcase_create("sql_concurrency");
    tcase_set_timeout(tcase, 120 + env_number("HEADWATER_TEST_SECONDS", 20));
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_the_second_writer_sees_the_first);
    tcase_add_test(tcase, test_concurrent_writers);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
