#include "tests/support/api_program.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/http.h"
#include "tests/support/process.h"

/* "… address=127.0.0.1:45123 …" in its log, or 0. */
static int served_port(const struct test_program *program)
{
    static const char sign[] = "address=127.0.0.1:";
    HW_AUTO_FREE char *log = test_read_file(program->log);
    const char *found = strstr(log, sign);

    return found != NULL ? (int)strtol(found + strlen(sign), NULL, 10) : 0;
}

static bool is_ready(int port)
{
    struct test_answer answer = test_http(port, "GET", "/readyz", NULL, NULL, 0);
    const bool ready = answer.status == 200;

    test_answer_free(&answer);
    return ready;
}

static bool is_ready_tls(int port, const char *ca)
{
    HW_AUTO_FREE char *url = hw_sprintf("https://localhost:%d/readyz", port);

    return test_program_run(
               (const char *const[]){"/usr/bin/env", "curl", "-sf", "--cacert", ca, url, NULL},
               NULL, NULL, NULL) == 0;
}

static void start(struct test_api *api, const char *database, const char *const options[])
{
    const char *argv[24] = {"headwater-api", "--database", database, "--listen", "127.0.0.1:0"};
    int count = 5;

    while (options != NULL && *options != NULL && count < 23)
        argv[count++] = *options++;
    test_program_start(&api->program, argv, NULL);
    test_wait_for(!test_program_running(&api->program) || (api->port = served_port(&api->program)),
                  30);
    if (api->port == 0) {
        test_print_tail(api->program.log);
        test_fail("headwater-api ended");
    }
}

void test_api_start(struct test_api *api, const char *database, const char *const options[])
{
    start(api, database, options);
    test_wait_for(is_ready(api->port), 30);
}

void test_api_start_tls(struct test_api *api, const char *database, const char *ca,
                        const char *const options[])
{
    start(api, database, options);
    test_wait_for(is_ready_tls(api->port, ca), 30);
}

void test_api_stop(struct test_api *api)
{
    const int status = test_program_stop(&api->program, SIGTERM);
    HW_AUTO_FREE char *log = test_read_file(api->program.log);

    if (status != 0 || strstr(log, "level=error") != NULL)
        test_fail("headwater-api ended with status %d:\n%s", status, log);
}
