#include "pg/connect.h"

#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/memory.h"
#include "common/log.h"
#include "pg/advice.h"
#include "pg/conninfo.h"

enum {
    REASON_MOST = 360, /* bytes of libpq's words, so that ours have room behind them */
    SETTINGS_MOST = 16,
};

#define DOING "connecting to the database"

/* A name, an address, or the directory of a socket. What is "" is left to libpq. */
struct host {
    char *host, *hostaddr, *port;
};

struct hw_route {
    char *conninfo, *application_name;
    char *options; /* of the session, or NULL */
    bool replication;
    struct host *hosts;
    int count;
    bool shuffled; /* the hosts are tried in an order by chance */
    char *database;
    int64_t timeout_ms; /* for each address; 0: none */
    char *attrs;        /* target_session_attrs, where somebody wants another kind; or NULL */
    /* Settings that somebody has made already are left as they are. */
    const char *keys[SETTINGS_MOST], *values[SETTINGS_MOST];
    int settings;
};

/* ---- words ---- */

enum hw_status hw_db_status_of(const char *sqlstate)
{
    if (sqlstate == NULL || *sqlstate == '\0')
        return HW_EUNAVAIL; /* libpq made the message: the connection broke */
    if (strncmp(sqlstate, "40", 2) == 0 || strcmp(sqlstate, "55P03") == 0)
        return HW_ECONFLICT;
    if (strncmp(sqlstate, "08", 2) == 0 || strncmp(sqlstate, "57P", 3) == 0)
        return HW_EUNAVAIL;
    if (strncmp(sqlstate, "28", 2) == 0 || strcmp(sqlstate, "42501") == 0)
        return HW_EDENIED;
    if (strncmp(sqlstate, "53", 2) == 0 || strncmp(sqlstate, "54", 2) == 0)
        return HW_ELIMIT;
    if (strcmp(sqlstate, "57014") == 0)
        return HW_ETIMEOUT;
    return HW_EINVAL;
}

enum hw_status hw_libpq_fail(struct hw_error *err, enum hw_status status, const char *doing,
                             const char *text)
{
    char flat[HW_ERROR_MAX];
    size_t len = 0;

    for (; *text != '\0' && len < sizeof(flat) - 1; text++)
        flat[len++] = *text == '\n' || *text == '\t' ? ' ' : *text;
    while (len > 0 && flat[len - 1] == ' ')
        len--;
    flat[len] = '\0';
    return hw_fail(err, status, "%s%s%s", doing, len > 0 ? ": " : "", flat);
}

static const char *field(const PGresult *result, int code)
{
    const char *text = PQresultErrorField(result, code);

    return text != NULL ? text : "";
}

static void on_notice(void *arg, const PGresult *result)
{
    (void)arg;
    hw_log_debug("the database remarks", HW_S("severity", field(result, PG_DIAG_SEVERITY)),
                 HW_S("sqlstate", field(result, PG_DIAG_SQLSTATE)),
                 HW_S("text", field(result, PG_DIAG_MESSAGE_PRIMARY)));
}

void hw_db_quiet(PGconn *conn)
{
    PQsetNoticeReceiver(conn, on_notice, NULL);
}

/* ---- the route ---- */

static const char *setting_of(const PQconninfoOption *settings, const char *keyword)
{
    while (settings->keyword != NULL && strcmp(settings->keyword, keyword) != 0)
        settings++;
    return settings->keyword != NULL && settings->val != NULL ? settings->val : "";
}

static int count_of(const char *list)
{
    int count = 1;

    for (const char *p = list; *p != '\0'; p++)
        count += *p == ',';
    return count;
}

/* The n-th of a list with commas in between; of a list of one, that one. */
static char *element(const char *list, int n)
{
    const char *at = list;

    for (int i = 0; i < n; i++) {
        const char *comma = strchr(at, ',');

        if (comma == NULL) {
            at = list;
            break;
        }
        at = comma + 1;
    }
    return hw_strndup(at, strcspn(at, ","));
}

