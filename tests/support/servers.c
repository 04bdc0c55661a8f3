#include "tests/support/servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glob.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/process.h"

#define READY_S    60 /* a loaded machine under sanitizers is slow */
#define STOP_S     30
#define CONNECT_MS 30000

static void run_or_fail(const char *const argv[], const char *input, bool as_postgres)
{
    char log[160];
    test_new_path(log, sizeof(log), "run");
    const pid_t pid = test_spawn(&(struct test_child){.argv = argv,
                                                      .input = input,
                                                      .output = log,
                                                      .death_signal = SIGKILL,
                                                      .as_postgres = as_postgres});
    int status;
    if (!test_reap(pid, READY_S, &status) || status != 0) {
        test_print_tail(log);
        test_fail("%s failed", argv[0]);
    }
    unlink(log);
}

static void stop_server(pid_t *pid, int signo, const char *what)
{
    if (*pid <= 0)
        return;
    kill(*pid, signo);
    if (!test_reap(*pid, STOP_S, NULL))
        test_fail("%s did not end within %g s of signal %d", what, STOP_S * test_patience(), signo);
    *pid = 0;
}

/* ---- PostgreSQL ---------------------------------------------------------------------------------
 */

/* Where initdb and postgres are: PATH, or Debian's newest version. */
static const char *postgres_bin(void)
{
    static char dir[256];
    if (dir[0] != '\0')
        return dir;
    const char *path = getenv("PATH");
    char *copy = strdup(path != NULL ? path : ""), *rest = copy, initdb[300], postgres[300];
    for (char *entry; (entry = strsep(&rest, ":")) != NULL;) {
        snprintf(initdb, sizeof(initdb), "%s/initdb", entry);
        snprintf(postgres, sizeof(postgres), "%s/postgres", entry);
        if (access(initdb, X_OK) == 0 && access(postgres, X_OK) == 0) {
            snprintf(dir, sizeof(dir), "%s", entry);
            break;
        }
    }
    free(copy);
    glob_t found = {0};
    if (dir[0] == '\0' && glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) == 0) {
        long newest = 0;
        for (size_t i = 0; i < found.gl_pathc; i++) {
            const long version =
                strtol(found.gl_pathv[i] + strlen("/usr/lib/postgresql/"), NULL, 10);
            if (version > newest)
                newest = version;
        }
        snprintf(dir, sizeof(dir), "/usr/lib/postgresql/%ld/bin", newest);
    }
    globfree(&found);
    if (dir[0] == '\0')
        test_fail("PostgreSQL's initdb is neither in PATH nor in /usr/lib/postgresql");
    return dir;
}

/* Servers since 15.19, 16.15 and 17.11 must be told which output plug-ins they may load; older
 * ones do not start with a setting that they do not know. */
static bool knows_output_plugins(void)
{
    char command[300], line[512];
    snprintf(command, sizeof(command), "%s/postgres --describe-config", postgres_bin());
    FILE *settings = popen(command, "re");
    bool known = false;
    while (settings != NULL && fgets(line, sizeof(line), settings) != NULL)
        known |= strncmp(line, "output_plugin_libraries\t", 24) == 0;
    if (settings != NULL)
        pclose(settings);
    return known;
}

int test_postgres_version(void)
{
    char command[300], line[100] = "";
    snprintf(command, sizeof(command), "%s/postgres --version", postgres_bin());
    FILE *output = popen(command, "re");
    if (output == NULL || fgets(line, sizeof(line), output) == NULL)
        test_fail("%s says nothing", command);
    pclose(output);
    return (int)strtol(line + strcspn(line, "0123456789"), NULL, 10);
}

