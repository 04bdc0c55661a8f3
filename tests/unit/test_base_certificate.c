/* How long certificates are good for: of a chain the first to end counts, of authorities the last.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/certificate.h"
#include "base/memory.h"
#include "common/clock.h"
#include "tests/support/nats_keys.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

enum { DAY_S = 86400 };

static char *dir;
static struct hw_error err;

static void setup(void)
{
    dir = test_temp_dir();
    test_nats_certificates(dir);
    test_nats_certificate(dir, "long", "client.key", -DAY_S, 90L * DAY_S);
    test_nats_certificate(dir, "short", "client.key", -DAY_S, 10L * DAY_S + 60);
    test_nats_certificate(dir, "over", "client.key", -2L * DAY_S, -DAY_S);
    test_nats_certificate(dir, "later", "client.key", DAY_S, 90L * DAY_S);
}

static void teardown(void)
{
    free(dir);
}

static enum hw_validity look(const char *name, enum hw_certificate_kind kind, const char *says)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/%s.pem", dir, name);
    char text[HW_CERTIFICATE_TEXT_MAX];
    enum hw_validity validity;

    ck_assert_msg(hw_certificate_look(path, kind, hw_clock_now() / 1000000000, &validity, text,
                                      &err) == HW_OK,
                  "%s", err.message);
    ck_assert_msg(strstr(text, says) != NULL, "%s", text);
    return validity;
}

static void join(const char *name, const char *first, const char *second)
{
    HW_AUTO_FREE char *line =
        hw_sprintf("cd '%s' && cat %s.pem %s.pem > %s.pem", dir, first, second, name);

    ck_assert_int_eq(
        test_program_run((const char *[]){"/bin/sh", "-c", line, NULL}, NULL, NULL, NULL), 0);
}

START_TEST(test_one)
{
    ck_assert_int_eq(look("long", HW_CERTIFICATE_CHAIN, ""), HW_VALID);
    ck_assert_int_eq(look("short", HW_CERTIFICATE_CHAIN, ", in 10 days"), HW_EXPIRES_SOON);
    ck_assert_int_eq(look("over", HW_CERTIFICATE_CHAIN, "expired on "), HW_EXPIRED);
    ck_assert_int_eq(look("later", HW_CERTIFICATE_CHAIN, "is not valid before "), HW_NOT_YET_VALID);
}
END_TEST

START_TEST(test_several)
{
    join("both", "long", "over");
    ck_assert_int_eq(look("both", HW_CERTIFICATE_CHAIN, "expired on "), HW_EXPIRED);
    ck_assert_int_eq(look("both", HW_AUTHORITIES, ""), HW_VALID);
    join("all", "over", "short");
    ck_assert_int_eq(look("all", HW_AUTHORITIES, "expires on "), HW_EXPIRES_SOON);
}
END_TEST

START_TEST(test_none)
{
    HW_AUTO_FREE char *key = hw_sprintf("%s/client.key", dir);
    HW_AUTO_FREE char *missing = hw_sprintf("%s/missing.pem", dir);
    enum hw_validity validity;

    ck_assert_int_eq(hw_certificate_look(key, HW_AUTHORITIES, 0, &validity, NULL, &err), HW_EINVAL);
    ck_assert_int_eq(hw_certificate_look(missing, HW_AUTHORITIES, 0, &validity, NULL, NULL),
                     HW_ENOENT);
}
END_TEST

TEST_MAIN_BETWEEN("certificate", 30, setup, teardown, test_one, test_several, test_none)
