/*
 * headwater-agent against a real nats-server, with the test in the reconciler's part: it puts
 * objects and fenced entries, and reads what the agent reports.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/memory.h"
#include "tests/support/agent_program.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define NODE   "edge-1.example"
#define WAIT_S UPSTREAM_WAIT_S
#define OK(call)                                                                                   \
    do {                                                                                           \
        const enum hw_status status_ = (call);                                                     \
        if (status_ != HW_OK)                                                                      \
            test_fail("%s:%d: " #call ": %s: %s", __FILE__, __LINE__, hw_status_name(status_),     \
                      err.message);                                                                \
    } while (0)
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_fail_at(__FILE__, __LINE__, #condition);                                          \
    } while (0)

static struct hw_error err;
static struct agent_program t;
static char *script; /* of the command */

/* ---- the reconciler's part ------------------------------------------------------------------- */

static char *digest_of(const void *data, size_t size, char out[static HW_DIGEST_STR_MAX])
{
    struct hw_digest digest;
    hw_digest_of(data, size, &digest);
    return hw_digest_format(&digest, out);
}

static void put_object(const char *name, const void *data, size_t size)
{
    upstream_put_object(&t.up, name, data, size);
}

static void put_entry(const char *value, size_t size, const struct hw_fence *fence)
{
    upstream_put_entry(&t.up, NODE, value, size, fence);
}

/* Points the node at content, at the fence 1, 0/<lsn>; the object is not put. */
static void point(int revision, const void *data, size_t size, const char *media_type, unsigned lsn)
{
    upstream_point(&t.up, NODE, revision, data, size, media_type, lsn);
}

static void desire_bytes(int revision, const void *data, size_t size)
{
    char digest[HW_DIGEST_STR_MAX];
    put_object(digest_of(data, size, digest) + 7, data, size);
    point(revision, data, size, "application/octet-stream", 16 * (unsigned)revision);
}

static void desire(int revision, const char *content)
{
    desire_bytes(revision, content, strlen(content));
}

/* ---- what the agent says --------------------------------------------------------------------- */

static json_t *get_report(uint64_t *seq)
{
    return upstream_report(&t.up, NODE, seq);
}

static json_int_t revision_at(const json_t *report, const char *part)
{
    return json_integer_value(json_object_get(json_object_get(report, part), "revision"));
}

static json_t *expect(const char *state, int running, const char *stage)
{
    return upstream_expect(&t.up, NODE, state, running, stage);
}

static void expect_applied(int revision)
{
    upstream_expect_applied(&t.up, NODE, revision);
}

static int count_in_log(const char *what)
{
    char *text = test_read_file(t.program.log);
    int count = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
        count++;
    free(text);
    return count;
}

/* ---- the agent ------------------------------------------------------------------------------- */

#define START_AGENT(...)                                                                           \
    agent_program_start(&t, (const char *const[]){"--output", t.output, __VA_ARGS__, NULL}, NULL)

static void start_agent(void)
{
    START_AGENT("--mode", "0644");
}

static void start_applying_agent(void)
{
    char *apply = hw_sprintf("sh '%s'", script);
    START_AGENT("--apply", apply);
    free(apply);
}

static void write_file(const char *path, const char *content)
{
    OK(hw_file_replace(path, content, strlen(content), 0644, &err));
}

/* The apply command: notes the revision and the file's content, then does what body says. */
static void write_script(const char *body)
{
    char *text = hw_sprintf("echo \"$HEADWATER_REVISION $(cat \"$HEADWATER_FILE\")\" >> '%s'\n%s\n",
                            t.runs, body);
    write_file(script, text);
    free(text);
}

static void begin_without_buckets(void)
{
    agent_program_open_without_buckets(&t, NODE);
    script = hw_sprintf("%s/apply.sh", t.dir);
    write_script("");
}

static void begin(void)
{
    begin_without_buckets();
    upstream_make_buckets(&t.up);
}

static void end(void)
{
    agent_program_close(&t);
    free(script);
}

/* ---- applying -------------------------------------------------------------------------------- */