/* A data directory with the empty database headwater, made by the first caller in the program. */
static const char *postgres_template(void)
{
    static char template[96];
    snprintf(template, sizeof(template), "%s/template", test_base_dir());
    char making[128], initdb[300], postgres[300], conf[160];
    snprintf(making, sizeof(making), "%s.new", template);
    if (access(template, F_OK) == 0)
        return template;

    const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;
    if (mkdir(making, 0700) != 0 ||
        (user != NULL && chown(making, user->pw_uid, user->pw_gid) != 0))
        test_fail("cannot make the directory %s: %s", making, strerror(errno));
    snprintf(initdb, sizeof(initdb), "%s/initdb", postgres_bin());
    run_or_fail((const char *[]){initdb, "-D", making, "-U", "postgres", "-A", "trust", "-E",
                                 "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
                                 NULL},
                NULL, true);
    snprintf(postgres, sizeof(postgres), "%s/postgres", postgres_bin());
    run_or_fail((const char *[]){postgres, "--single", "-F", "-D", making, "postgres", NULL},
                "CREATE DATABASE headwater\n", true);

    snprintf(conf, sizeof(conf), "%s/postgresql.conf", making);
    FILE *file = fopen(conf, "ae");
    if (file == NULL)
        test_fail("cannot write %s: %s", conf, strerror(errno));
    fputs("listen_addresses = '127.0.0.1'\n"
          "unix_socket_directories = ''\n"
          "wal_level = logical\n"
          "max_wal_senders = 20\n"
          "max_replication_slots = 20\n"
          "fsync = off\n"
          "synchronous_commit = on\n"
          "shared_buffers = 32MB\n"
          "dynamic_shared_memory_type = mmap\n" /* leaves nothing behind after a kill */
          "log_line_prefix = '%m [%p] %a '\n",
          file);
    if (knows_output_plugins())
        fputs("output_plugin_libraries = 'pgoutput, test_decoding, wal2json'\n", file);
    if (fclose(file) != 0 || rename(making, template) != 0)
        test_fail("cannot write %s: %s", template, strerror(errno));
    return template;
}

/* Connects and makes sure that it is our server that listens there. */
static bool postgres_ready(const struct test_postgres *pg)
{
    PGconn *conn = PQconnectdb(pg->url);
    PGresult *result = PQexec(conn, "SELECT current_setting('data_directory')");
    char data[160];
    snprintf(data, sizeof(data), "%s/data", pg->dir);
    const bool ready = PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), data) == 0;
    PQclear(result);
    PQfinish(conn);
    return ready;
}

/* One attempt; false when the server ended instead. */
static bool postgres_launch(struct test_postgres *pg)
{
    char postgres[300], data[160], log[160], port[16];
    snprintf(postgres, sizeof(postgres), "%s/postgres", postgres_bin());
    snprintf(data, sizeof(data), "%s/data", pg->dir);
    snprintf(log, sizeof(log), "%s/log", pg->dir);
    snprintf(port, sizeof(port), "%d", pg->port);
    pg->pid = test_spawn(
        &(struct test_child){.argv = (const char *[]){postgres, "-D", data, "-p", port, NULL},
                             .output = log,
                             .death_signal = SIGQUIT,
                             .as_postgres = true});
    for (const double until = test_deadline(READY_S); test_now() < until; test_pause()) {
        if (postgres_ready(pg))
            return true;
        if (test_reap(pg->pid, 0, NULL)) {
            pg->pid = 0;
            return false;
        }
    }
    test_fail("PostgreSQL did not answer within %g s", READY_S * test_patience());
}

static void postgres_migrate(const struct test_postgres *pg)
{
    glob_t files = {0};
    if (glob("sql/migrations/*.sql", 0, NULL, &files) != 0)
        test_fail("no sql/migrations/*.sql below the current directory");
    for (size_t i = 0; i < files.gl_pathc; i++)
        run_or_fail((const char *[]){"psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", pg->url,
                                     "-f", files.gl_pathv[i], NULL},
                    NULL, false);
    globfree(&files);
}

