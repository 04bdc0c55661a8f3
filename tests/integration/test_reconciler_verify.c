/* headwater-reconciler verify against real servers: every kind of damage is found, none made up. */
#include <jansson.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/memory.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

static struct test_pipeline p;
static char viewer_url[256];

/* Puts what an entry says with the same headers: all of the text from becomes to. */
static void edit(const char *subject, const char *from, const char *to)
{
    natsMsg *msg = pipeline_last(&p, "KV_headwater", subject);
    const char *epoch = NULL, *lsn = NULL;
    struct hw_buf text = {0};

    ck_assert_ptr_nonnull(msg);
    ck_assert_int_eq(natsMsgHeader_Get(msg, "Headwater-Epoch", &epoch), NATS_OK);
    ck_assert_int_eq(natsMsgHeader_Get(msg, "Headwater-LSN", &lsn), NATS_OK);
    HW_AUTO_FREE char *value = hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    const char *place = strstr(value, from);
    ck_assert_msg(place != NULL, "no %s in %s", from, value);
    hw_buf_add(&text, value, (size_t)(place - value));
    hw_buf_puts(&text, to);
    hw_buf_puts(&text, place + strlen(from));
    pipeline_put(&p, subject, hw_buf_str(&text), "Headwater-Epoch", epoch, "Headwater-LSN", lsn,
                 NULL);
    hw_buf_free(&text);
    natsMsg_Destroy(msg);
}

/* ---- running it ---- */

static void fill(const char *argv[static 16], const char *const more[])
{
    const char *const first[] = {"headwater-reconciler",
                                 "verify",
                                 "--database",
                                 viewer_url,
                                 "--nats",
                                 p.nats.url,
                                 "--timeout",
                                 "20s"};
    size_t count = 0;

    for (; count < HW_COUNT(first); count++)
        argv[count] = first[count];
    for (; more != NULL && *more != NULL; more++)
        argv[count++] = *more;
    argv[count] = NULL;
}

static int verify(const char *const more[], char **output)
{
    const char *argv[16];

    fill(argv, more);
    return test_program_run(argv, NULL, NULL, output);
}

/* Everything that it could have written to. */
static char *state_of_everything(void)
{
    HW_AUTO_FREE char *sql =
        test_sql(&p.pg, "SELECT concat_ws(' ', (SELECT rev FROM headwater.changelog_head),"
                        " (SELECT string_agg(xmin::text || rev, ',') FROM headwater.changelog),"
                        " (SELECT string_agg(xmin::text || node || digest, ',')"
                        "  FROM headwater.desired),"
                        " (SELECT string_agg(xmin::text || node, ',') FROM headwater.reported))");

    return hw_sprintf("%s %llu %llu %llu", sql,
                      (unsigned long long)pipeline_last_seq(&p, "KV_headwater"),
                      (unsigned long long)pipeline_last_seq(&p, "OBJ_headwater"),
                      (unsigned long long)pipeline_last_seq(&p, "KV_headwater_reports"));
}

/* Verifies while nothing else happens, and returns what it answers in JSON. */
static json_t *verify_json(const char *timeout)
{
    const char *const more[] = {"--json", "--timeout", timeout, NULL};
    HW_AUTO_FREE char *before = state_of_everything();
    char *output;
    const int status = verify(more, &output);
    HW_AUTO_FREE char *after = state_of_everything();
    struct hw_error err;
    json_t *answer = NULL, *differences;
    json_int_t count;
    int ok;

    ck_assert_str_eq(before, after);
    ck_assert_msg(hw_json_parse_object(output, strlen(output), &answer, &err) == HW_OK, "%s: %s",
                  err.message, output);
    ck_assert_msg(hw_json_unpack(answer, &err, "{s:b, s:I, s:o}", "ok", &ok, "difference_count",
                                 &count, "differences", &differences) == HW_OK,
                  "%s: %s", err.message, output);
    ck_assert_int_eq(status, ok ? 0 : 1);
    ck_assert_int_eq(ok, count == 0);
    ck_assert_uint_eq(json_array_size(differences), (size_t)count);
    free(output);
    return answer;
}

static const char *member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "";
}

