/*
 * Signed desired state: the reconciler signs all that it writes and finds what is not signed right;
 * an agent that trusts a key runs nothing else, and says why.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "tests/support/agent_program.h"
#include "tests/support/nats_keys.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

#define NODE "daq-1"
#define OK(call)                                                                                   \
    do {                                                                                           \
        const enum hw_status status_ = (call);                                                     \
        ck_assert_msg(status_ == HW_OK, "%s", err.message);                                        \
    } while (0)

static struct hw_error err;
static char *keys; /* directory of: one, two (trusted), stranger */

static char *key(const char *name)
{
    return hw_sprintf("%s/%s", keys, name);
}

static void make_keys(void)
{
    keys = test_temp_dir();
    test_sign_keys(keys, "one");
    test_sign_keys(keys, "two");
    test_sign_keys(keys, "stranger");
}

static struct hw_signer *signer_of(const char *name)
{
    HW_AUTO_FREE char *path = key(name);
    struct hw_signer *signer;

    OK(hw_signer_open(path, &signer, &err));
    return signer;
}

/* ---- the agent ------------------------------------------------------------------------------- */

static struct agent_program t;

static void begin(void)
{
    make_keys();
    agent_program_open(&t, NODE);
    t.up.signer = signer_of("one.key");
}

static void end(void)
{
    hw_signer_free(t.up.signer);
    agent_program_close(&t);
}

/* second: another key that is trusted, or NULL. */
static void start_agent(const char *first, const char *second)
{
    HW_AUTO_FREE char *one = key(first);
    HW_AUTO_FREE char *two = second != NULL ? key(second) : NULL;

    agent_program_start(&t,
                        (const char *const[]){"--output", t.output, "--poll", "1h", "--trust", one,
                                              two != NULL ? "--trust" : NULL, two, NULL},
                        NULL);
}

/* The entry that stands now, with another value or other headers. */
struct entry {
    char *value; /* NULL: a deletion */
    struct hw_fence fence;
    char *signature;
};

static struct entry read_entry(const char *node)
{
    HW_AUTO_FREE char *name = hw_sprintf("cfg.desired.%s", node);
    struct hw_kv_entry found;
    struct entry entry;

    OK(hw_kv_get(t.up.nats, "headwater", name, &found, &err));
    entry = (struct entry){.value = hw_strndup(found.value, found.size),
                           .fence = hw_entry_of(&found).fence,
                           .signature = hw_strdup(hw_entry_of(&found).signature)};
    hw_kv_entry_clear(&found);
    return entry;
}

static void free_entry(struct entry *entry)
{
    free(entry->value);
    free(entry->signature);
}

static void put(const char *value, const struct hw_fence *fence, const char *signature)
{
    upstream_put_signed(&t.up, NODE, value, value != NULL ? strlen(value) : 0, fence, signature);
}

/* Waits until the report says so of the desired entry, while revision 1 runs. */
static void expect_refused(const char *words)
{
    const double until = test_deadline(UPSTREAM_WAIT_S);

    for (bool said = false; !said;) {
        json_t *report = upstream_expect(&t.up, NODE, "rejected", 1, "verify");

        said = strstr(upstream_text(report, "failed", "error"), words) != NULL;
        ck_assert_msg(said || test_now() < until, "waited for \"%s\": %s", words,
                      upstream_text(report, "failed", "error"));
        json_decref(report);
    }
    ck_assert(agent_program_file_is(t.output, "one"));
}

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);

    ck_assert_msg(at != NULL, "no %s in %s", from, text);
    return hw_sprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

