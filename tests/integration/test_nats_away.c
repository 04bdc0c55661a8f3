/*
 * Why NATS cannot be reached: every reason is found and put into words that tell what to do, by the
 * connection, by the agent as a program and as a library, once, and then its end. No password is in
 * any of it.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/library/headwater_agent.h"
#include "base/memory.h"
#include "common/loop.h"
#include "nats/connection.h"
#include "tests/support/nats_keys.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

#define WAIT_MS 60000
#define SECRET  "not-to-be-seen"

static struct hw_loop *loop;
static struct hw_nats *nats;
static struct hw_error err;
static char why[1024], url_shown[256];
static bool up, told;
static int times_told;
static int64_t was_away;

static void on_up(void *arg)
{
    (void)arg;
    up = true;
    was_away = hw_nats_was_away(nats);
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
    told = true;
    times_told++;
    snprintf(why, sizeof(why), "%s", away->why);
    snprintf(url_shown, sizeof(url_shown), "%s", away->url);
}

static void open_nats(const char *url, const struct hw_nats_files *files)
{
    const struct hw_nats_options options = {
        .url = url, .name = "test", .files = files != NULL ? *files : (struct hw_nats_files){0}};
    const struct hw_nats_events events = {.up = on_up, .down = on_down, .away = on_away};

    up = told = false;
    times_told = 0;
    why[0] = '\0';
    ck_assert_msg(hw_nats_open(loop, &options, &events, &nats, &err) == HW_OK, "%s", err.message);
}

static void turn_until(const bool *flag)
{
    ck_assert_msg(hw_loop_run_until(loop, flag, WAIT_MS), "timed out; why: %s", why);
}

/* It is said what was found, and what to do. */
static void check_says(const char *url, const struct hw_nats_files *files, const char *found,
                       const char *advice)
{
    const bool never = false;

    open_nats(url, files);
    turn_until(&told);
    for (const double until = test_now() + 60; strstr(why, found) == NULL && test_now() < until;)
        hw_loop_run_until(loop, &never, 10);
    ck_assert_msg(strstr(why, found) != NULL && strstr(why, advice) != NULL, "%s", why);
    ck_assert_str_eq(hw_nats_why_away(nats), why);
    ck_assert(!up);
    ck_assert_ptr_null(strstr(why, SECRET));
    ck_assert_ptr_null(strstr(url_shown, SECRET));
    ck_assert_ptr_null(strstr(hw_nats_url(nats), SECRET));
    hw_nats_close(nats);
}

static void setup(void)
{
    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
}

static void teardown(void)
{
    hw_loop_free(loop);
}

