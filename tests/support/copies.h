/*
 * Copies of a database server, as operations make them: a clone of its files, a dump that is
 * restored elsewhere.
 */
#ifndef TEST_COPIES_H
#define TEST_COPIES_H

#include "tests/support/servers.h"

/* A copy of the files of a running server, started at a port of its own as a primary that goes on
 * from where they stood (a standby of it is test_standby_start). test_postgres_remove. */
void test_postgres_clone(const struct test_postgres *of, struct test_postgres *clone);

/* A server whose system identifier is its own: the others of a program share theirs. Migrated. */
void test_postgres_start_other(struct test_postgres *pg);

/* Puts a dump of the one's database in the place of the other's. */
void test_postgres_restore_dump(const struct test_postgres *from, const struct test_postgres *to);

#endif
