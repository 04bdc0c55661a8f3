/* headwater-api: configurations, nodes and assignments by HTTP. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/access/auth.h"
#include "api/access/token_table.h"
#include "api/api.h"
#include "api/contention.h"
#include "api/listener.h"
#include "api/metrics.h"
#include "api/migrate.h"
#include "api/nats.h"
#include "api/request/idempotency.h"
#include "api/resources/events.h"
#include "api/resources/wait.h"
#include "api/routes.h"
#include "api/token_command.h"
#include "base/certificate.h"
#include "base/memory.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/notify.h"
#include "common/options.h"
#include "common/streams.h"
#include "common/version.h"
#include "common/warning.h"
#include "http/server.h"
#include "http/tls.h"
#include "nats/connection.h"
#include "nats/url.h"
#include "pg/conninfo.h"
#include "pg/pool.h"
#include "protocol/permissions.h"

#define ROLES "viewer|operator|approver|admin"

enum {
    QUEUE_MOST = 1024, /* reads, and writes, in line for a database connection */
    DRAIN_MS = 4000,
    MMAP_FROM = 256 << 10, /* larger blocks go back to the system when they are freed */
};

struct options {
    const char *database;
    const char *listen;
    const char *hosts;
    struct http_tls_config tls;
    const char *client_role;
    const char *nats, *bucket, *slot;
    struct hw_nats_files nats_files;
    int64_t pool;
    int64_t max_body;
    int64_t memory;
    int64_t request_timeout;
    bool dry_run;
    int64_t wait;
    struct api_token_options token;
    const char *log_level, *log_format;
};

#define OPTION(member, ...)    HW_OPTION(struct options, member, __VA_ARGS__)
#define FLAG_ONLY(member, ...) HW_OPTION_NO_ENV(struct options, member, __VA_ARGS__)

static const struct hw_option options_table[] = {
    HW_OPTION_DATABASE(struct options),
    OPTION(listen, STRING, "HOST:PORT",
           "where to serve; beyond loopback once there is a token; port 0 takes any free one",
           .preset = "127.0.0.1:8080"),
    OPTION(hosts, STRING, "NAME",
           "a name with dots that clients call the service by; a comma between several",
           .name = "host"),
    OPTION(tls.cert, STRING, "FILE", "serve HTTPS with this certificate and its chain (PEM)"),
    OPTION(tls.key, STRING, "FILE", "the certificate's private key (PEM)"),
    OPTION(tls.client_ca, STRING, "FILE",
           "admit only clients with a certificate of this authority (PEM)"),
    OPTION(client_role, CHOICE, "ROLE", "what clients with a certificate and no token may do",
           .name = "tls-client-role", .choices = ROLES),
    OPTION(nats, STRING, "URL",
           "where NATS is, to show in /v1/system how it stands and who leads; default: unknown",
           .env = "HEADWATER_NATS_URL", .secret = true, .check = hw_nats_url_check),
    HW_OPTIONS_NATS_FILES(struct options),
    HW_OPTION_BUCKET(struct options),
    HW_OPTION_SLOT(struct options, "the reconciler's replication slot, to show how it stands"),
    OPTION(pool, INT, "N",
           "database connections for reads; half as many are for writes, and one more listens for "
           "reports, tokens and events",
           .preset = "4", .min = 1, .max = 64),
    OPTION(max_body, SIZE, "SIZE", "the largest content of a config", .preset = "16MiB", .min = 1,
           .max = API_CONFIG_BODY_MAX),
    OPTION(memory, SIZE, "SIZE",
           "what bodies and large answers may take together; beyond it requests get 503",
           .preset = "256MiB", .min = 80 << 20, .max = (int64_t)64 << 30),
    OPTION(request_timeout, DURATION, "TIME",
           "how long a client may take to send a request, to fetch an answer, or be idle",
           .preset = "60s", .min = 100, .max = 3600000),
    FLAG_ONLY(dry_run, FLAG, NULL, "migrate: list what is pending and change nothing"),
    FLAG_ONLY(wait, DURATION, "TIME",
              "migrate: for how long to wait for a server that is not there yet", .min = 1,
              .max = 86400000),
    FLAG_ONLY(token.name, STRING, "NAME",
              "token create, revoke: which one; the same as NAME behind the action",
              .name = "name"),
    FLAG_ONLY(token.role, CHOICE, "ROLE", "token create: what it lets one do", .name = "role",
              .choices = ROLES),
    FLAG_ONLY(token.expires_ms, DURATION, "TIME",
              "token create: how long it is good, such as 30d; without it, until it is revoked",
              .name = "expires-in", .min = 1, .max = INT64_MAX),
    HW_OPTIONS_LOG(struct options),
    {0},
};