/* Listens on a port of its own, and never says a word. */
static int listen_silently(int *port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void on_stranger(void *arg, short revents)
{
    static const char banner[] = "SSH-2.0-OpenSSH_9.2\r\n";
    const int fd = accept(*(int *)arg, NULL, NULL);

    (void)revents;
    if (fd < 0)
        return;
    (void)!send(fd, banner, strlen(banner), MSG_NOSIGNAL); /* it may have gone meanwhile */
    close(fd);
}

START_TEST(test_nobody_there)
{
    HW_AUTO_FREE char *url = hw_sprintf("nats://daq:" SECRET "@127.0.0.1:%d", test_free_port());

    check_says(url, NULL, "connection refused: nothing listens at 127.0.0.1 port",
               "HEADWATER_NATS_URL");
    check_says("nats://" SECRET "@no-such-host.invalid:4222", NULL, "cannot be resolved",
               "correct the host in --nats");
}
END_TEST

START_TEST(test_strangers)
{
    int port, fd = listen_silently(&port);
    HW_AUTO_FREE char *url = hw_sprintf("nats://127.0.0.1:%d", port);
    HW_AUTO_FREE char *tls = hw_sprintf("tls://127.0.0.1:%d", port);

    check_says(url, NULL, "says nothing: it is not a NATS server", "Correct host and port");
    check_says(tls, NULL, "handshake_first", "Correct host and port");
    struct hw_io *io = hw_io_add(loop, fd, POLLIN, on_stranger, &fd);
    check_says(url, NULL, "it says \"SSH-2.0-OpenSSH_9.2\"", "is not a NATS server");
    hw_io_remove(io);
    close(fd);
}
END_TEST

/* A NATS server with this configuration; %s: the directory with the certificates. */
static void start_server(struct test_nats *server, const char *dir, const char *config)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/nats.conf", dir);
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(config, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    test_nats_start(server);
    server->config = hw_strdup(path);
    test_nats_stop(server);
    test_nats_restart(server);
}

static char *tls_config(const char *dir, const char *certificate, bool verify)
{
    return hw_sprintf("tls {cert_file: \"%s/%s.pem\", key_file: \"%s/server.key\", ca_file: "
                      "\"%s/ca.pem\", verify: %s}\n",
                      dir, certificate, dir, dir, verify ? "true" : "false");
}

START_TEST(test_tls)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *ca = hw_sprintf("%s/ca.pem", dir), *other = hw_sprintf("%s/other.pem", dir);
    HW_AUTO_FREE char *cert = hw_sprintf("%s/client.pem", dir);
    HW_AUTO_FREE char *key = hw_sprintf("%s/client.key", dir);
    static const char expire[] =
        "cd \"$0\" && openssl req -new -key server.key -subj /CN=server -out csr && openssl x509 "
        "-req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext -days 0 -out "
        "expired.pem";
    struct test_nats server;

    test_nats_certificates(dir);
    ck_assert_int_eq(
        test_program_run((const char *[]){"/bin/sh", "-c", expire, dir, NULL}, NULL, NULL, NULL),
        0);
    HW_AUTO_FREE char *lenient = tls_config(dir, "server", false);
    start_server(&server, dir, lenient);
    HW_AUTO_FREE char *plain = hw_sprintf("nats://localhost:%d", server.port);
    HW_AUTO_FREE char *secure = hw_sprintf("tls://localhost:%d", server.port);
    HW_AUTO_FREE char *address = hw_sprintf("tls://127.0.0.1:%d", server.port);

    check_says(plain, NULL, "requires TLS", "write tls:// in --nats");
    check_says(secure, &(struct hw_nats_files){.ca = other}, "not of an authority that is trusted",
               "--nats-ca must name the file");
    check_says(secure, NULL, "not of an authority that is trusted", "with --nats-ca");
    check_says(address, &(struct hw_nats_files){.ca = ca}, "does not name 127.0.0.1",
               "must name the URL's host");
    test_nats_remove(&server);
    free(server.config);

    HW_AUTO_FREE char *strict = tls_config(dir, "server", true);
    start_server(&server, dir, strict);
    HW_AUTO_FREE char *asking = hw_sprintf("tls://localhost:%d", server.port);
    check_says(asking, &(struct hw_nats_files){.ca = ca}, "certificate", "--nats-cert");
    open_nats(asking, &(struct hw_nats_files){.ca = ca, .cert = cert, .key = key});
    turn_until(&up);
    ck_assert_str_eq(hw_nats_why_away(nats), "");
    hw_nats_close(nats);
    test_nats_remove(&server);
    free(server.config);

    HW_AUTO_FREE char *old = tls_config(dir, "expired", false);
    start_server(&server, dir, old);
    HW_AUTO_FREE char *expired = hw_sprintf("tls://localhost:%d", server.port);
    check_says(expired, &(struct hw_nats_files){.ca = ca}, "has expired", "renew it");
    test_nats_remove(&server);
    free(server.config);

    test_nats_start(&server);
    HW_AUTO_FREE char *without = hw_sprintf("tls://localhost:%d", server.port);
    check_says(without, &(struct hw_nats_files){.ca = ca}, "has no TLS",
               "switch it on at the server");
    test_nats_remove(&server);
}
END_TEST

START_TEST(test_authorization)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    struct test_nats server;

    start_server(&server, dir, "authorization {user: daq, password: \"right\"}\n");
    HW_AUTO_FREE char *nobody = hw_sprintf("nats://127.0.0.1:%d", server.port);
    HW_AUTO_FREE char *wrong = hw_sprintf("nats://daq:" SECRET "@127.0.0.1:%d", server.port);

    check_says(nobody, NULL, "authorization", "--nats-creds or --nats-nkey");
    check_says(wrong, NULL, "authorization", "user and password in the URL");
    test_nats_remove(&server);
    free(server.config);
}
END_TEST