static void read_hosts(struct hw_route *route, const PQconninfoOption *settings)
{
    const char *const host = setting_of(settings, "host");
    const char *const hostaddr = setting_of(settings, "hostaddr");
    const char *const port = setting_of(settings, "port");

    route->count = count_of(*hostaddr != '\0' ? hostaddr : host);
    route->hosts = hw_alloc((size_t)route->count * sizeof(*route->hosts));
    for (int i = 0; i < route->count; i++)
        route->hosts[i] = (struct host){element(host, i), element(hostaddr, i), element(port, i)};
}

static void add_setting(struct hw_route *route, const char *key, const char *value)
{
    if (value == NULL)
        return;
    route->keys[route->settings] = key;
    route->values[route->settings++] = value;
}

/* Unsent or unacknowledged data ends a connection after 10 s, and so does an unanswered keepalive,
 * the first of which is sent after 10 s without a word. */
static void add_timeouts(struct hw_route *route, const PQconninfoOption *settings)
{
    static const char *const timeouts[][2] = {{"tcp_user_timeout", "10000"},
                                              {"keepalives_idle", "10"},
                                              {"keepalives_interval", "3"},
                                              {"keepalives_count", "3"}};

    for (size_t i = 0; i < HW_COUNT(timeouts); i++)
        if (*setting_of(settings, timeouts[i][0]) == '\0')
            add_setting(route, timeouts[i][0], timeouts[i][1]);
}

/*
 * What string, service file and environment say together is known to libpq alone, and only when it
 * connects. So it is given one value more, which is none that this option can have: it then reads
 * all of them, and does nothing.
 */
static PQconninfoOption *effective_settings(const char *conninfo)
{
    const char *const keys[] = {"dbname", "channel_binding", NULL};
    const char *const values[] = {conninfo, "do-not-connect", NULL};
    PGconn *conn = PQconnectStartParams(keys, values, 1);
    PQconninfoOption *settings = PQconninfo(conn);

    PQfinish(conn);
    if (settings == NULL)
        abort(); /* out of memory */
    return settings;
}

enum hw_status hw_route_new(const struct hw_route_options *options, struct hw_route **out,
                            struct hw_error *err)
{
    if (hw_conninfo_check(options->conninfo, err) != HW_OK)
        return hw_fail_in(err, "the database URL");

    struct hw_route *route = hw_alloc(sizeof(*route));
    PQconninfoOption *settings = effective_settings(options->conninfo);
    const char *const timeout = setting_of(settings, "connect_timeout");
    const char *const attrs = setting_of(settings, "target_session_attrs");
    const char *const given = setting_of(settings, "options");

    route->conninfo = hw_strdup(options->conninfo);
    route->application_name =
        options->application_name != NULL ? hw_strdup(options->application_name) : NULL;
    if (options->session != NULL)
        route->options = hw_sprintf("%s%s%s%s", given, *given != '\0' ? " " : "", options->session,
                                    options->replication ? " -c row_security=off" : "");
    route->replication = options->replication;
    read_hosts(route, settings);
    route->shuffled = strcmp(setting_of(settings, "load_balance_hosts"), "random") == 0;
    route->database = hw_strdup(setting_of(settings, "dbname"));
    /* As libpq has it: 0 and less are no limit, and 1 is 2. */
    route->timeout_ms = *timeout == '\0' ? HW_CONNECT_MS : 1000 * strtoll(timeout, NULL, 10);
    if (route->timeout_ms == 1000)
        route->timeout_ms = 2000;
    if (*attrs != '\0' && strcmp(attrs, "any") != 0)
        route->attrs = hw_strdup(attrs);
    add_timeouts(route, settings);
    PQconninfoFree(settings);
    *out = route;
    return HW_OK;
}

void hw_route_free(struct hw_route *route)
{
    if (route == NULL)
        return;
    for (int i = 0; i < route->count; i++) {
        free(route->hosts[i].host);
        free(route->hosts[i].hostaddr);
        free(route->hosts[i].port);
    }
    free(route->hosts);
    free(route->conninfo);
    free(route->application_name);
    free(route->options);
    free(route->database);
    free(route->attrs);
    free(route);
}