static const struct hw_command commands[] = {
    {.name = "serve", .help = "serve the HTTP API (the default)"},
    {.name = "migrate", .help = "bring the database's schema to this version"},
    {.name = "permissions",
     .help = "print the API's account for nats-server's configuration; needs no server"},
    {.name = "token",
     .arguments = "list|create NAME|revoke NAME",
     .help = "make, list and end access tokens in the database"},
    {0},
};

static const struct hw_program program = {
    .name = "headwater-api",
    .summary = "configurations, nodes and assignments by HTTP",
    .options = options_table,
    .commands = commands,
    .notes = "SIGTERM: accepts nothing more, finishes what runs within 4 s, exits 0.\n"
             "Exit status: 0 done, 1 failed, 2 wrong usage.\n",
};

/* ---- serve ---- */

struct service {
    struct api api;
    struct http_tls *tls; /* or NULL */
    struct http_tls_config certificates;
    struct hw_timer certificate_timer;
    struct hw_notify *notify;
    struct hw_timer drain_timer;
    int signals;
};

static void on_drained(void *arg)
{
    struct service *service = arg;

    hw_timer_stop(&service->drain_timer);
    hw_loop_stop(service->api.loop);
}

static void on_drain_timeout(void *arg)
{
    struct service *service = arg;

    hw_log_warn("stopping with requests unfinished");
    /* The requests that are left get their answers now: their outcome is unknown, or they were not
     * begun. */
    hw_pool_stop(service->api.pool);
    api_listener_stop(service->api.listener);
    api_token_table_stop(service->api.tokens);
    api_nats_stop(service->api.nats);
    hw_loop_stop(service->api.loop);
}

static void on_stop_signal(void *arg, int signo)
{
    struct service *service = arg;

    (void)signo;
    if (++service->signals > 1)
        _exit(HW_EXIT_FAILURE);
    hw_log_info("stopping");
    hw_notify_stopping(service->notify);
    hw_timer_start(service->api.loop, &service->drain_timer, DRAIN_MS, on_drain_timeout, service);
    api_waits_stop(service->api.waits);
    api_events_stop(service->api.events);
    http_server_drain(service->api.server, on_drained, service);
}

static enum api_role certificate_role(const struct options *options)
{
    return options->client_role != NULL ? api_role_of(options->client_role) : API_ROLE_NONE;
}

static void notify_ready(const struct service *service)
{
    HW_AUTO_FREE char *status = hw_sprintf("serving %s", http_server_name(service->api.server));

    hw_notify_ready(service->notify, status);
}

static void look_at_certificate(const char *option, const char *path, enum hw_certificate_kind kind)
{
    char when[HW_CERTIFICATE_TEXT_MAX];
    enum hw_validity validity;

    if (path != NULL &&
        hw_certificate_look(path, kind, hw_clock_now() / 1000000000, &validity, when, NULL) ==
            HW_OK &&
        validity != HW_VALID)
        hw_log_warn("a certificate is to be renewed", HW_S("option", option), HW_S("file", path),
                    HW_S("why", when));
}

/* Each day; those of the connection to NATS are looked at by the connection. */
static void look_at_certificates(void *arg)
{
    struct service *service = arg;

    look_at_certificate("--tls-cert", service->certificates.cert, HW_CERTIFICATE_CHAIN);
    look_at_certificate("--tls-client-ca", service->certificates.client_ca, HW_AUTHORITIES);
    hw_timer_start(service->api.loop, &service->certificate_timer, HW_CERTIFICATE_LOOK_MS,
                   look_at_certificates, service);
}

static void on_reload_signal(void *arg, int signo)
{
    struct service *service = arg;
    struct hw_error err;

    (void)signo;
    if (service->api.server == NULL || service->signals > 0)
        return;
    hw_notify_reloading(service->notify);
    if (service->tls != NULL && http_tls_reload(service->tls, &err) != HW_OK)
        hw_log_error("cannot read the certificates again, those before stay in use", HW_E(&err));
    else if (service->tls != NULL)
        hw_log_info("certificates read again");
    (void)api_nats_reload(service->api.nats);
    look_at_certificates(service);
    notify_ready(service);
}

static bool authorise(struct http_request *request, const char *authorization)
{
    return api_auth_judge(api_of(request)->auth, request, authorization);
}

static void on_answered(void *context, const struct http_route *route, int status, int64_t took_ns)
{
    const struct api *api = context;

    api_metrics_answered(api->metrics, route, status, took_ns);
}