START_TEST(test_applies_documents_of_every_size)
{
    static const size_t sizes[] = {0, 1, 3, 131071, 131072, 131073, 1 << 20, 16 << 20};
    begin();
    START_AGENT("--mode", "0640");
    int revision = 0;
    for (int binary = 0; binary < 2; binary++) {
        for (size_t i = 0; i < HW_COUNT(sizes); i++) {
            const size_t size = sizes[i];
            unsigned char *data = malloc(size + 1);
            uint32_t random = 12345;
            for (size_t j = 0; j < size; j++) {
                random = random * 1664525 + 1013904223;
                data[j] = binary ? (unsigned char)(random >> 24) : (unsigned char)('a' + j % 26);
            }
            desire_bytes(++revision, data, size);
            json_t *report = expect("applied", revision, NULL);
            char digest[HW_DIGEST_STR_MAX];
            ck_assert_str_eq(upstream_text(report, "running", "digest"),
                             digest_of(data, size, digest));
            ck_assert_int_eq(json_integer_value(json_object_get(report, "desired_revision")),
                             revision);
            json_decref(report);
            char *found;
            size_t found_size;
            OK(hw_file_read(t.output, size, &found, &found_size, &err));
            ck_assert_uint_eq(found_size, size);
            CHECK(memcmp(found, data, size) == 0);
            free(found);
            free(data);
        }
    }
    struct stat st;
    ck_assert_int_eq(stat(t.output, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0640);
    end();
}
END_TEST

START_TEST(test_report_is_complete)
{
    begin();
    desire(3, "three");
    start_applying_agent();
    json_t *report = expect("applied", 3, NULL);
    char digest[HW_DIGEST_STR_MAX];
    ck_assert_str_eq(json_string_value(json_object_get(report, "node")), NODE);
    ck_assert_str_eq(upstream_text(report, "running", "digest"), digest_of("three", 5, digest));
    ck_assert_str_eq(upstream_text(report, "running", "lsn"), "0/30");
    ck_assert_uint_eq(strlen(upstream_text(report, "running", "applied_at")), 24);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(report, "running"), "epoch")), 1);
    CHECK(json_is_null(json_object_get(report, "failed")));
    ck_assert_int_eq(json_integer_value(json_object_get(report, "desired_revision")), 3);
    CHECK(strncmp(json_string_value(json_object_get(report, "agent")), "headwater-agent/", 16) ==
          0);
    ck_assert_uint_eq(strlen(json_string_value(json_object_get(report, "boot_id"))), 36);
    ck_assert_uint_eq(strlen(json_string_value(json_object_get(report, "reported_at"))), 24);
    CHECK(json_number_value(json_object_get(report, "heartbeat")) > 0);
    CHECK(strlen(json_string_value(json_object_get(report, "instance"))) > 12);
    ck_assert_uint_eq(json_object_size(report), 10);
    json_decref(report);
    agent_program_wait_runs(&t, "3 three\n");
    end();
}
END_TEST

/* The command's environment has the document's variables, and none of the agent's own. */
START_TEST(test_command_gets_its_environment)
{
    begin();
    char *env = hw_sprintf("%s/env", t.dir);
    char *apply = hw_sprintf("sh -c 'env | grep ^HEADWATER_ | sort > %s'", env);
    const char *const variables[] = {"HEADWATER_NATS_URL=nats://user:secret@127.0.0.1:1", NULL};
    const char *const argv[] = {
        "headwater-agent", "--nats",   t.up.server.url, "--node",  NODE,  "--state-dir",
        t.state_dir,       "--output", t.output,        "--apply", apply, NULL};
    char digest[HW_DIGEST_STR_MAX];
    desire(1, "one");
    test_program_start(&t.program, argv, variables);
    expect_applied(1);
    char *expected = hw_sprintf("HEADWATER_DIGEST=%s\nHEADWATER_FILE=%s\n"
                                "HEADWATER_MEDIA_TYPE=application/octet-stream\n"
                                "HEADWATER_NODE=" NODE "\nHEADWATER_REVISION=1\n",
                                digest_of("one", 3, digest), t.output);
    char *found = test_read_file(env);
    ck_assert_str_eq(found, expected);
    free(found);
    free(expected);
    free(apply);
    free(env);
    end();
}
END_TEST

START_TEST(test_same_content_is_not_applied_again)
{
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    desire(2, "one");
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n");
    /* Another media type is another document. */
    point(3, "one", 3, "text/plain", 0x100);
    expect_applied(3);
    agent_program_wait_runs(&t, "1 one\n3 one\n");
    /* A newer fence of the same revision is only remembered. */
    point(3, "one", 3, "text/plain", 0x200);
    const double until = test_deadline(WAIT_S);
    for (bool there = false; !there;) {
        upstream_turn(&t.up, 10);
        json_t *report = expect("applied", 3, NULL);
        there = strcmp(upstream_text(report, "running", "lsn"), "0/200") == 0;
        json_decref(report);
        CHECK(test_now() < until);
    }
    /* Back to a document that was there just before: its copy is on disk. */
    desire(80, "two");
    expect_applied(80);
    agent_program_wait_runs(&t, "1 one\n3 one\n80 two\n");
    end();
}
END_TEST

START_TEST(test_deletion_keeps_what_runs)
{
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    put_entry(NULL, 0, &(struct hw_fence){1, 0x100});
    const double until = test_deadline(WAIT_S);
    for (bool null = false; !null;) {
        json_t *report = expect("applied", 1, NULL);
        null = json_is_null(json_object_get(report, "desired_revision"));
        json_decref(report);
        CHECK(test_now() < until);
    }
    CHECK(agent_program_file_is(t.output, "one"));
    /* The deletion's fence counts: what was before it is over. */
    desire(2, "two");
    agent_program_wait_log(&t, "older than one accepted before");
    point(3, "two", 3, "text/plain", 0x101);
    expect_applied(3);
    agent_program_wait_runs(&t, "1 one\n3 two\n");
    end();
}
END_TEST

/* Of what is desired while the command runs only the newest is applied. */
START_TEST(test_newest_wins)
{
    begin();
    write_script("if [ $HEADWATER_REVISION = 1 ]; then while [ ! -e \"$HEADWATER_FILE.go\" ]; do "
                 "sleep 0.05; done; fi");
    start_applying_agent();
    desire(1, "one");
    agent_program_wait_runs(&t, "1 one\n");
    desire(2, "two");
    desire(3, "three");
    desire(4, "four");
    char *go = hw_sprintf("%s.go", t.output);
    write_file(go, "");
    free(go);
    expect_applied(4);
    agent_program_wait_runs(&t, "1 one\n4 four\n");
    CHECK(agent_program_file_is(t.output, "four"));
    end();
}
END_TEST