char *hw_route_address(const struct hw_route *route, const PGconn *conn)
{
    struct hw_buf out = {0};

    for (int i = 0; i < route->count; i++) {
        const struct host *h = &route->hosts[i];

        hw_buf_printf(&out, "%s%s:%s", i > 0 ? "," : "",
                      *h->host != '\0'       ? h->host
                      : *h->hostaddr != '\0' ? h->hostaddr
                                             : PQhost(conn), /* the socket's directory */
                      *h->port != '\0' ? h->port : "5432");
    }
    hw_buf_printf(&out, "/%s", *route->database != '\0' ? route->database : PQdb(conn));
    return out.data;
}

bool hw_route_wants_writes(const struct hw_route *route)
{
    return route->attrs == NULL || strcmp(route->attrs, "read-write") == 0 ||
           strcmp(route->attrs, "primary") == 0;
}

/* ---- one attempt ---- */

struct hw_attempt {
    struct hw_loop *loop;
    const struct hw_route *route;
    bool only_writes;
    struct host beside; /* the only place, or all NULL */
    hw_attempt_fn *fn;
    void *arg;

    int *order;                           /* of the route's hosts */
    int next;                             /* in order */
    struct addrinfo *addresses, *address; /* of the host that is tried; the next one */
    struct host at;                       /* what is tried now; all its own */
    PGconn *conn;
    struct hw_io *io;
    struct hw_timer timer; /* the address' time; or the first step, from the loop */
    PGconn *second_best;   /* a server that is not what is wanted, but works */
    struct hw_buf words;   /* why the others failed */
    char sqlstate[6];      /* of the last refusal */
    bool answered;
};

static void try_next(void *arg);

static void clear_host(struct host *host)
{
    free(host->host);
    free(host->hostaddr);
    free(host->port);
    *host = (struct host){0};
}

static void destroy(struct hw_attempt *a)
{
    hw_timer_stop(&a->timer);
    hw_io_remove(a->io);
    PQfinish(a->conn);
    PQfinish(a->second_best);
    if (a->addresses != NULL)
        freeaddrinfo(a->addresses);
    clear_host(&a->at);
    clear_host(&a->beside);
    hw_buf_free(&a->words);
    free(a->order);
    free(a);
}

void hw_attempt_cancel(struct hw_attempt *attempt)
{
    if (attempt != NULL)
        destroy(attempt);
}

/* conn: taken over by the owner; NULL: none. */
static void finish(struct hw_attempt *a, PGconn *conn)
{
    HW_AUTO_FREE char *words = hw_strdup(hw_buf_str(&a->words));
    struct hw_attempt_end end = {.conn = conn, .answered = a->answered, .passed_over = words};
    hw_attempt_fn *const fn = a->fn;
    void *const arg = a->arg;

    if (conn == NULL) {
        const char *const advice = hw_db_advice(words);
        const enum hw_status status =
            *a->sqlstate != '\0' ? hw_db_status_of(a->sqlstate) : HW_EUNAVAIL;
        struct hw_error said;

        if (strlen(words) > REASON_MOST)
            words[REASON_MOST] = '\0';
        (void)hw_libpq_fail(&said, status, DOING, words);
        hw_fail(&end.err, status, "%s%s%s", said.message, advice != NULL ? "; " : "",
                advice != NULL ? advice : "");
    }
    destroy(a);
    fn(arg, &end);
}

/* Keeps libpq's words about the address, without its lines that name a place in the server's
 * source, and the SQLSTATE of a refusal: libpq tells it only there, and only at this verbosity:
 * "… failed: FATAL:  28P01: password authentication failed …\nLOCATION:  …" */
static void keep_words(struct hw_attempt *a, const char *text)
{
    for (const char *line = text; *line != '\0';) {
        const size_t size = strcspn(line, "\n");

        if (strncmp(line, "LOCATION:", strlen("LOCATION:")) != 0 && size > 0)
            hw_buf_printf(&a->words, "%s%.*s", a->words.len > 0 ? "\n" : "", (int)size, line);
        line += size + (line[size] == '\n');
    }
    for (const char *p = text; (p = strstr(p, ":  ")) != NULL; p += 3)
        if (strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && p[8] == ':') {
            memcpy(a->sqlstate, p + 3, 5);
            a->answered = true;
        }
}

