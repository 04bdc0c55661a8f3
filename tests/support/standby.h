/* A standby of a test's PostgreSQL, which streams from it and can be promoted. */
#ifndef TEST_STANDBY_H
#define TEST_STANDBY_H

#include "tests/support/servers.h"

/* From a base backup, with a physical slot of this name on the primary (or NULL: none). extra:
 * further lines of postgresql.conf, or NULL. Ready when the call returns; as test_postgres_start.
 */
void test_standby_start(const struct test_postgres *primary, const char *slot, const char *extra,
                        struct test_postgres *standby);

/* SELECT pg_promote(); takes writes when the call returns. */
void test_standby_promote(const struct test_postgres *standby);

/* Waits until it has replayed all that is committed on the primary now. */
void test_standby_wait(const struct test_postgres *primary, const struct test_postgres *standby);

#endif