START_TEST(test_splay_waits_and_takes_the_newest)
{
    begin();
    START_AGENT("--splay", "3s");
    for (int revision = 1; revision <= 5; revision++) {
        char *content = hw_sprintf("content %d", revision);
        desire(revision, content);
        free(content);
    }
    expect_applied(5);
    CHECK(agent_program_file_is(t.output, "content 5"));
    end();
}
END_TEST

/* ---- refusing -------------------------------------------------------------------------------- */

START_TEST(test_wrong_object_is_refused)
{
    char digest[HW_DIGEST_STR_MAX];
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);

    /* An object of the right name with other bytes, of the same size and of another. */
    put_object(digest_of("two", 3, digest) + 7, "owt", 3);
    point(2, "two", 3, "text/plain", 0x100);
    json_t *report = expect("rejected", 1, "verify");
    ck_assert_int_eq(revision_at(report, "failed"), 2);
    ck_assert_str_eq(upstream_text(report, "failed", "lsn"), "0/100");
    ck_assert_str_eq(upstream_text(report, "failed", "digest"), digest);
    CHECK(strstr(upstream_text(report, "failed", "error"), digest) != NULL);
    json_decref(report);
    CHECK(agent_program_file_is(t.output, "one"));

    put_object(digest_of("three", 5, digest) + 7, "threethree", 10);
    point(3, "three", 5, "text/plain", 0x110);
    const double until = test_deadline(WAIT_S);
    for (bool third = false; !third;) {
        report = expect("rejected", 1, "verify");
        third = revision_at(report, "failed") == 3;
        json_decref(report);
        CHECK(test_now() < until);
    }
    CHECK(agent_program_file_is(t.output, "one"));

    desire(32, "good again");
    expect_applied(32);
    agent_program_wait_runs(&t, "1 one\n32 good again\n");
    end();
}
END_TEST

/* A missing object is reported, asked for again, and applied when it is there. */
START_TEST(test_missing_object_is_waited_for)
{
    char digest[HW_DIGEST_STR_MAX];
    begin();
    start_applying_agent();
    point(1, "late", 4, "text/plain", 0x10);
    json_t *report = expect("failed", 0, "fetch");
    ck_assert_int_eq(revision_at(report, "failed"), 1);
    json_decref(report);
    put_object(digest_of("late", 4, digest) + 7, "late", 4);
    expect_applied(1);
    CHECK(agent_program_file_is(t.output, "late"));
    end();
}
END_TEST

START_TEST(test_garbage_entries_are_refused)
{
    static const char *const garbage[] = {
        "",
        "garbage",
        "{}",
        "[1,2]",
        "\xff\xfe",
        "{\"node\":\"other\",\"revision\":1,\"digest\":\"sha256:"
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"size\":3,"
        "\"media_type\":\"a/b\",\"object\":"
        "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"epoch\":1,"
        "\"lsn\":\"0/FF\"}",
    };
    const struct hw_fence fence = {1, 0xFF};
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    for (size_t i = 0; i < HW_COUNT(garbage) * 2; i++) {
        const char *value = garbage[i / 2];
        uint64_t before, after;
        json_decref(get_report(&before));
        put_entry(value, strlen(value), i % 2 == 0 ? &fence : NULL);
        const double until = test_deadline(WAIT_S);
        do {
            json_decref(expect("rejected", 1, "verify"));
            json_decref(get_report(&after));
            CHECK(test_now() < until);
        } while (after == before);
    }
    json_t *report = expect("rejected", 1, "verify");
    CHECK(json_is_null(json_object_get(json_object_get(report, "failed"), "revision")));
    CHECK(strstr(upstream_text(report, "failed", "error"), "cfg.desired." NODE) != NULL);
    json_decref(report);
    CHECK(agent_program_file_is(t.output, "one"));

    /* A fence in the headers of garbage does not shut out what is good. The entry that was there
     * before, put back by a reconciler that heals, ends the refusal without another run. */
    point(1, "one", 3, "application/octet-stream", 16);
    expect_applied(1);
    desire(2, "two");
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n2 two\n");
    CHECK(test_program_running(&t.program));
    end();
}
END_TEST

START_TEST(test_older_fence_is_refused)
{
    begin();
    start_applying_agent();
    desire(5, "five");
    expect_applied(5);
    desire(4, "four");
    json_t *report = expect("rejected", 5, "verify");
    CHECK(strstr(upstream_text(report, "failed", "error"), "older than one accepted") != NULL);
    json_decref(report);
    /* Nor after a restart: the fence is on disk. */
    agent_program_stop(&t);
    start_applying_agent();
    agent_program_wait_log(&t, "older than one accepted before");
    CHECK(agent_program_file_is(t.output, "five"));
    json_decref(expect("rejected", 5, "verify"));
    desire(6, "six");
    expect_applied(6);
    agent_program_wait_runs(&t, "5 five\n6 six\n");
    end();
}
END_TEST