/* There is this one difference, and no other. nats: a part of what NATS says. */
static void expect_only(const char *kind, const char *node, const char *nats_says)
{
    HW_AUTO_JSON json_t *answer = verify_json("0");
    HW_AUTO_FREE char *text = hw_json_dump(answer);
    const json_t *list = json_object_get(answer, "differences");
    const json_t *one = json_array_get(list, 0);

    ck_assert_msg(json_array_size(list) == 1 && strcmp(member(one, "kind"), kind) == 0 &&
                      strcmp(member(one, "node"), node) == 0 &&
                      strstr(member(one, "nats"), nats_says) != NULL && *member(one, "sql") != '\0',
                  "expected %s %s \"%s\": %s", kind, node, nats_says, text);
}

static void expect_equal(void)
{
    HW_AUTO_JSON json_t *answer = verify_json("20");
    HW_AUTO_FREE char *text = hw_json_dump(answer);

    ck_assert_msg(json_is_true(json_object_get(answer, "ok")), "%s", text);
}

/* ---- fixtures ---- */

static void setup(void)
{
    pipeline_open(&p, NULL);
    free(test_sql(&p.pg, "CREATE ROLE alice LOGIN IN ROLE headwater_viewer"));
    snprintf(viewer_url, sizeof(viewer_url), "postgresql://alice@127.0.0.1:%d/headwater",
             p.pg.port);
    pipeline_start(&p, NULL);
    test_wait_for(pipeline_last_seq(&p, "KV_headwater") > 0,
                  60); /* the first checkpoint: it streams */
    free(test_sql(&p.pg, "INSERT INTO headwater.node (name)"
                         " SELECT 'n' || i FROM generate_series(1, 8) i;"
                         "INSERT INTO headwater.config (name, content)"
                         " SELECT 'c' || i, format('{\"a\":%%s}', i) FROM generate_series(1, 8) i;"
                         "INSERT INTO headwater.assignment (name, config, node)"
                         " SELECT 'a' || i, 'c' || i, 'n' || i FROM generate_series(1, 8) i;"
                         "DELETE FROM headwater.assignment WHERE name = 'a8'"));
}

/* With NATS equal, and nobody there who repairs it. */
static void setup_quiet(void)
{
    setup();
    ck_assert_int_eq(verify((const char *[]){"--timeout", "60s", NULL}, NULL), 0);
    pipeline_stop(&p);
}

static void teardown(void)
{
    if (test_program_running(&p.reconciler))
        pipeline_stop(&p);
    pipeline_close(&p);
}

/* ---- the tests ---- */

START_TEST(test_equal)
{
    HW_AUTO_JSON json_t *answer = verify_json("20s");
    HW_AUTO_FREE char *rev = test_sql(&p.pg, "SELECT max(rev)::text FROM headwater.changelog");
    HW_AUTO_FREE char *system_id =
        test_sql(&p.pg, "SELECT system_identifier::text FROM pg_control_system()");
    const json_t *checkpoint = json_object_get(answer, "checkpoint");
    char *output;

    ck_assert(json_is_true(json_object_get(answer, "ok")));
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "nodes")), 7);
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "objects")), 7);
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "rev")), strtoll(rev, NULL, 10));
    ck_assert_str_eq(member(checkpoint, "system_id"), system_id);
    ck_assert_int_eq(json_integer_value(json_object_get(checkpoint, "rev")),
                     strtoll(rev, NULL, 10));

    const char *const more[] = {"--database", p.pg.reconciler_url, NULL};
    ck_assert_int_eq(verify(more, &output), 0);
    ck_assert_msg(strncmp(output, "7 nodes, 7 objects, 0 differences, ", 35) == 0, "%s", output);
    free(output);

    /* What cannot be said is no success. */
    static const char script[] = "exec \"${HW_BUILD_DIR:-build}/headwater-reconciler\" verify"
                                 " --database \"$0\" --nats \"$1\" >/dev/full";
    const char *const argv[] = {"/bin/sh", "-c", script, viewer_url, p.nats.url, NULL};
    ck_assert_int_eq(test_program_run(argv, NULL, NULL, &output), 1);
    ck_assert_msg(strstr(output, "writing to standard output") != NULL, "%s", output);
    free(output);
}
END_TEST

