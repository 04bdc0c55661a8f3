/* headwater-reconciler verify against real servers: every kind of damage is found, none made up. */
#include <jansson.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/json.h"
#include "common/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct test_postgres pg;
static struct test_nats nats;
static struct test_program reconciler;
static natsConnection *nc;
static jsCtx *js;
static char viewer_url[256];

static void start_reconciler(void)
{
    const char *const argv[] = {
        "headwater-reconciler", "--database", pg.reconciler_url, "--nats", nats.url, NULL};

    test_program_start(&reconciler, argv, NULL);
}

static void stop_reconciler(void)
{
    const int status = test_program_stop(&reconciler, SIGTERM);

    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "exit status %#x, see %s", status,
                  reconciler.log);
}

/* ---- NATS, with the library alone ---- */

static natsMsg *last_message(const char *stream, const char *subject)
{
    jsDirectGetMsgOptions options;
    natsMsg *msg = NULL;

    jsDirectGetMsgOptions_Init(&options);
    options.LastBySubject = subject;
    return js_DirectGetMsg(&msg, js, stream, NULL, &options) == NATS_OK ? msg : NULL;
}

static char *last_text(const char *stream, const char *subject)
{
    natsMsg *msg = last_message(stream, subject);

    ck_assert_msg(msg != NULL, "%s has no %s", stream, subject);
    char *text = hw_strndup(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
    return text;
}

/* Headers: names and values in turn, up to NULL. */
static void publish(const char *subject, const char *value, ...)
{
    natsMsg *msg = NULL;
    const char *name;
    va_list headers;

    ck_assert_int_eq(natsMsg_Create(&msg, subject, NULL, value, (int)strlen(value)), NATS_OK);
    va_start(headers, value);
    while ((name = va_arg(headers, const char *)) != NULL)
        ck_assert_int_eq(natsMsgHeader_Set(msg, name, va_arg(headers, const char *)), NATS_OK);
    va_end(headers);
    ck_assert_int_eq(js_PublishMsg(NULL, js, msg, NULL, NULL), NATS_OK);
    natsMsg_Destroy(msg);
}

/* Puts what an entry says with the same headers: all of the text from becomes to. */
static void edit(const char *subject, const char *from, const char *to)
{
    natsMsg *msg = last_message("KV_headwater", subject);
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
    publish(subject, hw_buf_str(&text), "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    hw_buf_free(&text);
    natsMsg_Destroy(msg);
}

static void purge(const char *stream, const char *subject)
{
    jsOptions options;

    jsOptions_Init(&options);
    options.Stream.Purge.Subject = subject;
    ck_assert_int_eq(js_PurgeStream(js, stream, &options, NULL), NATS_OK);
}

static uint64_t last_seq(const char *stream)
{
    jsStreamInfo *info = NULL;
    uint64_t seq;

    if (js_GetStreamInfo(&info, js, stream, NULL, NULL) != NATS_OK)
        return 0;
    seq = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return seq;
}

/* ---- running it ---- */

static int verify(const char *const more[], char **output)
{
    const char *argv[16] = {"headwater-reconciler",
                            "verify",
                            "--database",
                            viewer_url,
                            "--nats",
                            nats.url,
                            "--timeout",
                            "20s"};
    size_t count = 8;

    for (; more != NULL && *more != NULL; more++)
        argv[count++] = *more;
    return test_program_run(argv, NULL, NULL, output);
}

/* Everything that it could have written to. */
static char *state_of_everything(void)
{
    HW_AUTO_FREE char *sql =
        test_sql(&pg, "SELECT concat_ws(' ', (SELECT rev FROM headwater.changelog_head),"
                      " (SELECT string_agg(xmin::text || rev, ',') FROM headwater.changelog),"
                      " (SELECT string_agg(xmin::text || node || digest, ',')"
                      "  FROM headwater.desired),"
                      " (SELECT string_agg(xmin::text || node, ',') FROM headwater.reported))");

    return hw_sprintf("%s %llu %llu %llu", sql, (unsigned long long)last_seq("KV_headwater"),
                      (unsigned long long)last_seq("OBJ_headwater"),
                      (unsigned long long)last_seq("KV_headwater_reports"));
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
    test_postgres_start(&pg, true, NULL);
    free(test_sql(&pg, "CREATE ROLE alice LOGIN IN ROLE headwater_viewer"));
    snprintf(viewer_url, sizeof(viewer_url), "postgresql://alice@127.0.0.1:%d/headwater", pg.port);
    test_nats_start(&nats);
    ck_assert_int_eq(natsConnection_ConnectTo(&nc, nats.url), NATS_OK);
    ck_assert_int_eq(natsConnection_JetStream(&js, nc, NULL), NATS_OK);
    start_reconciler();
    test_wait_for(last_seq("KV_headwater") > 0, 20); /* the first checkpoint: it streams */
    free(test_sql(&pg, "INSERT INTO headwater.node (name)"
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
    ck_assert_int_eq(verify(NULL, NULL), 0);
    stop_reconciler();
}

static void teardown(void)
{
    if (test_program_running(&reconciler))
        stop_reconciler();
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    test_nats_remove(&nats);
    test_postgres_remove(&pg);
}

/* ---- the tests ---- */

START_TEST(test_equal)
{
    HW_AUTO_JSON json_t *answer = verify_json("20s");
    HW_AUTO_FREE char *rev = test_sql(&pg, "SELECT max(rev)::text FROM headwater.changelog");
    HW_AUTO_FREE char *system_id =
        test_sql(&pg, "SELECT system_identifier::text FROM pg_control_system()");
    const json_t *checkpoint = json_object_get(answer, "checkpoint");
    char *output;

    ck_assert(json_is_true(json_object_get(answer, "ok")));
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "nodes")), 7);
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "objects")), 7);
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "rev")), strtoll(rev, NULL, 10));
    ck_assert_str_eq(member(checkpoint, "system_id"), system_id);
    ck_assert_int_eq(json_integer_value(json_object_get(checkpoint, "rev")),
                     strtoll(rev, NULL, 10));

    const char *const more[] = {"--database", pg.reconciler_url, NULL};
    ck_assert_int_eq(verify(more, &output), 0);
    ck_assert_msg(strncmp(output, "7 nodes, 7 objects, 0 differences, ", 35) == 0, "%s", output);
    free(output);

    /* What cannot be said is no success. */
    static const char script[] = "exec \"${HW_BUILD_DIR:-build}/headwater-reconciler\" verify"
                                 " --database \"$0\" --nats \"$1\" >/dev/full";
    const char *const argv[] = {"/bin/sh", "-c", script, viewer_url, nats.url, NULL};
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
    static const char n1[] = "$KV.headwater.cfg.desired.n1";
    static const char ghost[] = "$KV.headwater.cfg.desired.ghost";
    natsMsg *good = last_message("KV_headwater", n1);
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
    publish(n1, "{\"revision\":\xff", "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    expect_only("changed", "n1", "no entry of ours, 13 bytes");
    publish(n1, "", NULL);
    expect_only("changed", "n1", "no entry of ours, 0 bytes");

    /* Fences. */
    publish(n1, value, NULL);
    expect_only("fence", "n1", "no fence");
    publish(n1, value, "Headwater-Epoch", epoch, "Headwater-LSN", "0/1", NULL);
    expect_only("fence", "n1", "LSN 0/1;");
    publish(n1, value, "Headwater-Epoch", "2", "Headwater-LSN", lsn, NULL);
    expect_only("fence", "n1", "epoch 2,");
    publish(n1, value, "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    expect_equal();
    edit(n1, value_lsn, "\"lsn\":\"7/7\"");
    expect_only("fence", "n1", "LSN 7/7");
    edit(n1, "\"lsn\":\"7/7\"", "\"lsn\":\"x\"");
    expect_only("changed", "n1", "no entry of ours");

    /* A fence from the future is no excuse for what SQL never said. */
    HW_AUTO_FREE char *future =
        hw_sprintf("{\"node\":\"n1\",\"revision\":2%s", strstr(value, ",\"digest\""));
    publish(n1, future, "Headwater-Epoch", epoch, "Headwater-LSN", "FF/0", NULL);
    expect_only("changed", "n1", "revision 2 ");

    /* Keys that are gone, in each of the ways. */
    publish(n1, "", "KV-Operation", "DEL", NULL);
    expect_only("missing", "n1", "deleted");
    publish(n1, "", "KV-Operation", "PURGE", "Nats-Rollup", "sub", NULL);
    expect_only("missing", "n1", "deleted");
    purge("KV_headwater", n1);
    expect_only("missing", "n1", "no key");
    publish(n1, value, "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    expect_equal();

    /* Keys that nobody wants: of an unknown node, and of one that had an entry before. */
    publish(ghost, value, "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    expect_only("unknown", "ghost", "revision 1 ");
    publish(ghost, "", "KV-Operation", "DEL", NULL);
    publish("$KV.headwater.cfg.desired.a=b", "x", NULL); /* not even a name */
    expect_only("unknown", "a=b", "no entry of ours");
    purge("KV_headwater", "$KV.headwater.cfg.desired.a=b");
    expect_equal();
    publish("$KV.headwater.cfg.desired.n8", "{}", NULL);
    expect_only("unknown", "n8", "no entry of ours");
    natsMsg_Destroy(good);
}
END_TEST

START_TEST(test_many_differences)
{
    char *output, *line;
    int lines = 0;

    for (int i = 0; i < 1003; i++) {
        HW_AUTO_FREE char *subject = hw_sprintf("$KV.headwater.cfg.desired.x%d", i);

        publish(subject, "{}", NULL);
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
        test_sql(&pg, "SELECT digest FROM headwater.desired WHERE node = 'n3'");
    HW_AUTO_FREE char *other =
        test_sql(&pg, "SELECT digest FROM headwater.desired WHERE node = 'n4'");
    HW_AUTO_FREE char *name = hw_base64url_encode(digest + 7, strlen(digest) - 7);
    HW_AUTO_FREE char *meta_subject = hw_sprintf("$O.headwater.M.%s", name);
    HW_AUTO_FREE char *meta = last_text("OBJ_headwater", meta_subject);
    HW_AUTO_JSON json_t *root = json_loads(meta, 0, NULL);
    HW_AUTO_FREE char *chunks = hw_sprintf("$O.headwater.C.%s", member(root, "nuid"));
    HW_AUTO_FREE char *content = last_text("OBJ_headwater", chunks);

    /* Other bytes of the same length, none, and too many. */
    HW_AUTO_FREE char *wrong = hw_strdup(content);
    wrong[0] ^= 1;
    purge("OBJ_headwater", chunks);
    expect_only("object", "n3", "missing");
    publish(chunks, wrong, NULL);
    expect_only("object", "n3", "do not match the digest");
    purge("OBJ_headwater", chunks);
    publish(chunks, content, NULL);
    expect_equal();

    /* A description that fits the bytes, but not the row: only the row's digest tells. */
    struct hw_digest of_wrong;
    hw_digest_of(wrong, strlen(wrong), &of_wrong);
    HW_AUTO_FREE char *encoded = hw_base64url_encode(of_wrong.bytes, sizeof(of_wrong.bytes));
    HW_AUTO_FREE char *text = hw_sprintf("SHA-256=%s", encoded);
    json_object_set_new(root, "digest", json_string(text));
    HW_AUTO_FREE char *forged = hw_json_dump(root);
    purge("OBJ_headwater", chunks);
    publish(chunks, wrong, NULL);
    publish(meta_subject, forged, "Nats-Rollup", "sub", NULL);
    expect_only("object", "n3", "sha256:");
    {
        HW_AUTO_JSON json_t *answer = verify_json("0");
        const json_t *one = json_array_get(json_object_get(answer, "differences"), 0);

        ck_assert_str_eq(member(one, "object"), digest + 7);
    }

    /* No description, or none that can be read. */
    publish(meta_subject, "{}", "Nats-Rollup", "sub", NULL);
    expect_only("object", "n3", "object metadata");
    purge("OBJ_headwater", meta_subject);
    expect_only("object", "n3", "not in bucket");
    purge("OBJ_headwater", chunks);
    publish(chunks, content, NULL);
    publish(meta_subject, meta, "Nats-Rollup", "sub", NULL);
    expect_equal();
}
END_TEST

START_TEST(test_checkpoint)
{
    static const char key[] = "$KV.headwater.cfg.checkpoint";
    HW_AUTO_FREE char *good = last_text("KV_headwater", key);
    HW_AUTO_JSON json_t *root = json_loads(good, 0, NULL);
    static const struct {
        const char *name, *says;
    } cases[] = {{"system_id", "of another database"},
                 {"timeline", "timeline 77"},
                 {"nonce", "of another history"},
                 {"rev", "of another history"}};

    publish(key, "garbage", NULL);
    expect_only("checkpoint", "", "no checkpoint");
    publish(key, "", "KV-Operation", "DEL", NULL);
    expect_only("checkpoint", "", "was deleted");
    purge("KV_headwater", key);
    expect_only("checkpoint", "", "there is no checkpoint");
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        HW_AUTO_JSON json_t *other = json_copy(root);
        const bool is_text = json_is_string(json_object_get(root, cases[i].name));

        json_object_set_new(other, cases[i].name, is_text ? json_string("77") : json_integer(77));
        HW_AUTO_FREE char *text = hw_json_dump(other);
        publish(key, text, NULL);
        expect_only("checkpoint", "", cases[i].says);
    }
    publish(key, good, NULL);
    expect_equal();

    /* Behind: it says so, and what it lacks. */
    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":99}' WHERE name = 'c2'"));
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
    HW_AUTO_FREE char *count =
        test_sql(&pg, "SELECT count(*)::text FROM pg_stat_activity"
                      " WHERE application_name = 'headwater-reconciler: verify'"
                      " AND query LIKE 'SELECT nonce%%'");

    return strcmp(count, "0") != 0;
}

static void start_waiting(struct test_program *p)
{
    const char *const argv[] = {"headwater-reconciler",
                                "verify",
                                "--database",
                                viewer_url,
                                "--nats",
                                nats.url,
                                "--timeout",
                                "60s",
                                NULL};

    test_program_start(p, argv, NULL);
    test_wait_for(is_waiting(), 20);
}

START_TEST(test_waits_for_the_reconciler)
{
    struct test_program waiting;

    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":99}' WHERE name = 'c2'"));
    start_waiting(&waiting);
    start_reconciler();
    test_wait_for(!test_program_running(&waiting), 30);
    const int status = test_program_stop(&waiting, 0);
    HW_AUTO_FREE char *output = test_read_file(waiting.log);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%#x: %s", status, output);
}
END_TEST