/* Hints are believed in nothing, whatever they hold. */
START_TEST(test_hints_are_only_hints)
{
    static const char *const lies[] = {"", "garbage", "{\"node\":\"" NODE "\",\"revision\":99}",
                                       "\xff"};
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    for (size_t i = 0; i < HW_COUNT(lies) * 50; i++) {
        natsMsg *msg;
        const char *lie = lies[i % HW_COUNT(lies)];
        CHECK(natsMsg_Create(&msg, "headwater.desired." NODE, NULL, lie, (int)strlen(lie)) ==
              NATS_OK);
        CHECK(natsMsgHeader_Set(msg, "Nats-Sequence", i % 2 == 0 ? "18446744073709551615" : "x") ==
              NATS_OK);
        CHECK(natsConnection_PublishMsg(hw_nats_connection(t.up.nats), msg) == NATS_OK);
        natsMsg_Destroy(msg);
    }
    desire(2, "two");
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n2 two\n");
    end();
}
END_TEST

/* ---- the command says no --------------------------------------------------------------------- */

#define REFUSE_TWO "if [ $HEADWATER_REVISION = 2 ]; then echo 'no, not this' >&2; exit 7; fi"

START_TEST(test_failed_apply_goes_back)
{
    begin();
    write_script(REFUSE_TWO);
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    json_t *report = expect("failed", 1, "apply");
    ck_assert_int_eq(revision_at(report, "failed"), 2);
    ck_assert_str_eq(upstream_text(report, "failed", "error"),
                     "sh exited with status 7: no, not this");
    ck_assert_int_eq(json_integer_value(json_object_get(report, "desired_revision")), 2);
    json_decref(report);
    CHECK(agent_program_file_is(t.output, "one"));
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n");

    /* It is not tried again by itself; a restart tries once, and so does SIGHUP. */
    natsMsg *hint;
    CHECK(natsMsg_Create(&hint, "headwater.desired." NODE, NULL, "", 0) == NATS_OK);
    CHECK(natsConnection_PublishMsg(hw_nats_connection(t.up.nats), hint) == NATS_OK);
    natsMsg_Destroy(hint);
    agent_program_stop(&t);
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n");
    start_applying_agent();
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n2 two\n1 one\n");
    json_decref(expect("failed", 1, "apply"));
    write_script("");
    kill(t.program.pid, SIGHUP);
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n2 two\n1 one\n2 two\n");

    desire(3, "three");
    expect_applied(3);
    end();
}
END_TEST

/* What was desired before a failure comes back, as a newer revision: nothing is to be done. */
START_TEST(test_failure_is_over_when_what_runs_is_desired_again)
{
    begin();
    write_script(REFUSE_TWO);
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    json_decref(expect("failed", 1, "apply"));
    desire(3, "one");
    expect_applied(3);
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n");
    end();
}
END_TEST

START_TEST(test_failed_first_apply_leaves_what_was_there)
{
    begin();
    write_script(REFUSE_TWO);
    start_applying_agent();
    desire(2, "two");
    json_decref(expect("failed", 0, "apply"));
    CHECK(access(t.output, F_OK) != 0);
    agent_program_wait_runs(&t, "2 two\n");
    agent_program_stop(&t);

    /* The same on a node that had a file before it had an agent. */
    test_remove_tree(t.state_dir);
    unlink(t.runs);
    write_file(t.output, "of the package");
    start_applying_agent();
    agent_program_wait_runs(&t, "2 two\n0 of the package\n");
    json_decref(expect("failed", 0, "apply"));
    CHECK(agent_program_file_is(t.output, "of the package"));
    end();
}
END_TEST

START_TEST(test_command_that_hangs_is_stopped)
{
    begin();
    write_script("if [ $HEADWATER_REVISION = 2 ]; then sleep 600; fi");
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    agent_program_stop(&t);
    /* Only now: for a command that is to end in time half a second may be too short. */
    char *apply = hw_sprintf("sh '%s'", script);
    START_AGENT("--apply", apply, "--apply-timeout", "500ms");
    free(apply);
    desire(2, "two");
    json_t *report = expect("failed", 1, "apply");
    CHECK(strstr(upstream_text(report, "failed", "error"), "did not end within 0.5 s") != NULL);
    json_decref(report);
    CHECK(agent_program_file_is(t.output, "one"));
    end();
}
END_TEST

/* A command that cannot be started says nothing about the document: it is tried again by itself. */
START_TEST(test_missing_command_is_waited_for)
{
    begin();
    char *command = hw_sprintf("%s/later", t.dir);
    START_AGENT("--apply", command);
    desire(1, "one");
    json_t *report = expect("failed", 0, "apply");
    CHECK(strstr(upstream_text(report, "failed", "error"), command) != NULL);
    json_decref(report);
    OK(hw_file_replace(command, "#!/bin/sh\n", 10, 0755, &err));
    expect_applied(1);
    CHECK(agent_program_file_is(t.output, "one"));
    free(command);
    end();
}
END_TEST

START_TEST(test_missing_directory_is_waited_for)
{
    begin();
    free(t.output);
    t.output = hw_sprintf("%s/not-there/output.conf", t.dir);
    start_applying_agent();
    desire(1, "one");
    json_t *report = expect("failed", 0, "apply");
    CHECK(strstr(upstream_text(report, "failed", "error"), "not-there") != NULL);
    json_decref(report);
    char *missing = hw_sprintf("%s/not-there", t.dir);
    ck_assert_int_eq(mkdir(missing, 0755), 0);
    free(missing);
    expect_applied(1);
    agent_program_wait_runs(&t, "1 one\n");
    end();
}
END_TEST

