/* headwater-api as a test runs it: a private port, ready when the call returns. */
#ifndef TEST_API_PROGRAM_H
#define TEST_API_PROGRAM_H

#include "tests/support/servers.h"

struct test_api {
    struct test_program program;
    int port;
};
/* options: further flags, NULL-terminated, or NULL. Waits for /readyz. */
void test_api_start(struct test_api *api, const char *database, const char *const options[]);
/* With --tls-cert and --tls-key among the options; ca: the authority of that certificate, which
 * names localhost. */
void test_api_start_tls(struct test_api *api, const char *database, const char *ca,
                        const char *const options[]);
/* SIGTERM; fails the test unless it exits 0 and its log holds no error. */
void test_api_stop(struct test_api *api);

#endif