START_TEST(test_signals_and_lost_servers_end_it)
{
    static const char *const says[] = {"ended by SIGINT", "ended by SIGTERM", "connection to NATS",
                                       "database"};
    struct test_program waiting;

    free(test_sql(&pg, "UPDATE headwater.config SET content = '{\"a\":99}' WHERE name = 'c2'"));
    for (int i = 0; i < 4; i++) {
        start_waiting(&waiting);
        if (i == 2)
            test_nats_kill(&nats);
        if (i == 3)
            test_postgres_kill(&pg);
        if (i >= 2)
            test_wait_for(!test_program_running(&waiting), 20);
        const int status = test_program_stop(&waiting, i == 0 ? SIGINT : i == 1 ? SIGTERM : 0);
        HW_AUTO_FREE char *output = test_read_file(waiting.log);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%#x: %s", status, output);
        ck_assert_msg(strstr(output, says[i]) != NULL, "no \"%s\" in %s", says[i], output);
        if (i == 2)
            test_nats_restart(&nats);
    }
    test_postgres_restart(&pg);
}
END_TEST

START_TEST(test_servers_away)
{
    const char *const json[] = {"--json", "--log-level", "error", NULL};
    char *output;

    test_nats_stop(&nats);
    ck_assert_int_eq(verify(NULL, &output), 1);
    ck_assert_msg(strstr(output, "NATS cannot be reached") != NULL, "%s", output);
    free(output);
    test_nats_wipe(&nats);
    test_nats_restart(&nats);
    ck_assert_int_eq(verify(json, &output), 1);
    ck_assert_msg(strstr(output, "{\"ok\":false,\"error\":\"the bucket is not in NATS") != NULL,
                  "%s", output);
    free(output);
    test_postgres_stop(&pg);
    ck_assert_int_eq(verify(NULL, &output), 1);
    ck_assert_msg(strstr(output, "the database: ") != NULL, "%s", output);
    free(output);
    test_postgres_restart(&pg);
}
END_TEST

