/*
 * Files by which a client proves who it is are renewed while it runs: at a reconnect and when it is
 * told to, it takes the new ones up; those that cannot be used leave it as it is; and it says in
 * time what has to be renewed, and afterwards what was not.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "common/loop.h"
#include "nats/connection.h"
#include "nats/nkey.h"
#include "tests/support/agent_program.h"
#include "tests/support/nats_keys.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum { WAIT_MS = 60000, DAY_S = 86400 };

static struct hw_loop *loop;
static struct hw_nats *nats;
static struct hw_error err;
static struct test_nats server;
static char *dir, *ca, *cert, *key, *seed;
static bool up, refused, ageing, unusable;
static char why[1024], told[1024];
static int times_up;

static void on_up(void *arg)
{
    (void)arg;
    up = true;
    times_up++;
}

static void on_down(void *arg, const char *text)
{
    (void)arg;
    (void)text;
    up = false;
}

static void on_away(void *arg, const struct hw_nats_away *away)
{
    (void)arg;
    snprintf(why, sizeof(why), "%s", away->why);
    refused = strstr(why, "refuses this client's certificate") != NULL;
}

static void on_files(void *arg, bool warn, const char *what, const char *detail)
{
    (void)arg;
    if (!warn)
        return;
    ageing |= strstr(what, "is to be renewed") != NULL;
    unusable |= strstr(what, "cannot be read again") != NULL;
    snprintf(told, sizeof(told), "%s", detail);
}

static void open_nats(const struct hw_nats_files *files)
{
    HW_AUTO_FREE char *url =
        hw_sprintf("%s://localhost:%d", files->ca != NULL ? "tls" : "nats", server.port);
    const struct hw_nats_options options = {.url = url, .name = "test", .files = *files};
    const struct hw_nats_events events = {
        .up = on_up, .down = on_down, .away = on_away, .files = on_files};

    ck_assert_msg(hw_nats_open(loop, &options, &events, &nats, &err) == HW_OK, "%s", err.message);
}

static void turn_until(const bool *flag)
{
    ck_assert_msg(hw_loop_run_until(loop, flag, test_patient_ms(WAIT_MS)), "timed out; %s; %s", why,
                  told);
}

static void configure(const char *text)
{
    free(server.config);
    server.config = hw_sprintf("%s/nats.conf", dir);
    agent_program_write(server.config, text);
}

static void start_server(char *text)
{
    test_nats_start(&server);
    test_nats_stop(&server);
    configure(text);
    test_nats_restart(&server);
    free(text);
}

static void setup(void)
{
    dir = test_temp_dir();
    ca = hw_sprintf("%s/ca.pem", dir);
    cert = hw_sprintf("%s/mine.pem", dir);
    key = hw_sprintf("%s/client.key", dir);
    seed = hw_sprintf("%s/mine.nk", dir);
    test_nats_certificates(dir);
    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
}

static void teardown(void)
{
    hw_nats_close(nats);
    hw_loop_free(loop);
    test_nats_remove(&server);
    free(server.config);
    free(dir);
    free(ca);
    free(cert);
    free(key);
    free(seed);
}

static char *strict(void)
{
    return hw_sprintf("tls {cert_file: \"%s/server.pem\", key_file: \"%s/server.key\", ca_file: "
                      "\"%s/ca.pem\", verify: true}\n",
                      dir, dir, dir);
}

/* It has expired, which the client says, and goes in with the next one by itself. */
START_TEST(test_expired)
{
    start_server(strict());
    test_nats_certificate(dir, "mine", "client.key", -2L * DAY_S, -DAY_S);
    open_nats(&(struct hw_nats_files){.ca = ca, .cert = cert, .key = key});
    turn_until(&refused);
    ck_assert_msg(strstr(why, cert) != NULL && strstr(why, "expired on") != NULL, "%s", why);
    ck_assert(ageing && !up);
    test_nats_certificate(dir, "mine", "client.key", -DAY_S, 90L * DAY_S);
    turn_until(&up);
}
END_TEST

START_TEST(test_told_to)
{
    const bool never = false;

    start_server(strict());
    test_nats_certificate(dir, "mine", "client.key", -DAY_S, 10L * DAY_S);
    open_nats(&(struct hw_nats_files){.ca = ca, .cert = cert, .key = key});
    turn_until(&up);
    turn_until(&ageing);
    ck_assert_msg(strstr(told, cert) != NULL && strstr(told, "expires on") != NULL, "%s", told);
    ck_assert(!hw_nats_reload(nats));

    /* A half of it: the connection stays. */
    agent_program_write(cert, "to be written");
    ck_assert(!hw_nats_reload(nats));
    ck_assert(unusable);
    hw_loop_run_until(loop, &never, 100);
    ck_assert_int_eq(times_up, 1);

    test_nats_certificate(dir, "mine", "client.key", -DAY_S, 90L * DAY_S);
    ck_assert(hw_nats_reload(nats));
    up = false;
    turn_until(&up);
    ck_assert_int_eq(times_up, 2);
    ck_assert_msg(strstr(told, cert) == NULL, "%s", told);
    ck_assert(!hw_nats_reload(nats));
}
END_TEST

static char *only_user(void)
{
    char public_key[HW_NKEY_PUBLIC_MAX];

    ck_assert_int_eq(hw_nkey_public_of_file(seed, public_key, &err), HW_OK);
    return hw_sprintf("authorization {users: [{nkey: %s}]}\n", public_key);
}

/* The server knows another key after its restart, and the client has it. */
START_TEST(test_at_a_reconnect)
{
    test_nats_seed(seed);
    start_server(only_user());
    open_nats(&(struct hw_nats_files){.nkey = seed});
    turn_until(&up);
    test_nats_stop(&server);
    test_nats_seed(seed);
    HW_AUTO_FREE char *text = only_user();
    configure(text);
    test_nats_restart(&server);
    while (times_up < 2) {
        up = false;
        turn_until(&up);
    }
}
END_TEST

TEST_MAIN_BETWEEN("renewed", 180, setup, teardown, test_expired, test_told_to, test_at_a_reconnect)