START_TEST(test_what_is_not_signed_so_is_refused)
{
    static const char *const edits[][2] = {
        {"\"revision\":2", "\"revision\":3"},
        {"\"size\":3", "\"size\":4"},
        {"text/plain", "text/x-shellscript"},
    };
    const struct hw_fence newer = {1, 0x1000};

    begin();
    start_agent("one.pub", NULL);
    agent_program_wait_log(&t, "only signed entries are believed");
    upstream_desire(&t.up, NODE, 1, "one");
    upstream_expect_applied(&t.up, NODE, 1);
    upstream_put_object(&t.up, "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
                        "two", 3);
    upstream_point(&t.up, "daq-2", 2, "two", 3, "text/plain", 0x20);
    struct entry other = read_entry("daq-2");

    /* Not signed, and signed by someone else. */
    HW_AUTO_FREE char *ours = replaced(other.value, "daq-2", NODE);
    put(ours, &other.fence, NULL);
    expect_refused("it is not signed");
    put(ours, &other.fence, "nonsense");
    expect_refused("is not a signature");
    struct hw_signer *const own = HW_TAKE(t.up.signer);
    t.up.signer = signer_of("stranger.key");
    upstream_point(&t.up, NODE, 2, "two", 3, "text/plain", 0x20);
    expect_refused("which is not trusted");
    hw_signer_free(t.up.signer);
    t.up.signer = own;

    /* Of another node: as it was, and with its name changed. */
    put(other.value, &other.fence, other.signature);
    expect_refused("it is for the node");
    put(ours, &other.fence, other.signature);
    expect_refused("not of this entry");

    /* Altered, member by member; only that is wrong with it. */
    HW_AUTO_FREE char *good = hw_signer_sign(
        t.up.signer,
        &(struct hw_statement){
            .node = NODE,
            .fence = other.fence,
            .digest = "sha256:3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
            .revision = 2,
            .size = 3,
            .media_type = "text/plain"});
    for (size_t i = 0; i < HW_COUNT(edits); i++) {
        HW_AUTO_FREE char *value = replaced(ours, edits[i][0], edits[i][1]);

        put(other.value, &other.fence, other.signature);
        expect_refused("it is for the node");
        put(value, &other.fence, good);
        expect_refused("not of this entry");
    }
    HW_AUTO_FREE char *later = replaced(ours, "0/20", "0/1000");
    put(other.value, &other.fence, other.signature);
    expect_refused("it is for the node");
    put(later, &newer, good);
    expect_refused("not of this entry");
    HW_AUTO_FREE char *epoch = replaced(ours, "\"epoch\":1", "\"epoch\":2");
    put(other.value, &other.fence, other.signature);
    expect_refused("it is for the node");
    put(epoch, &(struct hw_fence){2, 0x20}, good);
    expect_refused("not of this entry");
    put(other.value, &other.fence, other.signature);
    expect_refused("it is for the node");
    HW_AUTO_FREE char *object = replaced(ours, "3fc4ccfe745870e2", "7692c3ad3540bb80");
    HW_AUTO_FREE char *both =
        replaced(object, "\"object\":\"3fc4ccfe745870e2", "\"object\":\"7692c3ad3540bb80");
    put(both, &other.fence, good);
    expect_refused("not of this entry");

    /* Deletions count no less. */
    put(NULL, &newer, NULL);
    expect_refused("it is not signed");
    HW_AUTO_FREE char *of_other =
        hw_signer_sign(t.up.signer, &(struct hw_statement){.node = "daq-2", .fence = newer});
    put(NULL, &newer, of_other);
    expect_refused("not of this entry");

    /* None of it was believed in anything: what is newer than revision 1 is still newer. */
    put(ours, &other.fence, good);
    upstream_expect_applied(&t.up, NODE, 2);
    HW_AUTO_FREE char *deletion =
        hw_signer_sign(t.up.signer, &(struct hw_statement){.node = NODE, .fence = newer});
    put(NULL, &newer, deletion);
    agent_program_wait_log(&t, "nothing is desired any more");
    agent_program_stop(&t);
    free_entry(&other);
    end();
}
END_TEST

/* Signed once, and put back later by someone who kept it. */
START_TEST(test_what_was_signed_before_is_refused)
{
    begin();
    start_agent("one.pub", NULL);
    upstream_desire(&t.up, NODE, 1, "zero");
    struct entry old = read_entry(NODE);
    upstream_expect_applied(&t.up, NODE, 1);
    upstream_point(&t.up, NODE, 1, "one", 3, "application/json", 0x20);
    struct entry good = read_entry(NODE);
    upstream_put_object(&t.up, "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
                        "one", 3);
    agent_program_wait_file(&t, t.output, "one");
    put(old.value, &old.fence, old.signature);
    expect_refused("older than one accepted before");
    agent_program_stop(&t);
    start_agent("one.pub", NULL);
    expect_refused("older than one accepted before");
    put(good.value, &good.fence, good.signature);
    upstream_expect_applied(&t.up, NODE, 1);
    agent_program_stop(&t);
    free_entry(&old);
    free_entry(&good);
    end();
}
END_TEST