START_TEST(test_told_once_and_its_end)
{
    const bool never = false;
    struct test_nats server;

    test_nats_start(&server);
    open_nats(server.url, NULL);
    turn_until(&up);
    ck_assert_int_eq(times_told, 0);
    ck_assert_int_eq(was_away, 0);
    test_nats_stop(&server);
    turn_until(&told);
    ck_assert(!hw_nats_up(nats));
    hw_loop_run_until(loop, &never, 3000);
    ck_assert_int_eq(times_told, 1);
    test_nats_restart(&server);
    turn_until(&up);
    ck_assert_int_ge(was_away, 2000);
    ck_assert_str_eq(hw_nats_why_away(nats), "");
    hw_nats_close(nats);
    test_nats_remove(&server);
}
END_TEST

/* Closing does not wait for a probe that is under way: here for a greeting. */
START_TEST(test_closes_while_it_looks)
{
    int port, fd = listen_silently(&port);
    HW_AUTO_FREE char *url = hw_sprintf("nats://127.0.0.1:%d", port);
    const bool never = false;

    for (int i = 0; i < 5; i++) {
        open_nats(url, NULL);
        hw_loop_run_until(loop, &never, (int64_t)20 * i);
        hw_nats_close(nats);
    }
    close(fd);
}
END_TEST

static int times_in(const char *path, const char *text)
{
    HW_AUTO_FREE char *log = test_read_file(path);
    int times = 0;

    for (const char *p = log; (p = strstr(p, text)) != NULL; p++)
        times++;
    return times;
}

START_TEST(test_the_agent_says_so)
{
    HW_AUTO_FREE char *dir = test_temp_dir();
    HW_AUTO_FREE char *state = hw_sprintf("%s/state", dir), *output = hw_sprintf("%s/out", dir);
    HW_AUTO_FREE char *other = hw_sprintf("%s/other", dir);
    struct test_program program;
    struct test_nats server;
    struct headwater_agent_options options;
    struct headwater_agent_status status;
    struct headwater_agent *agent;
    char error[HEADWATER_AGENT_ERROR_MAX];

    test_nats_start(&server);
    test_nats_stop(&server);
    HW_AUTO_FREE char *url = hw_sprintf("nats://daq:" SECRET "@127.0.0.1:%d", server.port);
    HW_AUTO_FREE char *shown = hw_sprintf("nats://127.0.0.1:%d: connection refused", server.port);
    const char *const argv[] = {"headwater-agent", "--nats", url,           "--node", "n1",
                                "--output",        output,   "--state-dir", state,    NULL};

    test_program_start(&program, argv, NULL);
    test_wait_for(times_in(program.log, shown) > 0, 60);

    /* The library, whose program may have no log. */
    headwater_agent_options_init(&options);
    options.nats_url = url;
    options.node = "n2";
    options.state_dir = other;
    options.output = output;
    ck_assert_msg(headwater_agent_new(&options, &agent, error) == 0, "%s", error);
    test_wait_for((headwater_agent_get_status(agent, &status, sizeof(status)),
                   strstr(status.nats_error, "connection refused") != NULL),
                  60);
    ck_assert_int_eq(status.connected, 0);
    ck_assert_ptr_null(strstr(status.nats_error, SECRET));

    ck_assert_int_eq(times_in(program.log, "msg=\"NATS cannot be reached; going on"), 1);
    test_nats_restart(&server);
    test_wait_for(times_in(program.log, "connected to NATS") > 0, 60);
    test_wait_for((headwater_agent_get_status(agent, &status, sizeof(status)),
                   status.connected && status.nats_error[0] == '\0'),
                  60);
    headwater_agent_free(agent);
    ck_assert_int_eq(test_program_stop(&program, SIGTERM), 0);
    ck_assert_int_eq(times_in(program.log, SECRET), 0);
    test_nats_remove(&server);
}
END_TEST

TEST_MAIN_BETWEEN("nats away", 240, setup, teardown, test_nobody_there, test_strangers, test_tls,
                  test_authorization, test_told_once_and_its_end, test_closes_while_it_looks,
                  test_the_agent_says_so)
