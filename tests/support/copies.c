#include "tests/support/copies.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/standby.h"

static void run(const char *const argv[])
{
    char *said = NULL;

    if (test_program_run(argv, NULL, NULL, &said) != 0)
        test_fail("%s: %s", argv[0], said);
    free(said);
}

void test_postgres_clone(const struct test_postgres *of, struct test_postgres *clone)
{
    test_standby_start(of, NULL, NULL, clone);
    test_standby_wait(of, clone);
    test_postgres_stop(clone);
    HW_AUTO_FREE char *mark = hw_sprintf("%s/data/standby.signal", clone->dir);
    if (unlink(mark) != 0)
        test_fail("cannot remove %s", mark);
    test_postgres_restart(clone);
}

void test_postgres_start_other(struct test_postgres *pg)
{
    HW_AUTO_FREE char *template = hw_sprintf("%s/template", test_base_dir());

    test_remove_tree(template); /* the next start makes another one */
    test_postgres_start(pg, true, NULL);
}

void test_postgres_restore_dump(const struct test_postgres *from, const struct test_postgres *to)
{
    HW_AUTO_FREE char *maintenance =
        hw_sprintf("postgresql://postgres@127.0.0.1:%d/postgres", to->port);
    HW_AUTO_FREE char *dump = hw_sprintf("%s/dump", to->dir);

    run((const char *[]){"psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", maintenance, "-c",
                         "DROP DATABASE headwater", "-c",
                         "CREATE DATABASE headwater TEMPLATE template0", NULL});
    run((const char *[]){"pg_dump", "-d", from->url, "-f", dump, NULL});
    run((const char *[]){"psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", to->url, "-f", dump,
                         NULL});
}
