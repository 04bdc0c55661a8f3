/* pgbouncer between the programs and PostgreSQL: sessions of one's own work, shared ones are
 * refused before anything is left in them. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "pg/database.h"
#include "tests/support/http.h"
#include "tests/support/pipeline.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

static struct test_postgres pg;
static pid_t pooler;
static int port, api_port;
static char api_url[128], admin_url[128];

static void start_server(void)
{
    test_postgres_start(&pg, true, NULL);
}

static void remove_server(void)
{
    test_postgres_remove(&pg);
}

static void start_pooler(const char *mode)
{
    char dir[128];
    PGconn *conn = NULL;
    struct hw_error err;

    test_new_path(dir, sizeof(dir), "pgbouncer");
    port = test_free_port();
    HW_AUTO_FREE char *ini = hw_sprintf(
        "[databases]\nheadwater = host=127.0.0.1 port=%d\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        "listen_port = %d\nunix_socket_dir =\nauth_type = trust\nauth_file = %s/users\n"
        "pool_mode = %s\ndefault_pool_size = 40\n",
        pg.port, port, dir, mode);
    HW_AUTO_FREE char *script = hw_sprintf(
        "mkdir -m 755 %s && printf '\"headwater_api\" \"\"\\n\"postgres\" \"\"\\n' > %s/users && "
        "cat > %s/ini",
        dir, dir, dir);
    HW_AUTO_FREE char *config = hw_sprintf("%s/ini", dir);
    HW_AUTO_FREE char *log = hw_sprintf("%s.log", dir);
    ck_assert_int_eq(test_program_run((const char *[]){"sh", "-c", script, NULL}, NULL, ini, NULL),
                     0);
    pooler = test_spawn(&(struct test_child){.argv = (const char *[]){"pgbouncer", config, NULL},
                                             .output = log,
                                             .death_signal = SIGKILL,
                                             .as_postgres = true});
    snprintf(api_url, sizeof(api_url), "postgresql://headwater_api@127.0.0.1:%d/headwater", port);
    snprintf(admin_url, sizeof(admin_url), "postgresql://postgres@127.0.0.1:%d/headwater", port);
    test_wait_for(hw_db_connect(admin_url, "test", &conn, &err) == HW_OK ||
                      strstr(err.message, "pool_mode") != NULL,
                  30);
    PQfinish(conn);
}

static void stop_pooler(void)
{
    kill(pooler, SIGKILL);
    ck_assert(test_reap(pooler, 10, NULL));
}

static void start_api(struct test_program *api)
{
    HW_AUTO_FREE char *listen = hw_sprintf("127.0.0.1:%d", api_port = test_free_port());

    test_program_start(
        api, (const char *[]){"headwater-api", "--database", api_url, "--listen", listen, NULL},
        NULL);
    test_wait_for(pipeline_times_in_log(api, "msg=serving") > 0, 30);
}

static bool ready_is(int status, const char *text)
{
    struct test_answer answer = test_http(api_port, "GET", "/readyz", NULL, NULL, 0);
    const bool is = answer.status == status && strstr(answer.body, text) != NULL;

    test_answer_free(&answer);
    return is;
}

/* What a client of the pooler finds in the sessions that others have had. */
static void check_no_setting_is_left(void)
{
    for (int i = 0; i < 12; i++) {
        PGconn *conn = PQconnectdb(api_url);
        PGresult *result = PQexec(
            conn, "SELECT string_agg(name, ' ') FROM pg_settings WHERE source = 'session' "
                  "AND name IN ('statement_timeout', 'lock_timeout', 'timezone', 'row_security', "
                  "'default_transaction_isolation')");

        ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(conn));
        ck_assert_str_eq(PQgetvalue(result, 0, 0), "");
        PQclear(result);
        PQfinish(conn);
    }
}

static struct hw_db *db;
static bool listening, notified;

static void on_listening(void *arg, const struct hw_db_outcome *outcome)
{
    (void)arg;
    ck_assert_int_eq(outcome->status, HW_OK);
    listening = true;
}

static void on_up(void *arg)
{
    struct hw_error err;

    (void)arg;
    ck_assert_int_eq(hw_db_run(db, HW_DB_SEPARATE, &(struct hw_db_query){.sql = "LISTEN x"}, 1,
                               NULL, on_listening, NULL, &err),
                     HW_OK);
}

static void on_notify(void *arg, const char *channel)
{
    (void)arg, (void)channel;
    notified = true;
}

static void check_notifications(void)
{
    struct hw_loop *loop;
    struct hw_error err;

    ck_assert_int_eq(hw_loop_new(&loop, &err), HW_OK);
    ck_assert_int_eq(hw_db_open(loop, api_url, "test",
                                &(struct hw_db_events){.up = on_up, .notify = on_notify}, &db,
                                &err),
                     HW_OK);
    ck_assert(hw_loop_run_until(loop, &listening, test_patient_ms(30000)));
    free(test_sql(&pg, "NOTIFY x"));
    ck_assert(hw_loop_run_until(loop, &notified, test_patient_ms(30000)));
    hw_db_close(db);
    hw_loop_free(loop);
}

START_TEST(test_sessions_of_ones_own)
{
    struct test_program api;

    start_pooler("session");
    start_api(&api);
    test_wait_for(ready_is(200, "ready"), 60);
    ck_assert_int_eq(test_program_stop(&api, SIGTERM), 0);
    check_no_setting_is_left();
    check_notifications();
    stop_pooler();
}
END_TEST

START_TEST(test_shared_sessions_are_refused)
{
    struct test_program api;
    PGconn *conn = NULL;
    struct hw_error err;
    char *output = NULL;

    start_pooler("transaction");
    start_api(&api);
    test_wait_for(ready_is(503, "pool_mode = session"), 60);
    check_no_setting_is_left();
    ck_assert_int_eq(test_program_stop(&api, SIGTERM), 0);
    check_no_setting_is_left();
    /* So do commands, whose locks would stay behind. */
    ck_assert_int_ne(hw_db_connect(admin_url, "test", &conn, &err), HW_OK);
    ck_assert_ptr_nonnull(strstr(err.message, "pool_mode = session"));
    ck_assert_int_eq(test_program_run((const char *[]){"headwater-api", "migrate", "--database",
                                                       admin_url, NULL},
                                      NULL, NULL, &output),
                     1);
    ck_assert_msg(strstr(output, "pool_mode = session") != NULL, "%s", output);
    free(output);
    stop_pooler();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("a pooler");
    TCase *tcase = tcase_create("pooler");

    if (system("command -v pgbouncer >/dev/null") != 0) {
        puts("pgbouncer is not installed");
        return 77;
    }
    tcase_set_timeout(tcase, 120);
    tcase_add_unchecked_fixture(tcase, start_server, remove_server);
    tcase_add_test(tcase, test_sessions_of_ones_own);
    tcase_add_test(tcase, test_shared_sessions_are_refused);
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