static void close_address(struct hw_attempt *a)
{
    hw_timer_stop(&a->timer);
    hw_io_remove(HW_TAKE(a->io));
    PQfinish(HW_TAKE(a->conn));
}

static void address_failed(struct hw_attempt *a)
{
    keep_words(a, PQerrorMessage(a->conn));
    close_address(a);
    try_next(a);
}

static void on_silence(void *arg)
{
    struct hw_attempt *a = arg;
    const char *const where = *a->at.hostaddr != '\0' ? a->at.hostaddr : a->at.host;
    HW_AUTO_FREE char *text =
        hw_sprintf("connection to server at \"%s\", port %s failed: no answer within %lld s",
                   *where != '\0' ? where : "its socket", *a->at.port != '\0' ? a->at.port : "5432",
                   (long long)a->route->timeout_ms / 1000);

    keep_words(a, text);
    close_address(a);
    try_next(a);
}

const char *hw_connect_refuses_writes(const PGconn *conn)
{
    const char *const standby = PQparameterStatus(conn, "in_hot_standby");
    const char *const read_only = PQparameterStatus(conn, "default_transaction_read_only");

    if (standby != NULL && strcmp(standby, "on") == 0)
        return "it is a standby";
    if (read_only != NULL && strcmp(read_only, "on") == 0)
        return "default_transaction_read_only is on there";
    return NULL;
}

/* Is this the kind of server that is wanted? What libpq judges by itself has come through. */
static const char *unwanted(const struct hw_attempt *a)
{
    const char *const standby = PQparameterStatus(a->conn, "in_hot_standby");

    if (a->beside.port != NULL)
        return NULL;
    if (a->route->attrs == NULL)
        return hw_connect_refuses_writes(a->conn);
    if (strcmp(a->route->attrs, "prefer-standby") == 0 && standby != NULL &&
        strcmp(standby, "on") != 0)
        return "it is no standby";
    return NULL;
}

static void address_works(struct hw_attempt *a)
{
    const char *const why = unwanted(a);

    a->answered = true;
    (void)PQsetErrorVerbosity(a->conn, PQERRORS_DEFAULT);
    if (why == NULL) {
        finish(a, HW_TAKE(a->conn));
        return;
    }
    HW_AUTO_FREE char *text =
        hw_sprintf("the server at \"%s\", port %s is not the one that is wanted: %s",
                   PQhost(a->conn), PQport(a->conn), why);

    keep_words(a, text);
    hw_timer_stop(&a->timer);
    hw_io_remove(HW_TAKE(a->io));
    if (a->second_best == NULL && !a->only_writes)
        a->second_best = HW_TAKE(a->conn);
    PQfinish(HW_TAKE(a->conn));
    try_next(a);
}

static void on_io(void *arg, short revents)
{
    struct hw_attempt *a = arg;
    short events = POLLIN;

    (void)revents;
    switch (PQconnectPoll(a->conn)) {
    case PGRES_POLLING_OK:
        address_works(a);
        return;
    case PGRES_POLLING_READING:
        break;
    case PGRES_POLLING_WRITING:
        events = POLLOUT;
        break;
    default:
        address_failed(a);
        return;
    }
    /* libpq may have opened another socket, for a try without encryption. */
    hw_io_remove(a->io);
    a->io = hw_io_add(a->loop, PQsocket(a->conn), events, on_io, a);
}

/* Later keywords count more than earlier ones: what the string says is between our defaults and
 * what must be as it is. */
static PGconn *start(const struct hw_attempt *a)
{
    const struct hw_route *r = a->route;
    const char *keys[SETTINGS_MOST + 16], *values[SETTINGS_MOST + 16];
    size_t n = 0;

#define PASS(key, value) (keys[n] = (key), values[n++] = (value))
    for (int i = 0; i < r->settings; i++)
        PASS(r->keys[i], r->values[i]);
    if (r->application_name != NULL)
        PASS("fallback_application_name", r->application_name);
    PASS("dbname", r->conninfo);
    /* libpq takes "" for what was not given. */
    PASS("host", a->at.host);
    PASS("hostaddr", a->at.hostaddr);
    PASS("port", a->at.port);
    if (r->attrs != NULL && (a->beside.port != NULL || strcmp(r->attrs, "prefer-standby") == 0))
        PASS("target_session_attrs", "any");
    if (r->options != NULL)
        PASS("options", r->options);
    if (r->replication)
        PASS("replication", "database");
    PASS("client_encoding", "UTF8");
    PASS(NULL, NULL);
#undef PASS
    return PQconnectStartParams(keys, values, 1);
}