START_TEST(test_keys_are_rotated)
{
    begin();
    upstream_desire(&t.up, NODE, 1, "one");
    struct entry signed_by_one = read_entry(NODE);
    start_agent("one.pub", "two.pub");
    upstream_expect_applied(&t.up, NODE, 1);
    hw_signer_free(t.up.signer);
    t.up.signer = signer_of("two.key");
    upstream_point(&t.up, NODE, 1, "one", 3, "application/json", 0x20);
    agent_program_wait_log(&t, "desired anew with the same content");
    agent_program_stop(&t);

    start_agent("two.pub", NULL);
    agent_program_wait_log(&t, "connected to NATS");
    upstream_desire(&t.up, NODE, 3, "three");
    upstream_expect_applied(&t.up, NODE, 3);
    upstream_point(&t.up, NODE, 1, "one", 3, "application/json", 0x40);
    upstream_expect_applied(&t.up, NODE, 1);
    put(signed_by_one.value, &signed_by_one.fence, signed_by_one.signature);
    expect_refused("which is not trusted");
    agent_program_stop(&t);
    free_entry(&signed_by_one);
    end();
}
END_TEST

/* The file of a running agent is replaced; one that cannot be read changes nothing. */
START_TEST(test_keys_are_read_again)
{
    begin();
    HW_AUTO_FREE char *trusted = key("trusted.pub"), *two = key("two.pub"), *text = NULL;

    HW_AUTO_FREE char *one = key("one.pub"), *first = test_read_file(one);
    agent_program_write(trusted, first);
    start_agent("trusted.pub", NULL);
    upstream_desire(&t.up, NODE, 1, "one");
    upstream_expect_applied(&t.up, NODE, 1);
    agent_program_write(trusted, "half a key");
    kill(t.program.pid, SIGHUP);
    agent_program_wait_log(&t, "the keys from before stay in use");
    upstream_desire(&t.up, NODE, 2, "two");
    upstream_expect_applied(&t.up, NODE, 2);
    text = test_read_file(two);
    agent_program_write(trusted, text);
    kill(t.program.pid, SIGHUP);
    agent_program_wait_log(&t, "other keys are believed from now on");
    hw_signer_free(t.up.signer);
    t.up.signer = signer_of("two.key");
    upstream_desire(&t.up, NODE, 3, "three");
    upstream_expect_applied(&t.up, NODE, 3);
    agent_program_stop(&t);
    end();
}
END_TEST

START_TEST(test_an_agent_without_its_key_does_not_start)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *output = hw_sprintf("%s/output", dir);
    char *said;

    make_keys();
    HW_AUTO_FREE char *one = key("one.pub");
    HW_AUTO_FREE char *private = key("one.key");
    const char *const argv[] = {"headwater-agent", "--node", NODE,      "--output", output,
                                "--state-dir",     dir,      "--trust", one,        "--trust",
                                private,           NULL};
    ck_assert_int_eq(test_program_run(argv, NULL, NULL, &said), 1);
    ck_assert_msg(strstr(said, "--trust: ") != NULL && strstr(said, "no PEM public key") != NULL,
                  "%s", said);
    free(said);
}
END_TEST

/* ---- the reconciler -------------------------------------------------------------------------- */

static struct test_pipeline p;

static void start_signing(const char *name)
{
    HW_AUTO_FREE char *path = key(name);

    pipeline_start(&p, (const char *const[]){"--sign-key", path, NULL});
}

/* Are SQL and NATS equal, and is everything signed with this key? */
static bool verified(const char *name, char **said)
{
    HW_AUTO_FREE char *path = key(name);

    return test_program_run((const char *const[]){"headwater-reconciler", "verify", "--database",
                                                  p.pg.reconciler_url, "--nats", p.nats.url,
                                                  "--timeout", "20s", "--trust", path, NULL},
                            NULL, NULL, said) == 0;
}