static void on_aborted(void *context)
{
    const struct api *api = context;

    api_metrics_aborted(api->metrics);
}

static enum hw_status open_service(struct service *service, const struct options *options,
                                   const struct hw_address *address, struct hw_error *err)
{
    struct api *api = &service->api;
    enum hw_status status = hw_loop_new(&api->loop, err);

    if (status == HW_OK)
        hw_warnings_attach(api->loop);
    api->slot = options->slot;
    api->started_at = hw_clock_now();
    if (status == HW_OK)
        status = hw_loop_on_signal(api->loop, SIGTERM, on_stop_signal, service, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(api->loop, SIGINT, on_stop_signal, service, err);
    if (status == HW_OK)
        status = hw_loop_pass_over_signals(api->loop, err);
    if (status == HW_OK && options->tls.cert != NULL)
        status = http_tls_open(&options->tls, &service->tls, err);
    service->certificates = options->tls;
    if (status == HW_OK)
        status = hw_loop_on_signal(api->loop, SIGHUP, on_reload_signal, service, err);
    if (status == HW_OK)
        status = hw_notify_open(api->loop, &service->notify, err);
    if (status == HW_OK) {
        const struct hw_pool_config pool = {
            .loop = api->loop,
            .conninfo = options->database,
            .application_name = "headwater-api",
            .sizes = {[HW_POOL_READS] = (int)options->pool,
                      [HW_POOL_WRITES] = (int)(options->pool + 1) / 2},
            .queue_most = QUEUE_MOST};

        status = hw_pool_open(&pool, &api->pool, err);
    }
    if (status == HW_OK) {
        const struct api_nats_config nats = {.loop = api->loop,
                                             .url = options->nats,
                                             .files = options->nats_files,
                                             .bucket = options->bucket};

        status = api_nats_open(&nats, &api->nats, err);
    }
    if (status == HW_OK)
        status = api_listener_open(api->loop, options->database, api->pool, &api->listener, err);
    if (status == HW_OK) {
        api->contention = api_contention_new(api->loop, api->pool, api->listener);
        api->waits = api_waits_new(api->loop, api->listener);
        api->events = api_events_new(api->loop, api->listener);
        api->tokens = api_token_table_new(api->loop, api->listener);
        api->auth =
            api_auth_new(&(struct api_auth_config){.tokens = api->tokens,
                                                   .is_loopback = hw_address_is_loopback(address),
                                                   .certificate_role = certificate_role(options)});
    }
    if (status == HW_OK) {
        api->metrics = api_metrics_new(api_routes);
        const struct http_server_config server = {
            .loop = api->loop,
            .context = api,
            .hooks = {authorise, api_idempotency_read, on_answered, on_aborted},
            .routes = api_routes,
            .address = *address,
            .hosts = options->hosts,
            .tls = service->tls,
            .request_timeout_ms = options->request_timeout,
            .memory = options->memory,
            .large_body_max = options->max_body};

        status = http_server_start(&server, &api->server, err);
    }
    return status;
}

static enum hw_status check_tls(const struct options *options, struct hw_error *err)
{
    if ((options->tls.cert == NULL) != (options->tls.key == NULL))
        return hw_fail(err, HW_EINVAL, "--tls-cert and --tls-key belong together");
    if (options->tls.client_ca != NULL && options->tls.cert == NULL)
        return hw_fail(err, HW_EINVAL, "--tls-client-ca needs --tls-cert and --tls-key");
    if (options->client_role != NULL && options->tls.client_ca == NULL)
        return hw_fail(err, HW_EINVAL, "--tls-client-role needs --tls-client-ca");
    return HW_OK;
}

/* Beyond loopback every caller must show who it is. While there is no token and no certificate
 * counts, nobody could, so the service does not start. */
static enum hw_status check_exposure(const struct options *options, struct hw_error *err)
{
    bool active = true;
    struct hw_error why;

    if (options->tls.cert == NULL)
        hw_log_warn("serving beyond loopback without TLS: tokens can be read on the way",
                    HW_S("listen", options->listen));
    if (certificate_role(options) != API_ROLE_NONE)
        return HW_OK;
    if (api_token_any_active(options->database, &active, &why) != HW_OK)
        hw_log_warn("every call is refused until the tokens are known", HW_E(&why));
    if (!active)
        return hw_fail(err, HW_EDENIED,
                       "--listen %s: is not a loopback address, and there is no active token by "
                       "which callers could be told apart: make one with headwater-api token "
                       "create NAME --role admin, or listen on 127.0.0.1 or [::1]",
                       options->listen);
    return HW_OK;
}

static int serve(const struct options *options)
{
    struct service service = {0};
    struct hw_address address;
    struct hw_error err;
    enum hw_status status;

    if (hw_address_parse(options->listen, &address, &err) != HW_OK) {
        hw_fail_in(&err, "--listen");
        return hw_options_usage_error(&program, &err);
    }
    if (check_tls(options, &err) != HW_OK ||
        (!hw_address_is_loopback(&address) && check_exposure(options, &err) != HW_OK))
        return hw_options_usage_error(&program, &err);
    const char *const exposed = hw_nats_exposed(&options->nats_files);
    if (exposed != NULL)
        hw_log_warn("every user of this machine can read a secret; take their permission away",
                    HW_S("file", exposed));
    mallopt(M_MMAP_THRESHOLD, MMAP_FROM);
    status = open_service(&service, options, &address, &err);
    if (status == HW_OK) {
        hw_log_info("serving", HW_S("address", http_server_name(service.api.server)),
                    HW_S("version", HW_VERSION), HW_I("schema", api_migrate_version()));
        notify_ready(&service);
        look_at_certificates(&service);
        status = hw_loop_run(service.api.loop, &err);
    }
    if (status != HW_OK)
        hw_log_error("cannot serve", HW_E(&err));
    api_listener_free(service.api.listener);
    api_contention_free(service.api.contention);
    api_waits_free(service.api.waits);
    hw_pool_free(service.api.pool);
    api_token_table_free(service.api.tokens);
    api_nats_free(service.api.nats);
    http_server_free(service.api.server);
    api_events_free(service.api.events);
    api_auth_free(service.api.auth);
    api_metrics_free(service.api.metrics);
    hw_timer_stop(&service.certificate_timer);
    http_tls_free(service.tls);
    hw_notify_close(service.notify);
    hw_warnings_attach(NULL);
    hw_loop_free(service.api.loop);
    return status == HW_OK ? HW_EXIT_OK : HW_EXIT_FAILURE;
}

/* ---- migrate ---- */

static int migrate(const struct options *options)
{
    struct hw_error err;

    if (api_migrate(options->database, options->dry_run, options->wait, &err) == HW_OK)
        return HW_EXIT_OK;
    hw_log_error("cannot migrate", HW_E(&err));
    return HW_EXIT_FAILURE;
}

/* ---- token ---- */

/* operands: list, create NAME or revoke NAME. */
static int token(const struct options *options, char **operands, int count)
{
    struct api_token_options wish = options->token;
    struct hw_error err;

    if (count > 1 && wish.name != NULL) {
        hw_fail(&err, HW_EINVAL, "token: the name is there twice, as %s and in --name",
                operands[1]);
        return hw_options_usage_error(&program, &err);
    }
    if (count > 1)
        wish.name = operands[1];
    if (api_token_check(operands[0], &wish, &err) != HW_OK)
        return hw_options_usage_error(&program, &err);
    if (api_token_command(options->database, operands[0], &wish, &err) == HW_OK)
        return HW_EXIT_OK;
    hw_log_error("cannot do this with the token", HW_E(&err));
    return HW_EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    const char *command;
    char **operands;
    int count;
    struct hw_error err;

    hw_streams_open(program.name, HW_EXIT_FAILURE);
    if (hw_options_parse(&program, argc, argv, &options, &command, &operands, &count, &err) !=
            HW_OK ||
        hw_options_log(options.log_level, options.log_format, &err) != HW_OK)
        return hw_options_usage_error(&program, &err);
    const bool is_token = command != NULL && strcmp(command, "token") == 0;

    if (is_token && count == 0) {
        hw_fail(&err, HW_EINVAL, "token: create, list or revoke?");
        return hw_options_usage_error(&program, &err);
    }
    if (count > (is_token ? 2 : 0)) {
        hw_fail(&err, HW_EINVAL, "%s: what is this for?", operands[is_token ? 2 : 0]);
        return hw_options_usage_error(&program, &err);
    }
    if (command != NULL && strcmp(command, "permissions") == 0) {
        if (hw_permissions_api(options.bucket, &options.nats_files, &err) == HW_OK)
            return HW_EXIT_OK;
        fprintf(stderr, "headwater-api: permissions: %s\n", err.message);
        return HW_EXIT_FAILURE;
    }
    if (options.database == NULL) {
        hw_fail(&err, HW_EINVAL, "--database (or HEADWATER_DATABASE_URL) is missing");
        return hw_options_usage_error(&program, &err);
    }
    if (command != NULL && strcmp(command, "migrate") == 0)
        return migrate(&options);
    if (is_token)
        return token(&options, operands, count);
    return serve(&options);
}