void test_postgres_start(struct test_postgres *pg, bool migrate, const char *extra)
{
    *pg = (struct test_postgres){0};
    test_new_path(pg->dir, sizeof(pg->dir), "postgres");
    char data[160], conf[192];
    snprintf(data, sizeof(data), "%s/data", pg->dir);
    snprintf(conf, sizeof(conf), "%s/postgresql.conf", data);
    if (mkdir(pg->dir, 0711) != 0)
        test_fail("cannot make the directory %s: %s", pg->dir, strerror(errno));
    run_or_fail((const char *[]){"cp", "-a", postgres_template(), data, NULL}, NULL, false);
    FILE *file = extra != NULL ? fopen(conf, "ae") : NULL;
    if (file != NULL) {
        fprintf(file, "%s\n", extra);
        fclose(file);
    }

    for (int attempt = 1;; attempt++) {
        pg->port = test_free_port();
        snprintf(pg->url, sizeof(pg->url), "postgresql://postgres@127.0.0.1:%d/headwater",
                 pg->port);
        if (postgres_launch(pg))
            break;
        if (attempt == 3) { /* a port that was taken in between is not what keeps it down */
            char log[160];
            snprintf(log, sizeof(log), "%s/log", pg->dir);
            test_print_tail(log);
            test_fail("PostgreSQL does not start");
        }
    }
    snprintf(pg->reconciler_url, sizeof(pg->reconciler_url),
             "postgresql://headwater_reconciler@127.0.0.1:%d/headwater", pg->port);
    snprintf(pg->api_url, sizeof(pg->api_url), "postgresql://headwater_api@127.0.0.1:%d/headwater",
             pg->port);
    if (migrate)
        postgres_migrate(pg);
}

void test_postgres_stop(struct test_postgres *pg)
{
    stop_server(&pg->pid, SIGINT, pg->dir);
}

void test_postgres_kill(struct test_postgres *pg)
{
    stop_server(&pg->pid, SIGQUIT, pg->dir);
}

void test_postgres_restart(struct test_postgres *pg)
{
    test_postgres_stop(pg);
    if (!postgres_launch(pg)) {
        char log[160];
        snprintf(log, sizeof(log), "%s/log", pg->dir);
        test_print_tail(log);
        test_fail("PostgreSQL does not start again");
    }
}

void test_postgres_remove(struct test_postgres *pg)
{
    stop_server(&pg->pid, SIGQUIT, pg->dir);
    test_remove_tree(pg->dir);
}

static void drop_notice(void *arg, const char *message)
{
    (void)arg, (void)message;
}

char *test_sql(const struct test_postgres *pg, const char *sql, ...)
{
    va_list args;
    va_start(args, sql);
    char *text = NULL;
    if (vasprintf(&text, sql, args) < 0)
        test_fail("out of memory");
    va_end(args);
    PGconn *conn = PQconnectdb(pg->url);
    if (PQstatus(conn) != CONNECTION_OK)
        test_fail("%s", PQerrorMessage(conn));
    PQsetNoticeProcessor(conn, drop_notice, NULL);
    PGresult *result = PQexec(conn, text);
    const ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        test_fail("%s%s", PQresultErrorMessage(result), text);
    char *value = NULL;
    if (PQntuples(result) > 0 && PQnfields(result) > 0 && !PQgetisnull(result, 0, 0))
        value = strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(conn);
    free(text);
    return value;
}

bool test_sql_is(const struct test_postgres *pg, const char *expected, const char *sql, ...)
{
    va_list args;
    va_start(args, sql);
    char *text = NULL;
    if (vasprintf(&text, sql, args) < 0)
        test_fail("out of memory");
    va_end(args);
    char *value = test_sql(pg, "%s", text);
    const bool same = value != NULL && strcmp(value, expected) == 0;
    free(value);
    free(text);
    return same;
}

void test_postgres_drop_slot(const struct test_postgres *pg, const char *name)
{
    test_wait_for(test_sql_is(pg, "f",
                              "SELECT active FROM pg_replication_slots WHERE slot_name = '%s'",
                              name),
                  60);
    free(test_sql(pg, "SELECT pg_drop_replication_slot('%s')", name));
}

/* ---- nats-server --------------------------------------------------------------------------------
 */