START_TEST(test_wrong_usage)
{
    const char *const operand[] = {"x", NULL}, *const timeout[] = {"--timeout", "x", NULL};

    ck_assert_int_eq(verify(operand, NULL), 2);
    ck_assert_int_eq(verify(timeout, NULL), 2);
    ck_assert_int_eq(test_program_run((const char *const[]){"headwater-reconciler", "verify", NULL},
                                      NULL, NULL, NULL),
                     2);
}
END_TEST

START_TEST(test_damaged_keys)
{
    static const char n1[] = DESIRED "n1", ghost[] = DESIRED "ghost";
    natsMsg *good = pipeline_last(&p, "KV_headwater", n1);
    const char *epoch = NULL, *lsn = NULL;

    ck_assert_ptr_nonnull(good);
    ck_assert_int_eq(natsMsgHeader_Get(good, "Headwater-Epoch", &epoch), NATS_OK);
    ck_assert_int_eq(natsMsgHeader_Get(good, "Headwater-LSN", &lsn), NATS_OK);
    HW_AUTO_FREE char *value =
        hw_strndup(natsMsg_GetData(good), (size_t)natsMsg_GetDataLength(good));
    HW_AUTO_FREE char *value_lsn = hw_sprintf("\"lsn\":\"%s\"", lsn);

    /* Values. */
    edit(n1, "\"revision\":1", "\"revision\":9");
    expect_only("changed", "n1", "revision 9 ");
    edit(n1, "\"revision\":9", "\"revision\":1");
    expect_equal();
    edit(n1, "application/json", "text/plain");
    expect_only("changed", "n1", "another media type");
    edit(n1, "text/plain", "application/json");
    edit(n1, "\"config\": \"c1\"", "\"config\": \"c2\"");
    expect_only("changed", "n1", "other sources");
    edit(n1, "\"config\": \"c2\"", "\"config\": \"c1\"");
    edit(n1, "\"node\":\"n1\"", "\"node\":\"n2\"");
    expect_only("changed", "n1", "another node");
    pipeline_put(&p, n1, "{\"revision\":\xff", "Headwater-Epoch", epoch, "Headwater-LSN", lsn,
                 NULL);
    expect_only("changed", "n1", "no entry of ours, 13 bytes");
    pipeline_put(&p, n1, "", NULL);
    expect_only("changed", "n1", "no entry of ours, 0 bytes");

    /* Fences. */
    pipeline_put(&p, n1, value, NULL);
    expect_only("fence", "n1", "no fence");
    pipeline_put(&p, n1, value, "Headwater-Epoch", epoch, "Headwater-LSN", "0/1", NULL);
    expect_only("fence", "n1", "LSN 0/1;");
    pipeline_put(&p, n1, value, "Headwater-Epoch", "2", "Headwater-LSN", lsn, NULL);
    expect_only("fence", "n1", "epoch 2,");
    pipeline_put(&p, n1, value, "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    expect_equal();
    edit(n1, value_lsn, "\"lsn\":\"7/7\"");
    expect_only("fence", "n1", "LSN 7/7");
    edit(n1, "\"lsn\":\"7/7\"", "\"lsn\":\"x\"");
    expect_only("changed", "n1", "no entry of ours");

    /* A fence from the future is no excuse for what SQL never said. */
    HW_AUTO_FREE char *future =
        hw_sprintf("{\"node\":\"n1\",\"revision\":2%s", strstr(value, ",\"digest\""));
    pipeline_put(&p, n1, future, "Headwater-Epoch", epoch, "Headwater-LSN", "FF/0", NULL);
    expect_only("changed", "n1", "revision 2 ");

    /* Keys that are gone, in each of the ways. */
    pipeline_put(&p, n1, "", "KV-Operation", "DEL", NULL);
    expect_only("missing", "n1", "deleted");
    pipeline_put(&p, n1, "", "KV-Operation", "PURGE", "Nats-Rollup", "sub", NULL);
    expect_only("missing", "n1", "deleted");
    pipeline_purge(&p, "KV_headwater", n1);
    expect_only("missing", "n1", "no key");
    pipeline_put(&p, n1, value, "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    expect_equal();

    /* Keys that nobody wants: of an unknown node, and of one that had an entry before. */
    pipeline_put(&p, ghost, value, "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    expect_only("unknown", "ghost", "revision 1 ");
    pipeline_put(&p, ghost, "", "KV-Operation", "DEL", NULL);
    pipeline_put(&p, DESIRED "a=b", "x", NULL); /* not even a name */
    expect_only("unknown", "a=b", "no entry of ours");
    pipeline_purge(&p, "KV_headwater", DESIRED "a=b");
    expect_equal();
    pipeline_put(&p, DESIRED "n8", "{}", NULL);
    expect_only("unknown", "n8", "no entry of ours");
    natsMsg_Destroy(good);
}
END_TEST

/*
 * Someone who may write to NATS gives n1 the document of n2. The media type was searched for (a
 * lattice finds it in a minute), so that node, revision, size, digest, media type and sources have
 * the 64-bit FNV-1a hash of the right entry, by which they were once compared.
 */
START_TEST(test_forged_entry)
{
    static const char n1[] = DESIRED "n1";
    const char *const document1 =
        "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
    const char *const document2 =
        "7e8059f495589fcd981232cc11d00b00da3802c01d688fa1cf1f6bed6e5bb33c";

    edit(n1, document1, document2); /* digest … */
    edit(n1, document1, document2); /* … and object */
    edit(n1, "application/json", "GXY4-VpB6{PayfK3");
    expect_only("changed", "n1", document2);
    pipeline_start(&p, NULL);
    test_wait_for(verify(NULL, NULL) == 0, 60);
    HW_AUTO_FREE char *value = pipeline_value(&p, "KV_headwater", n1);
    ck_assert_ptr_nonnull(strstr(value, document1));

    /* While it leads, too. */
    edit(n1, document1, document2);
    edit(n1, document1, document2);
    edit(n1, "application/json", "GXY4-VpB6{PayfK3");
    test_wait_for((free(value), value = pipeline_value(&p, "KV_headwater", n1),
                   strstr(value, document2) == NULL),
                  60);
    test_wait_for(verify(NULL, NULL) == 0, 60);
}
END_TEST

/* Agents refuse an entry whose value says another fence than its headers: it is repaired. */
START_TEST(test_repairs_a_wrong_fence)
{
    static const char n1[] = DESIRED "n1";

    edit(n1, "\"epoch\":1", "\"epoch\":7");
    expect_only("fence", "n1", "value: epoch 7");
    pipeline_start(&p, NULL);
    test_wait_for(verify(NULL, NULL) == 0, 60);
}
END_TEST

START_TEST(test_damaged_decisions)
{
    static const char n1[] = DECIDED "n1", n2[] = DECIDED "n2";

    free(test_sql(&p.pg, "SELECT headwater.propose('[{\"node\":\"n1\",\"ref\":\"r\","
                         "\"config\":\"c1\",\"base_revision\":1,\"content\":\"{}\","
                         "\"encoding\":\"utf-8\"}]')"));
    pipeline_start(&p, NULL);
    ck_assert_int_eq(verify(NULL, NULL), 0);
    pipeline_stop(&p);

    edit(n1, "\"pending\"", "\"approved\"");
    expect_only("decided", "n1", "1 decisions");
    edit(n1, "\"approved\"", "\"pending\"");
    expect_equal();
    edit(n1, "\"epoch\":1", "\"epoch\":2");
    expect_only("decided", "n1", "value: epoch 2");
    edit(n1, "\"epoch\":2", "\"epoch\":1");
    HW_AUTO_FREE char *good = pipeline_value(&p, "KV_headwater", n1);
    pipeline_put(&p, n2, good, NULL);
    expect_only("decided", "n2", "1 decisions");
    pipeline_purge(&p, "KV_headwater", n2);
    pipeline_put(&p, n1, "garbage", NULL);
    expect_only("decided", "n1", "no entry of ours");
    pipeline_put(&p, n1, "", "KV-Operation", "DEL", NULL);
    expect_only("decided", "n1", "deleted");
    pipeline_purge(&p, "KV_headwater", n1);
    expect_only("decided", "n1", "no key");
}
END_TEST

START_TEST(test_many_differences)
{
    char *output, *line;
    int lines = 0;

    for (int i = 0; i < 1003; i++) {
        HW_AUTO_FREE char *subject = hw_sprintf(DESIRED "x%d", i);

        pipeline_put(&p, subject, "{}", NULL);
    }
    ck_assert_int_eq(verify(NULL, &output), 1);
    for (line = output; (line = strstr(line, "unknown node=\"x")) != NULL; line++)
        lines++;
    ck_assert_int_eq(lines, 1000);
    ck_assert_ptr_nonnull(strstr(output, "\n... and 3 more\n7 nodes, 7 objects, 1003 differences"));
    free(output);
}
END_TEST

START_TEST(test_damaged_objects)
{
    HW_AUTO_FREE char *digest =
        test_sql(&p.pg, "SELECT digest FROM headwater.desired WHERE node = 'n3'");
    HW_AUTO_FREE char *other =
        test_sql(&p.pg, "SELECT digest FROM headwater.desired WHERE node = 'n4'");
    HW_AUTO_FREE char *meta_subject = pipeline_object_subject(digest);
    HW_AUTO_FREE char *meta = pipeline_value(&p, "OBJ_headwater", meta_subject);
    HW_AUTO_JSON json_t *root = json_loads(meta, 0, NULL);
    HW_AUTO_FREE char *chunks = hw_sprintf("$O.headwater.C.%s", member(root, "nuid"));
    HW_AUTO_FREE char *content = pipeline_value(&p, "OBJ_headwater", chunks);

    /* Other bytes of the same length, none, and too many. */
    HW_AUTO_FREE char *wrong = hw_strdup(content);
    wrong[0] ^= 1;
    pipeline_purge(&p, "OBJ_headwater", chunks);
    expect_only("object", "n3", "missing");
    pipeline_put(&p, chunks, wrong, NULL);
    expect_only("object", "n3", "do not match the digest");
    pipeline_purge(&p, "OBJ_headwater", chunks);
    pipeline_put(&p, chunks, content, NULL);
    expect_equal();

    /* A description that fits the bytes, but not the row: only the row's digest tells. */
    struct hw_digest of_wrong;
    hw_digest_of(wrong, strlen(wrong), &of_wrong);
    HW_AUTO_FREE char *encoded = hw_base64url_encode(of_wrong.bytes, sizeof(of_wrong.bytes));
    HW_AUTO_FREE char *text = hw_sprintf("SHA-256=%s", encoded);
    json_object_set_new(root, "digest", json_string(text));
    HW_AUTO_FREE char *forged = hw_json_dump(root);
    pipeline_purge(&p, "OBJ_headwater", chunks);
    pipeline_put(&p, chunks, wrong, NULL);
    pipeline_put(&p, meta_subject, forged, "Nats-Rollup", "sub", NULL);
    expect_only("object", "n3", "sha256:");
    {
        HW_AUTO_JSON json_t *answer = verify_json("0");
        const json_t *one = json_array_get(json_object_get(answer, "differences"), 0);

        ck_assert_str_eq(member(one, "object"), digest + 7);
    }

    /* No description, or none that can be read. */
    pipeline_put(&p, meta_subject, "{}", "Nats-Rollup", "sub", NULL);
    expect_only("object", "n3", "object metadata");
    pipeline_purge(&p, "OBJ_headwater", meta_subject);
    expect_only("object", "n3", "not in bucket");
    pipeline_purge(&p, "OBJ_headwater", chunks);
    pipeline_put(&p, chunks, content, NULL);
    pipeline_put(&p, meta_subject, meta, "Nats-Rollup", "sub", NULL);
    expect_equal();
}
END_TEST

START_TEST(test_checkpoint)
{
    static const char key[] = CHECKPOINT;
    HW_AUTO_FREE char *good = pipeline_value(&p, "KV_headwater", key);
    HW_AUTO_JSON json_t *root = json_loads(good, 0, NULL);
    static const struct {
        const char *name, *says;
    } cases[] = {{"system_id", "of another database"},
                 {"timeline", "timeline 77"},
                 {"nonce", "of another history"},
                 {"rev", "of another history"}};

    pipeline_put(&p, key, "garbage", NULL);
    expect_only("checkpoint", "", "no checkpoint");
    pipeline_put(&p, key, "", "KV-Operation", "DEL", NULL);
    expect_only("checkpoint", "", "was deleted");
    pipeline_purge(&p, "KV_headwater", key);
    expect_only("checkpoint", "", "there is no checkpoint");
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_JSON json_t *other = json_copy(root);
        const bool is_text = json_is_string(json_object_get(root, cases[i].name));

        json_object_set_new(other, cases[i].name, is_text ? json_string("77") : json_integer(77));
        HW_AUTO_FREE char *text = hw_json_dump(other);
        pipeline_put(&p, key, text, NULL);
        expect_only("checkpoint", "", cases[i].says);
    }
    pipeline_put(&p, key, good, NULL);
    expect_equal();

    /* Behind: it says so, and what it lacks. */
    free(test_sql(&p.pg, "UPDATE headwater.config SET content = '{\"a\":99}' WHERE name = 'c2'"));
    {
        HW_AUTO_JSON json_t *answer = verify_json("0");
        const json_t *list = json_object_get(answer, "differences");

        ck_assert_uint_eq(json_array_size(list), 3);
        ck_assert_str_eq(member(json_array_get(list, 0), "kind"), "checkpoint");
        ck_assert_ptr_nonnull(strstr(member(json_array_get(list, 0), "nats"), " is 1 behind"));
        ck_assert_str_eq(member(json_array_get(list, 1), "kind"), "changed");
        ck_assert_str_eq(member(json_array_get(list, 1), "node"), "n2");
        ck_assert_str_eq(member(json_array_get(list, 2), "kind"), "object");
    }
}
END_TEST

static bool is_waiting(void)
{
    return test_sql_is(&p.pg, "t",
                       "SELECT count(*) > 0 FROM pg_stat_activity"
                       " WHERE application_name = 'headwater-reconciler: verify'"
                       " AND query LIKE 'SELECT nonce%%'");
}

static void start_waiting(struct test_program *waiting)
{
    const char *argv[16];

    test_wait_for(!is_waiting(),
                  60); /* the one before: the server notices its end a little later */
    fill(argv, (const char *[]){"--timeout", "60s", NULL});
    test_program_start(waiting, argv, NULL);
    test_wait_for(is_waiting(), 60);
}

START_TEST(test_waits_for_the_reconciler)
{
    struct test_program waiting;

    free(test_sql(&p.pg, "UPDATE headwater.config SET content = '{\"a\":99}' WHERE name = 'c2'"));
    start_waiting(&waiting);
    pipeline_start(&p, NULL);
    test_wait_for(!test_program_running(&waiting), 90);
    const int status = test_program_stop(&waiting, 0);
    HW_AUTO_FREE char *output = test_read_file(waiting.log);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%#x: %s", status, output);
}
END_TEST

START_TEST(test_signals_and_lost_servers_end_it)
{
    static const char *const says[] = {"ended by SIGINT", "ended by SIGTERM", "NATS", "database"};
    struct test_program waiting;

    free(test_sql(&p.pg, "UPDATE headwater.config SET content = '{\"a\":99}' WHERE name = 'c2'"));
    for (int i = 0; i < 4; i++) {
        start_waiting(&waiting);
        if (i == 2)
            test_nats_kill(&p.nats);
        if (i == 3)
            test_postgres_kill(&p.pg);
        if (i >= 2)
            test_wait_for(!test_program_running(&waiting), 60);
        const int status = test_program_stop(&waiting, i == 0 ? SIGINT : i == 1 ? SIGTERM : 0);
        HW_AUTO_FREE char *output = test_read_file(waiting.log);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%#x: %s", status, output);
        ck_assert_msg(strstr(output, says[i]) != NULL, "no \"%s\" in %s", says[i], output);
        if (i == 2)
            test_nats_restart(&p.nats);
    }
    test_postgres_restart(&p.pg);
}
END_TEST

START_TEST(test_servers_away)
{
    const char *const json[] = {"--json", "--log-level", "error", NULL};
    char *output;

    test_nats_stop(&p.nats);
    ck_assert_int_eq(verify(NULL, &output), 1);
    ck_assert_msg(strstr(output, "NATS cannot be reached") != NULL, "%s", output);
    free(output);
    test_nats_wipe(&p.nats);
    test_nats_restart(&p.nats);
    ck_assert_int_eq(verify(json, &output), 1);
    ck_assert_msg(strstr(output, "{\"ok\":false,\"error\":\"the bucket is not in NATS") != NULL,
                  "%s", output);
    free(output);
    test_postgres_stop(&p.pg);
    ck_assert_int_eq(verify(NULL, &output), 1);
    ck_assert_msg(strstr(output, "the database: ") != NULL, "%s", output);
    free(output);
    test_postgres_restart(&p.pg);
}
END_TEST

START_TEST(test_busy_system_gives_no_false_alarm)
{
    /* Small changes, changes of all, changes of the sources alone, nodes that come and go, and news
     * of proposals. */
    static const char work[] =
        "DO $$ BEGIN FOR i IN 1..1000000 LOOP"
        " UPDATE headwater.config SET content = format('{\"a\":%s}', i)"
        "  WHERE name = 'c' || (i % 7 + 1); COMMIT;"
        " UPDATE headwater.config SET content = format('{\"all\":%s}', i) WHERE i % 5 = 0; COMMIT;"
        " DELETE FROM headwater.assignment WHERE name = 'a3'; COMMIT;"
        " INSERT INTO headwater.assignment (name, config, node) VALUES ('a3', 'c3', 'n3');"
        " INSERT INTO headwater.assignment (name, config, node, priority)"
        "  VALUES ('b', 'c5', 'n5', 7); COMMIT;"
        " DELETE FROM headwater.assignment WHERE name = 'b'; COMMIT;"
        " INSERT INTO headwater.proposal (node, ref, state)"
        "  SELECT 'n6', i::text, 'refused' WHERE i % 5 = 0; COMMIT;"
        " PERFORM pg_sleep(0.002); END LOOP; END $$";
    const char *const argv[] = {"psql", "-X", "-c", work, p.pg.url, NULL};
    struct test_program worker;

    test_program_start(&worker, argv, NULL);
    HW_AUTO_FREE char *first = test_sql(&p.pg, "SELECT max(rev)::text FROM headwater.changelog");
    for (int i = 0; i < 25; i++) {
        char *output;
        /* It waits for the reconciler, which may have fallen behind the worker. */
        const int status = verify((const char *[]){"--timeout", "60s", NULL}, &output);

        ck_assert_msg(status == 0, "round %d: %s", i, output);
        free(output);
    }
    /* It was busy until the end. */
    ck_assert(test_program_running(&worker));
    HW_AUTO_FREE char *last = test_sql(&p.pg, "SELECT max(rev)::text FROM headwater.changelog");
    ck_assert_int_gt(strtoll(last, NULL, 10), strtoll(first, NULL, 10) + 100);
    free(test_sql(&p.pg, "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity"
                         " WHERE application_name = 'psql'"));
    test_wait_for(!test_program_running(&worker), 60);
    test_program_stop(&worker, 0);
}
END_TEST

int main(void)
{
    const TTest *const quiet[] = {test_equal,
                                  test_wrong_usage,
                                  test_damaged_keys,
                                  test_damaged_decisions,
                                  test_forged_entry,
                                  test_repairs_a_wrong_fence,
                                  test_many_differences,
                                  test_damaged_objects,
                                  test_checkpoint,
                                  test_servers_away,
                                  test_waits_for_the_reconciler,
                                  test_signals_and_lost_servers_end_it};
    const TTest *const busy[] = {test_busy_system_gives_no_false_alarm};
    Suite *suite = suite_create("verify");

    test_suite_add(suite, 180, setup_quiet, teardown, quiet, HW_COUNT(quiet));
    test_suite_add(suite, 400, setup, teardown, busy, HW_COUNT(busy));
    return test_suite_finish(suite);
}