START_TEST(test_busy_system_gives_no_false_alarm)
{
    /* Small changes, changes of all, changes of the sources alone, and nodes that come and go. */
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
        " PERFORM pg_sleep(0.002); END LOOP; END $$";
    const char *const argv[] = {"psql", "-X", "-c", work, pg.url, NULL};
    struct test_program worker;

    test_program_start(&worker, argv, NULL);
    HW_AUTO_FREE char *first = test_sql(&pg, "SELECT max(rev)::text FROM headwater.changelog");
    for (int i = 0; i < 25; i++) {
        char *output;
        const int status = verify(NULL, &output);

        ck_assert_msg(status == 0, "round %d: %s", i, output);
        free(output);
    }
    /* It was busy until the end. */
    ck_assert(test_program_running(&worker));
    HW_AUTO_FREE char *last = test_sql(&pg, "SELECT max(rev)::text FROM headwater.changelog");
    ck_assert_int_gt(strtoll(last, NULL, 10), strtoll(first, NULL, 10) + 100);
    free(test_sql(&pg, "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity"
                       " WHERE application_name = 'psql'"));
    test_wait_for(!test_program_running(&worker), 20);
    test_program_stop(&worker, 0);
}
END_TEST

int main(void)
{
    const TTest *const quiet[] = {test_equal,
                                  test_wrong_usage,
                                  test_damaged_keys,
                                  test_many_differences,
                                  test_damaged_objects,
                                  test_checkpoint,
                                  test_servers_away,
                                  test_waits_for_the_reconciler,
                                  test_signals_and_lost_servers_end_it};
    Suite *suite = suite_create("verify");
    TCase *still = tcase_create("quiet"), *busy = tcase_create("busy");

    tcase_set_timeout(still, 180);
    tcase_add_checked_fixture(still, setup_quiet, teardown);
    for (size_t i = 0; i < HW_COUNT(quiet); i++)
        tcase_add_test(still, quiet[i]);
    tcase_set_timeout(busy, 180);
    tcase_add_checked_fixture(busy, setup, teardown);
    tcase_add_test(busy, test_busy_system_gives_no_false_alarm);
    suite_add_tcase(suite, still);
    suite_add_tcase(suite, busy);
    return test_suite_finish(suite);
}