/* ---- starting -------------------------------------------------------------------------------- */

START_TEST(test_restart_does_not_apply_again)
{
    uint64_t before, after;
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    json_decref(get_report(&before));
    for (int i = 0; i < 3; i++) {
        i < 2 ? agent_program_stop(&t) : agent_program_kill(&t);
        start_applying_agent();
        agent_program_wait_log(&t, "runs already");
        agent_program_wait_log(&t, "connected to NATS");
    }
    desire(2, "two");
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n2 two\n");
    /* Nor was anything reported twice. */
    json_decref(get_report(&after));
    ck_assert_uint_eq(after, before + 1);
    end();
}
END_TEST

START_TEST(test_starts_from_disk)
{
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    agent_program_stop(&t);
    upstream_stop(&t.up);

    /* What is missing or changed is restored, without NATS, and the command knows. */
    unlink(t.output);
    start_applying_agent();
    agent_program_wait_runs(&t, "1 one\n1 one\n");
    CHECK(agent_program_file_is(t.output, "one"));
    agent_program_stop(&t);
    write_file(t.output, "edited");
    start_applying_agent();
    agent_program_wait_runs(&t, "1 one\n1 one\n1 one\n");
    CHECK(agent_program_file_is(t.output, "one"));
    agent_program_stop(&t);
    start_applying_agent();
    agent_program_wait_log(&t, "runs already");
    upstream_restart(&t.up);
    desire(2, "two");
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n1 one\n1 one\n2 two\n");
    end();
}
END_TEST

START_TEST(test_starts_before_nats_and_its_buckets)
{
    begin_without_buckets();
    upstream_stop(&t.up);
    start_applying_agent();
    agent_program_wait_log(&t, "starting");
    upstream_restart(&t.up);
    agent_program_wait_log(&t, "cannot read the desired entry");
    upstream_make_buckets(&t.up);
    desire(1, "one");
    expect_applied(1);
    ck_assert_int_eq(count_in_log("cannot read the desired entry"), 1);
    CHECK(count_in_log("cannot report") <= 1);
    end();
}
END_TEST

START_TEST(test_damaged_state_is_fetched_again)
{
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    agent_program_stop(&t);
    char *path = hw_sprintf("%s/state.json", t.state_dir);
    ck_assert_int_eq(truncate(path, 20), 0);
    free(path);
    start_applying_agent();
    agent_program_wait_log(&t, "the state is damaged");
    agent_program_wait_runs(&t, "1 one\n1 one\n");
    expect_applied(1);
    CHECK(agent_program_file_is(t.output, "one"));
    end();
}
END_TEST

/* Both the file and the copy of it are gone: it comes from NATS again. */
START_TEST(test_lost_copy_is_fetched_again)
{
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    agent_program_stop(&t);
    char *blobs = hw_sprintf("%s/blob", t.state_dir);
    test_remove_tree(blobs);
    free(blobs);
    write_file(t.output, "edited");
    start_applying_agent();
    agent_program_wait_runs(&t, "1 one\n1 one\n");
    expect_applied(1);
    CHECK(agent_program_file_is(t.output, "one"));
    end();
}
END_TEST

/* Only the copy is gone: it is made again of the file, before it is needed. */
START_TEST(test_missing_copy_is_made_again)
{
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    agent_program_stop(&t);
    upstream_stop(&t.up);
    char *blobs = hw_sprintf("%s/blob", t.state_dir);
    test_remove_tree(blobs);
    free(blobs);
    start_applying_agent();
    agent_program_wait_log(&t, "runs already");
    agent_program_stop(&t);
    unlink(t.output);
    start_applying_agent();
    agent_program_wait_runs(&t, "1 one\n1 one\n");
    CHECK(agent_program_file_is(t.output, "one"));
    end();
}
END_TEST

START_TEST(test_state_directory_is_for_one_agent)
{
    begin();
    start_agent();
    agent_program_wait_log(&t, "connected to NATS");
    const char *const second[] = {"headwater-agent", "--nats",    t.up.server.url, "--node", NODE,
                                  "--state-dir",     t.state_dir, "--output",      t.output, NULL};
    char *said;
    ck_assert_int_eq(test_program_run(second, NULL, NULL, &said), 1);
    CHECK(strstr(said, "in use by another agent") != NULL);
    free(said);
    agent_program_stop(&t);

    desire(1, "one");
    start_agent();
    expect_applied(1);
    agent_program_stop(&t);
    const char *const other[] = {"headwater-agent", "--nats",    t.up.server.url, "--node", "other",
                                 "--state-dir",     t.state_dir, "--output",      t.output, NULL};
    ck_assert_int_eq(test_program_run(other, NULL, NULL, &said), 1);
    CHECK(strstr(said, "the state of the node " NODE) != NULL);
    free(said);
    end();
}
END_TEST