/* Connects, and reads the name in the INFO line that greets every client: ours is its directory. */
static bool nats_ready(const struct test_nats *nats)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)nats->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char greeting[4096], name[160];
    snprintf(name, sizeof(name), "\"server_name\":\"%s\"", nats->dir);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ready = false;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 5},
                   sizeof(struct timeval));
        const ssize_t n = recv(fd, greeting, sizeof(greeting) - 1, 0);
        greeting[n > 0 ? n : 0] = '\0';
        ready = strstr(greeting, name) != NULL && strstr(greeting, "\"jetstream\":true") != NULL;
    }
    close(fd);
    return ready;
}

static bool nats_launch(struct test_nats *nats)
{
    char store[160], log[160], port[16];
    snprintf(store, sizeof(store), "%s/store", nats->dir);
    snprintf(log, sizeof(log), "%s/log", nats->dir);
    snprintf(port, sizeof(port), "%d", nats->port);
    nats->pid = test_spawn(&(struct test_child){
        .argv = (const char *[]){"nats-server", "-a", "127.0.0.1", "-p", port, "-js", "-sd", store,
                                 "-n", nats->dir, nats->config != NULL ? "-c" : NULL, nats->config,
                                 NULL},
        .output = log,
        .death_signal = SIGKILL});
    for (const double until = test_deadline(READY_S); test_now() < until; test_pause()) {
        if (nats_ready(nats))
            return true;
        if (test_reap(nats->pid, 0, NULL)) {
            nats->pid = 0;
            return false;
        }
    }
    test_fail("nats-server did not answer within %g s", READY_S * test_patience());
}

static void __attribute__((noreturn)) nats_does_not_start(const struct test_nats *nats)
{
    char log[160];
    snprintf(log, sizeof(log), "%s/log", nats->dir);
    test_print_tail(log);
    test_fail("nats-server does not start");
}

void test_nats_start(struct test_nats *nats)
{
    *nats = (struct test_nats){0};
    test_new_path(nats->dir, sizeof(nats->dir), "nats");
    if (mkdir(nats->dir, 0700) != 0)
        test_fail("cannot make the directory %s: %s", nats->dir, strerror(errno));
    for (int attempt = 1;; attempt++) {
        nats->port = test_free_port();
        snprintf(nats->url, sizeof(nats->url), "nats://127.0.0.1:%d", nats->port);
        if (nats_launch(nats))
            return;
        if (attempt == 3)
            nats_does_not_start(nats);
    }
}

void test_nats_stop(struct test_nats *nats)
{
    stop_server(&nats->pid, SIGTERM, nats->dir);
}

void test_nats_kill(struct test_nats *nats)
{
    stop_server(&nats->pid, SIGKILL, nats->dir);
}

void test_nats_restart(struct test_nats *nats)
{
    test_nats_stop(nats);
    if (!nats_launch(nats))
        nats_does_not_start(nats);
}

void test_nats_wipe(struct test_nats *nats)
{
    if (nats->pid > 0)
        test_fail("test_nats_wipe: stop or kill the server first");
    char store[160];
    snprintf(store, sizeof(store), "%s/store", nats->dir);
    test_remove_tree(store);
}

void test_nats_remove(struct test_nats *nats)
{
    test_nats_kill(nats);
    test_remove_tree(nats->dir);
}

void test_nats_connect(const char *url, int64_t wait_ms, natsConnection **nc, jsCtx **js)
{
    natsOptions *options = NULL;
    jsOptions js_options;
    natsStatus s = natsOptions_Create(&options);

    jsOptions_Init(&js_options);
    if (wait_ms > 0)
        js_options.Wait = wait_ms;
    if (s == NATS_OK)
        s = natsOptions_SetURL(options, url);
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(options, test_patient_ms(CONNECT_MS));
    if (s == NATS_OK)
        s = natsConnection_Connect(nc, options);
    natsOptions_Destroy(options);
    if (s == NATS_OK)
        s = natsConnection_JetStream(js, *nc, &js_options);
    if (s != NATS_OK)
        test_fail("connecting to NATS: %s", natsStatus_GetText(s));
}