static void try_address(struct hw_attempt *a)
{
    a->conn = start(a);
    if (a->conn == NULL)
        abort(); /* out of memory */
    hw_db_quiet(a->conn);
    (void)PQsetErrorVerbosity(a->conn, PQERRORS_VERBOSE);
    if (PQstatus(a->conn) == CONNECTION_BAD) {
        keep_words(a, PQerrorMessage(a->conn));
        close_address(a);
        hw_timer_start(a->loop, &a->timer, 0, try_next, a);
        return;
    }
    if (a->route->timeout_ms > 0)
        hw_timer_start(a->loop, &a->timer, a->route->timeout_ms, on_silence, a);
    a->io = hw_io_add(a->loop, PQsocket(a->conn), POLLOUT, on_io, a);
}

static bool is_name(const struct host *h)
{
    return *h->hostaddr == '\0' && *h->host != '\0' && *h->host != '/' && *h->host != '@';
}

/* Goes on to the next address of the host, if there is one. */
static bool take_address(struct hw_attempt *a)
{
    char text[NI_MAXHOST];

    while (a->address != NULL) {
        const struct addrinfo *const address = a->address;

        a->address = address->ai_next;
        if (getnameinfo(address->ai_addr, address->ai_addrlen, text, sizeof(text), NULL, 0,
                        NI_NUMERICHOST) != 0)
            continue;
        free(a->at.hostaddr);
        a->at.hostaddr = hw_strdup(text);
        return true;
    }
    return false;
}

/* Goes on to the next host; false where none is left. */
static bool take_host(struct hw_attempt *a)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const bool has_beside = a->beside.port != NULL;
    const struct host *h;
    int failed;

    while (a->next < (has_beside ? 1 : a->route->count)) {
        h = has_beside ? &a->beside : &a->route->hosts[a->order[a->next]];
        a->next++;
        clear_host(&a->at);
        a->at = (struct host){hw_strdup(h->host), hw_strdup(h->hostaddr), hw_strdup(h->port)};
        if (!is_name(h))
            return true;
        if (a->addresses != NULL)
            freeaddrinfo(HW_TAKE(a->addresses));
        failed = getaddrinfo(h->host, NULL, &hints, &a->addresses);
        a->address = failed == 0 ? a->addresses : NULL;
        if (failed == 0 && take_address(a))
            return true;
        HW_AUTO_FREE char *text = hw_sprintf("could not translate host name \"%s\" to address: %s",
                                             h->host, gai_strerror(failed));
        keep_words(a, text);
    }
    return false;
}

static void try_next(void *arg)
{
    struct hw_attempt *a = arg;

    if (take_address(a) || take_host(a))
        try_address(a);
    else
        finish(a, HW_TAKE(a->second_best));
}

struct hw_attempt *hw_attempt_start(struct hw_loop *loop, const struct hw_route *route,
                                    bool only_writes, const PGconn *beside, hw_attempt_fn *fn,
                                    void *arg)
{
    struct hw_attempt *a = hw_alloc(sizeof(*a));

    a->loop = loop;
    a->route = route;
    a->only_writes = only_writes || route->replication;
    a->fn = fn;
    a->arg = arg;
    if (beside != NULL)
        a->beside = (struct host){hw_strdup(PQhost(beside)), hw_strdup(PQhostaddr(beside)),
                                  hw_strdup(PQport(beside))};
    a->order = hw_alloc((size_t)route->count * sizeof(*a->order));
    for (int i = 0; i < route->count; i++) {
        const int j = route->shuffled ? (int)(random() % (i + 1)) : i;

        a->order[i] = a->order[j];
        a->order[j] = i;
    }
    hw_timer_start(loop, &a->timer, 0, try_next, a);
    return a;
}
