#include "tests/support/standby.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"

static void run(const char *const argv[])
{
    char *output = NULL;

    if (test_program_run(argv, NULL, NULL, &output) != 0)
        test_fail("%s: %s", argv[0], output);
    free(output);
}

void test_standby_start(const struct test_postgres *primary, const char *slot, const char *extra,
                        struct test_postgres *standby)
{
    /* With a database's name: PostgreSQL 17 synchronises slots over such a connection only. */
    HW_AUTO_FREE char *from =
        hw_sprintf("host=127.0.0.1 port=%d user=postgres dbname=headwater", primary->port);

    *standby = (struct test_postgres){.port = test_free_port()};
    test_new_path(standby->dir, sizeof(standby->dir), "standby");
    HW_AUTO_FREE char *data = hw_sprintf("%s/data", standby->dir);
    HW_AUTO_FREE char *conf = hw_sprintf("%s/postgresql.conf", data);
    run((const char *[]){"install", "-d", "-m", "711", standby->dir, NULL});
    run((const char *[]){"pg_basebackup", "-d", from, "-D", data, "-R", "-c", "fast",
                         slot != NULL ? "-C" : NULL, "-S", slot, NULL}); /* NULL ends it */
    FILE *file = fopen(conf, "ae");
    if (file == NULL)
        test_fail("cannot write %s", conf);
    fprintf(file, "%s\n", extra != NULL ? extra : "");
    fclose(file);
    if (geteuid() == 0)
        run((const char *[]){"chown", "-R", "postgres", data, NULL});
    snprintf(standby->url, sizeof(standby->url), "postgresql://postgres@127.0.0.1:%d/headwater",
             standby->port);
    snprintf(standby->reconciler_url, sizeof(standby->reconciler_url),
             "postgresql://headwater_reconciler@127.0.0.1:%d/headwater", standby->port);
    snprintf(standby->api_url, sizeof(standby->api_url),
             "postgresql://headwater_api@127.0.0.1:%d/headwater", standby->port);
    test_postgres_restart(standby);
}

void test_standby_promote(const struct test_postgres *standby)
{
    free(test_sql(standby, "SELECT pg_promote()"));
    test_wait_for(test_sql_is(standby, "f", "SELECT pg_is_in_recovery()"), 30);
}

void test_standby_wait(const struct test_postgres *primary, const struct test_postgres *standby)
{
    HW_AUTO_FREE char *end = test_sql(primary, "SELECT pg_current_wal_lsn()");

    test_wait_for(test_sql_is(standby, "t", "SELECT pg_last_wal_replay_lsn() >= '%s'", end), 60);
}