static void wait_verified(const char *name)
{
    const double until = test_deadline(60);
    char *said = NULL;

    while (!verified(name, &said)) {
        ck_assert_msg(test_now() < until, "%s", said);
        free(said);
    }
    free(said);
}

START_TEST(test_all_that_is_written_is_signed)
{
    char *said;

    make_keys();
    pipeline_open(&p, NULL);
    start_signing("one.key");
    pipeline_make_nodes(&p, 3);
    pipeline_wait_until_caught_up(&p);
    free(test_sql(&p.pg, "UPDATE headwater.assignment SET node = 'n1', selector = NULL"));
    pipeline_wait_until_caught_up(&p);
    wait_verified("one.pub"); /* n2 and n3 have deletion markers by now */

    /* Who has another key, sees every entry. */
    ck_assert(!verified("two.pub", &said));
    for (int i = 1; i <= 3; i++) {
        HW_AUTO_FREE char *line = hw_sprintf("signature node=\"n%d\"", i);
        ck_assert_msg(strstr(said, line) != NULL, "%s", said);
    }
    free(said);

    /* What others wrote is healed, though it says what it should. */
    natsMsg *msg = pipeline_last(&p, "KV_headwater", DESIRED "n1");
    const char *epoch = NULL, *lsn = NULL;
    HW_AUTO_FREE char *value = pipeline_value(&p, "KV_headwater", DESIRED "n1");
    ck_assert_int_eq(natsMsgHeader_Get(msg, "Headwater-Epoch", &epoch), NATS_OK);
    ck_assert_int_eq(natsMsgHeader_Get(msg, "Headwater-LSN", &lsn), NATS_OK);
    pipeline_put(&p, DESIRED "n1", value, "Headwater-Epoch", epoch, "Headwater-LSN", lsn, NULL);
    pipeline_put(&p, DESIRED "n2", "", "KV-Operation", "DEL", "Headwater-Epoch", epoch,
                 "Headwater-LSN", lsn, NULL);
    natsMsg_Destroy(msg);
    test_wait_for(pipeline_log_says(&p, "not our signature on its deletion"), 60);
    wait_verified("one.pub");
    pipeline_stop(&p);

    /* Another key: every entry is written anew, once. */
    start_signing("two.key");
    wait_verified("two.pub");
    pipeline_set_content(&p, "{\"a\":2}");
    pipeline_wait_until_caught_up(&p);
    wait_verified("two.pub");
    const uint64_t before = pipeline_last_seq(&p, "KV_headwater");
    pipeline_stop(&p);
    start_signing("two.key");
    pipeline_wait_until_caught_up(&p);
    test_wait_for(pipeline_log_says(&p, "compared NATS with the database"), 60);
    struct pipeline_messages again = pipeline_messages(&p, before, DESIRED);
    ck_assert_uint_eq(again.count, 0);
    pipeline_messages_free(&again);
    pipeline_stop(&p);
    pipeline_close(&p);
}
END_TEST

START_TEST(test_a_key_that_everybody_reads_is_refused)
{
    char *said;

    make_keys();
    HW_AUTO_FREE char *path = key("one.key");
    const char *const argv[] = {"headwater-reconciler", "--database", "host=/nowhere",
                                "--sign-key",           path,         NULL};
    ck_assert_int_eq(chmod(path, 0644), 0);
    ck_assert_int_eq(test_program_run(argv, NULL, NULL, &said), 1);
    ck_assert_msg(strstr(said, "--sign-key: ") != NULL && strstr(said, "chmod") != NULL, "%s",
                  said);
    free(said);
}
END_TEST

TEST_MAIN("signed", 180, test_what_is_not_signed_so_is_refused,
          test_what_was_signed_before_is_refused, test_keys_are_rotated, test_keys_are_read_again,
          test_an_agent_without_its_key_does_not_start, test_all_that_is_written_is_signed,
          test_a_key_that_everybody_reads_is_refused)