START_TEST(test_usage)
{
    static const struct {
        const char *argv[8];
        int status;
        const char *says;
    } cases[] = {
        {{"headwater-agent", "--version"}, 0, "headwater-agent "},
        {{"headwater-agent", "--help"}, 0, "HEADWATER_OUTPUT"},
        {{"headwater-agent"}, 2, "--output FILE (or HEADWATER_OUTPUT)"},
        {{"headwater-agent", "--output", "x", "--output-dir", "y"}, 2, "exclude each other"},
        /* They end because of the state directory. */
        {{"headwater-agent", "--output", "/etc", "--state-dir", "/proc/x"},
         1,
         "--output is a directory: name the file in it"},
        {{"headwater-agent", "--output-dir", "/etc/passwd", "--state-dir", "/proc/x"},
         1,
         "for one file, give --output"},
        {{"headwater-agent", "--output-dir", "/proc/nowhere", "--state-dir", "/proc/x"},
         1,
         "--output-dir is not there, and is not made: make it"},
        {{"headwater-agent", "--output", "/nowhere/x", "--state-dir", "/proc/x"},
         1,
         "the directory of --output is not there, and is not made: make it"},
        {{"headwater-agent", "--output", "x", "--state-dir", "/proc/x"},
         1,
         "the state directory must be one that user"},
        {{"headwater-agent", "--output", "x", "--state-dir", "/etc/passwd"}, 1, "is in its place"},
        {{"headwater-agent", "--output", "/tmp/no-such/state.json", "--state-dir", "/tmp/no-such"},
         2,
         "--output: /tmp/no-such/state.json is the agent's own in its state directory"},
        {{"headwater-agent", "--output", "/tmp/../tmp/no-such/blob/x", "--state-dir",
          "/tmp/./no-such"},
         2,
         "--output: "},
        {{"headwater-agent", "--output-dir", "/tmp/no-such/blob", "--state-dir", "/tmp/no-such/"},
         2,
         "--output-dir: "},
        {{"headwater-agent", "statsu"}, 2, "did you mean status?"},
        {{"headwater-agent", "start"}, 2, "without one the service runs"},
        {{"headwater-agent", "--output", "x", "--node", "a", "--apply", "a && b"},
         2,
         "--apply: no shell reads this command, so && is nothing but text; sh -c '"},
        {{"headwater-agent", "--output", "x", "--node", "a", "--validate", "a $X"},
         2,
         "--validate"},
        {{"headwater-agent", "--output", "x", "--node", "a", "--health", "a | b"}, 2, "--health"},
        {{"headwater-agent", "--output", "x", "--node", "a..b"}, 2, "--node"},
        {{"headwater-agent", "--output", "x", "--node", "a", "--bucket", "a.b"}, 2, "--bucket"},
        {{"headwater-agent", "--output", "x", "--node", "a", "--mode", "rw"}, 2, "--mode"},
        {{"headwater-agent", "--output", "x", "--node", "a", "--mode", "7777"}, 2, "--mode"},
        {{"headwater-agent", "--output", "x", "--node", "a", "--apply", "a 'b"}, 2, "--apply"},
        {{"headwater-agent", "--output", "x", "--node", "a", "--apply", " "}, 2, "--apply"},
        {{"headwater-agent", "--output", "x", "--poll", "soon"}, 2, "--poll"},
        {{"headwater-agent", "--output", "x", "--apply-timeout", "0"}, 2, "--apply-timeout"},
        {{"headwater-agent", "--output", "x", "operand"}, 2, "operand"},
        {{"headwater-agent", "--no-such-option"}, 2, "--no-such-option"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        char *said;
        ck_assert_int_eq(test_program_run(cases[i].argv, NULL, NULL, &said), cases[i].status);
        ck_assert_msg(strstr(said, cases[i].says) != NULL, "%s", said);
        free(said);
    }
}
END_TEST

/* What is in the way is told at once, and not replaced without a word. */
START_TEST(test_what_is_in_the_way_is_told)
{
    begin();
    char *state = hw_sprintf("%s/state.json", t.state_dir);
    char *dir = hw_sprintf("%s/generations", t.dir), *current = hw_sprintf("%s/current", dir);
    char *said;
    ck_assert_int_eq(mkdir(t.state_dir, 0755), 0);
    ck_assert_int_eq(mkdir(state, 0755), 0);
    ck_assert_int_eq(test_program_run((const char *const[]){"headwater-agent", "--output", t.output,
                                                            "--state-dir", t.state_dir, NULL},
                                      NULL, NULL, &said),
                     1);
    CHECK(strstr(said, "where the agent keeps its state, is a directory: move it away") != NULL);
    free(said);
    ck_assert_int_eq(rmdir(state), 0);

    ck_assert_int_eq(symlink("elsewhere", t.output), 0);
    start_applying_agent();
    agent_program_wait_log(&t, "the output is a symbolic link");
    desire(1, "one");
    expect_applied(1);
    agent_program_stop(&t);

    ck_assert_int_eq(mkdir(dir, 0755), 0);
    agent_program_write(current, "someone else's");
    agent_program_start(&t, (const char *const[]){"--output-dir", dir, NULL}, NULL);
    agent_program_wait_log(&t, "so someone else made it");
    desire(2, "two");
    expect_applied(2);
    agent_program_stop(&t);
    agent_program_start(&t, (const char *const[]){"--output-dir", dir, NULL}, NULL);
    agent_program_wait_log(&t, "runs already");
    said = test_read_file(t.program.log);
    CHECK(strstr(said, "made it") == NULL);
    free(said);
    free(current);
    free(dir);
    free(state);
    end();
}
END_TEST

/* ---- dying ----------------------------------------------------------------------------------- */

static int read_pid(const char *path)
{
    char *text = test_read_file(path);
    const int pid = (int)strtol(text, NULL, 10);
    free(text);
    return pid;
}

#define HANG_ON_TWO                                                                                \
    "if [ $HEADWATER_REVISION = 2 ] && [ ! -e \"$HEADWATER_FILE.go\" ]; then "                     \
    "echo $$ > \"$HEADWATER_FILE.pid\"; sleep 600; fi"

START_TEST(test_sigterm_while_applying)
{
    begin();
    write_script(HANG_ON_TWO);
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    agent_program_wait_runs(&t, "1 one\n2 two\n");
    char *pid_file = hw_sprintf("%s.pid", t.output);
    test_wait_for(read_pid(pid_file) > 0, WAIT_S);
    agent_program_stop(&t); /* within 5 s, with 0 */
    ck_assert(test_reap(read_pid(pid_file), WAIT_S, NULL));
    json_decref(expect("applied", 1, NULL));

    /* The next start goes back first, then does what is desired. */
    char *go = hw_sprintf("%s.go", t.output);
    write_file(go, "");
    start_applying_agent();
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n2 two\n");
    CHECK(agent_program_file_is(t.output, "two"));
    free(go);
    free(pid_file);
    end();
}
END_TEST

START_TEST(test_kill_while_applying)
{
    begin();
    write_script(HANG_ON_TWO);
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    agent_program_wait_runs(&t, "1 one\n2 two\n");
    char *pid_file = hw_sprintf("%s.pid", t.output);
    test_wait_for(read_pid(pid_file) > 0, WAIT_S);
    const int orphan = read_pid(pid_file);
    /* The agent writes down whom it has started when the command may be at work already. */
    char *record = hw_sprintf("%s/command", t.state_dir);
    test_wait_for(read_pid(record) == orphan, WAIT_S);
    free(record);
    agent_program_kill(&t);
    ck_assert(!test_reap(orphan, 0, NULL));

    /* Without NATS the node runs the last known good, and the orphan is gone. */
    upstream_stop(&t.up);
    start_applying_agent();
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n");
    agent_program_wait_log(&t, "left running");
    ck_assert(test_reap(orphan, WAIT_S, NULL));
    CHECK(agent_program_file_is(t.output, "one"));
    agent_program_wait_log(&t, "the last known good runs again");

    char *go = hw_sprintf("%s.go", t.output);
    write_file(go, "");
    upstream_restart(&t.up);
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n2 two\n");
    free(go);
    free(pid_file);
    end();
}
END_TEST

/* While going back the file is right already, but the command has not run for it: the next start
 * knows. */
START_TEST(test_kill_while_going_back)
{
    begin();
    write_script("if [ $HEADWATER_REVISION = 2 ]; then exit 1; fi\n"
                 "if [ -e \"$HEADWATER_FILE.hang\" ]; then sleep 600; fi");
    char *hang = hw_sprintf("%s.hang", t.output);
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    write_file(hang, "");
    desire(2, "two");
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n");
    CHECK(agent_program_file_is(t.output, "one"));
    agent_program_kill(&t);
    unlink(hang);
    start_applying_agent();
    json_decref(expect("failed", 1, "apply"));
    /* Back first; then what is desired, of which no verdict was on disk yet. */
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n1 one\n2 two\n1 one\n");
    free(hang);
    end();
}
END_TEST

/* A document whose command takes the agent down with it is given up. */
START_TEST(test_document_that_kills_the_agent_is_given_up)
{
    begin();
    write_script("if [ $HEADWATER_REVISION = 2 ]; then kill -9 $PPID; sleep 600; fi");
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    desire(2, "two");
    for (int i = 0; i < 3; i++) {
        test_wait_for(!test_program_running(&t.program), WAIT_S);
        agent_program_kill(&t);
        start_applying_agent();
    }
    json_t *report = expect("failed", 1, "apply");
    ck_assert_int_eq(revision_at(report, "failed"), 2);
    CHECK(strstr(upstream_text(report, "failed", "error"), "again and again") != NULL);
    json_decref(report);
    CHECK(agent_program_file_is(t.output, "one"));
    agent_program_stop(&t);
    start_applying_agent();
    agent_program_wait_log(&t, "runs already");
    desire(3, "three");
    expect_applied(3);
    agent_program_wait_runs(&t, "1 one\n2 two\n1 one\n2 two\n1 one\n2 two\n1 one\n3 three\n");
    end();
}
END_TEST

/* Killed again and again at random moments: the file is always one of the documents, whole, and in
 * the end the newest, as the report says. */
START_TEST(test_killed_at_random)
{
    enum { ROUNDS = 40, SIZE = 300000 };
    char *content = hw_alloc(SIZE + 1);
    begin();
    write_script("sleep 0.02");
    for (int round = 1; round <= ROUNDS; round++) {
        start_applying_agent();
        memset(content, 'a' + round % 26, SIZE);
        desire(round, content);
        upstream_turn(&t.up, arc4random_uniform(120));
        agent_program_kill(&t);
        if (access(t.output, F_OK) == 0) {
            char *found = test_read_file(t.output);
            ck_assert_uint_eq(strlen(found), SIZE);
            CHECK(strspn(found, (char[2]){found[0], '\0'}) == SIZE);
            free(found);
        }
    }
    start_applying_agent();
    agent_program_wait_log(
        &t, "connected to NATS"); /* the report may be the one before's; this one must live, too */
    expect_applied(ROUNDS);
    CHECK(agent_program_file_is(t.output, content));
    free(content);
    end();
}
END_TEST

START_TEST(test_sigterm_with_nats_hanging)
{
    begin();
    START_AGENT("--poll", "200ms");
    desire(1, "one");
    expect_applied(1);
    kill(t.up.server.pid, SIGSTOP);
    agent_program_wait_log(&t, "cannot read the desired entry");
    agent_program_stop(&t); /* within 5 s, with 0 */
    kill(t.up.server.pid, SIGCONT);
    end();
}
END_TEST

/* ---- NATS comes and goes --------------------------------------------------------------------- */

START_TEST(test_survives_a_restart_of_nats)
{
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    for (int round = 2; round < 5; round++) {
        upstream_stop(&t.up);
        upstream_restart(&t.up);
        char *content = hw_sprintf("content %d", round);
        desire(round, content);
        expect_applied(round);
        CHECK(agent_program_file_is(t.output, content));
        free(content);
    }
    CHECK(test_program_running(&t.program));
    end();
}
END_TEST

/* All of NATS is lost: the node goes on, and reports anew what runs. */
START_TEST(test_reports_again_when_nats_lost_everything)
{
    begin();
    start_applying_agent();
    desire(1, "one");
    expect_applied(1);
    upstream_stop(&t.up);
    test_nats_wipe(&t.up.server);
    upstream_restart(&t.up);
    CHECK(get_report(NULL) == NULL);
    upstream_make_buckets(&t.up);
    expect_applied(1);
    /* The reconciler brings back what is desired: nothing is new. */
    desire(1, "one");
    desire(2, "two");
    expect_applied(2);
    agent_program_wait_runs(&t, "1 one\n2 two\n");
    end();
}
END_TEST

/* Without a hint, the timer finds what is new and what is missing. */
START_TEST(test_poll_finds_what_no_hint_told)
{
    begin_without_buckets();
    const struct hw_kv_config silent = {.bucket = "headwater", .history = 16, .replicas = 1};
    struct hw_kv_stream stream;
    OK(hw_kv_ensure(t.up.nats, &silent, &stream, &err));
    upstream_make_buckets(&t.up);
    START_AGENT("--poll", "300ms");
    agent_program_wait_log(&t, "connected to NATS");
    desire(1, "one");
    expect_applied(1);
    natsMsg *msg;
    OK(hw_kv_message("headwater_reports", "cfg.reported." NODE, NULL, 0, &msg, &err));
    OK(hw_nats_publish_wait(t.up.nats, msg, HW_SEQ_ANY, NULL, &err));
    const double until = test_deadline(WAIT_S);
    for (struct hw_kv_entry entry = {.deleted = true}; entry.deleted;) {
        upstream_turn(&t.up, 10);
        OK(hw_kv_get(t.up.nats, "headwater_reports", "cfg.reported." NODE, &entry, &err));
        const bool deleted = entry.deleted;
        hw_kv_entry_clear(&entry);
        entry.deleted = deleted;
        CHECK(test_now() < until);
    }
    end();
}
END_TEST

START_TEST(test_memory_when_idle)
{
    begin();
    start_agent();
    const size_t size = 16 << 20;
    char *data = malloc(size);
    memset(data, 'x', size);
    desire_bytes(1, data, size);
    free(data);
    expect_applied(1);
    /* It reports before it lets go of the document. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    test_wait_for(test_own_kib(t.program.pid) < 6 << 10, WAIT_S);
#endif
    printf("its own after a document of 16 MiB: %ld KiB\n", test_own_kib(t.program.pid));
    end();
}
END_TEST

TEST_MAIN("agent", 120, test_applies_documents_of_every_size, test_report_is_complete,
          test_command_gets_its_environment, test_same_content_is_not_applied_again,
          test_deletion_keeps_what_runs, test_newest_wins, test_splay_waits_and_takes_the_newest,
          test_wrong_object_is_refused, test_missing_object_is_waited_for,
          test_garbage_entries_are_refused, test_older_fence_is_refused, test_hints_are_only_hints,
          test_failed_apply_goes_back, test_failure_is_over_when_what_runs_is_desired_again,
          test_failed_first_apply_leaves_what_was_there, test_command_that_hangs_is_stopped,
          test_missing_command_is_waited_for, test_missing_directory_is_waited_for,
          test_restart_does_not_apply_again, test_starts_from_disk,
          test_starts_before_nats_and_its_buckets, test_damaged_state_is_fetched_again,
          test_lost_copy_is_fetched_again, test_missing_copy_is_made_again,
          test_state_directory_is_for_one_agent, test_usage, test_what_is_in_the_way_is_told,
          test_sigterm_while_applying, test_kill_while_applying, test_kill_while_going_back,
          test_document_that_kills_the_agent_is_given_up, test_killed_at_random,
          test_sigterm_with_nats_hanging, test_survives_a_restart_of_nats,
          test_reports_again_when_nats_lost_everything, test_poll_finds_what_no_hint_told,
          test_memory_when_idle)
