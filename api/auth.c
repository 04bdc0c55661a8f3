#include "api/auth.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include "api/migrate.h"
#include "api/problem.h"
#include "api/row.h"
#include "api/throttle.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/log.h"
#include "common/map.h"
#include "common/memory.h"
#include "common/outage.h"
#include "http/answer.h"
#include "http/tls.h"
#include "pg/database.h"

enum {
    REREAD_MS = 30000,    /* stands in for a notification lost */
    READ_AGAIN_MS = 1000, /* after a failure */
    USES_AFTER_MS = 1000, /* from a token's use until the database is told, with others' */
    USES_EVERY_MS = 60000,
    ID_DIGITS = 16,
    SECRET_CHARS = 43,
    TOKEN_CHARS = 4 + ID_DIGITS + 1 + SECRET_CHARS, /* hwt_<id>_<secret> */
};

static const char select_sql[] =
    "SELECT id, name, role, encode(hash, 'hex') AS hash, CASE WHEN isfinite(expires_at) "
    "THEN (extract(epoch FROM expires_at) * 1000000)::bigint END AS expires_us, "
    "revoked_at IS NOT NULL AS is_revoked FROM headwater.token";

struct token {
    char id[ID_DIGITS + 1];
    char *name;
    enum api_role role;
    struct hw_digest hash;
    int64_t expires_ns; /* Unix time; INT64_MAX: never */
    bool is_revoked;
    bool was_used; /* and the database was not told yet */
    int64_t told_at;
};

struct rereader {
    STAILQ_ENTRY(rereader) link;
    void (*done)(void *arg);
    void *arg;
};
STAILQ_HEAD(rereaders, rereader);

struct api_auth {
    struct api_auth_config config;
    struct hw_db *pg;
    bool listening, busy; /* on this connection */
    bool stale, uses_due; /* to do when it is not busy */
    bool known;           /* which tokens there are */
    bool lacks_schema, stopped;
    struct hw_map tokens; /* by id */
    struct hw_timer reread, uses;
    struct rereaders waiting, served; /* for the next reading; by the one that runs */
    struct api_throttle throttle;
    struct hw_error trouble;
    struct hw_outage outage; /* of a database that is there, and not as it is needed */
};

/* ---- the tokens ---- */

static void clear_tokens(struct hw_map *tokens)
{
    struct token *token;

    for (size_t at = 0; (token = hw_map_next(tokens, &at)) != NULL;) {
        free(token->name);
        free(token);
    }
    hw_map_clear(tokens);
}

static void take_row(struct hw_map *tokens, const struct hw_map *before, const PGresult *rows,
                     int row)
{
    HW_AUTO_FREE char *hash = hw_sprintf("sha256:%s", api_row_text(rows, row, "hash"));
    const char *id = api_row_text(rows, row, "id");
    const char *expires = api_row_text(rows, row, "expires_us");
    const struct token *old = hw_map_get(before, id);
    struct token *token;
    struct hw_digest digest;

    /* The table's constraints promise that neither happens. */
    if (strlen(id) != ID_DIGITS || hw_digest_parse(hash, &digest, NULL) != HW_OK)
        return;
    token = hw_alloc(sizeof(*token));
    strcpy(token->id, id);
    token->name = hw_strdup(api_row_text(rows, row, "name"));
    token->role = api_role_of(api_row_text(rows, row, "role"));
    token->hash = digest;
    if (expires == NULL ||
        __builtin_mul_overflow(strtoll(expires, NULL, 10), 1000, &token->expires_ns))
        token->expires_ns = INT64_MAX;
    token->is_revoked = api_row_is_true(rows, row, "is_revoked");
    if (old != NULL) {
        token->was_used = old->was_used;
        token->told_at = old->told_at;
    }
    hw_map_add(tokens, token->id, token);
}

static void take_tokens(struct api_auth *auth, const PGresult *rows)
{
    struct hw_map before = auth->tokens;

    auth->tokens = (struct hw_map){0};
    for (int i = 0; i < PQntuples(rows); i++)
        take_row(&auth->tokens, &before, rows, i);
    clear_tokens(&before);
    if (!auth->known)
        hw_log_info("tokens read", HW_I("tokens", (int64_t)auth->tokens.count));
    auth->known = true;
}

static bool has_expired(const struct token *token)
{
    return token->expires_ns <= hw_clock_now();
}

static bool is_any_active(const struct api_auth *auth)
{
    const struct token *token;

    for (size_t at = 0; (token = hw_map_next(&auth->tokens, &at)) != NULL;)
        if (!token->is_revoked && !has_expired(token))
            return true;
    return false;
}

/* ---- the connection ---- */

static void work(struct api_auth *auth);

static void on_time_to_reread(void *arg)
{
    struct api_auth *auth = arg;

    auth->stale = true;
    hw_timer_start(auth->config.loop, &auth->reread, REREAD_MS, on_time_to_reread, auth);
    work(auth);
}

static void call_back(struct rereaders *list)
{
    struct rereader *rereader;

    while ((rereader = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        rereader->done(rereader->arg);
        free(rereader);
    }
}

/* Said here for all connections: this one asks again and again, whether anyone calls or not. */
static void tell_unfit(struct api_auth *auth, const struct hw_error *why)
{
    const int64_t now = hw_loop_now();

    if (hw_outage_goes_on(&auth->outage, why->message, now))
        hw_log_warn("the database is not as this program needs it",
                    HW_I("lasts_s", hw_outage_age(&auth->outage, now) / 1000), HW_E(why));
}

static void note_trouble(struct api_auth *auth, const struct hw_db_outcome *outcome)
{
    struct hw_error *const why = &auth->trouble;

    *why = outcome->err;
    auth->lacks_schema =
        strcmp(outcome->sqlstate, "42P01") == 0 || strcmp(outcome->sqlstate, "3F000") == 0;
    if (auth->lacks_schema)
        hw_fail(why, why->status,
                "the database does not have the schema (%s): is it the right one? Then run "
                "headwater-api migrate as its owner or a superuser",
                outcome->err.message);
    else if (strcmp(outcome->sqlstate, "42501") == 0)
        hw_fail(why, why->status,
                "%s: this role may not use the schema; connect as headwater_api, or GRANT "
                "headwater_api TO the role",
                outcome->err.message);
    if (outcome->status != HW_EUNAVAIL) /* which the pool tells */
        tell_unfit(auth, why);
}

/* False: the schema is of another version, and is to be looked at again soon. */
static bool check_schema(struct api_auth *auth, const PGresult *rows)
{
    const char *text = api_row_text(rows, 0, "version");
    int64_t lasted;
    struct hw_error why;

    if (api_migrate_check(text != NULL ? strtol(text, NULL, 10) : 0, &why) != HW_OK) {
        tell_unfit(auth, &why);
        return false;
    }
    if (hw_outage_ends(&auth->outage, hw_loop_now(), &lasted))
        hw_log_info("the database is as this program needs it",
                    HW_I("schema", api_migrate_version()), HW_I("lasted_s", lasted / 1000));
    return true;
}

/* The rows are the last statement's, the schema's version is the one's before. */
static void on_read(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_auth *auth = arg;

    auth->busy = false;
    if (outcome->status == HW_OK) {
        auth->listening = true;
        auth->lacks_schema = false;
        take_tokens(auth, outcome->results[outcome->count - 1]);
        if (!check_schema(auth, outcome->results[outcome->count - 2]))
            hw_timer_start(auth->config.loop, &auth->reread, READ_AGAIN_MS, on_time_to_reread,
                           auth);
    } else {
        auth->stale = true;
        note_trouble(auth, outcome);
        hw_timer_start(auth->config.loop, &auth->reread, READ_AGAIN_MS, on_time_to_reread, auth);
    }
    call_back(&auth->served);
    if (outcome->status == HW_OK)
        work(auth);
}

static void read_tokens(struct api_auth *auth)
{
    static const struct hw_db_query queries[] = {
        {.sql = "SELECT set_config('statement_timeout', '30s', false)"},
        {.sql = "LISTEN headwater_token"},
        {.sql = "SELECT max(version) AS version FROM headwater.migration"},
        {.sql = select_sql},
    };
    const int first = auth->listening ? (int)HW_COUNT(queries) - 2 : 0;
    struct hw_error err;

    if (hw_db_run(auth->pg, HW_DB_SEPARATE, queries + first, (int)HW_COUNT(queries) - first, NULL,
                  on_read, auth, &err) != HW_OK)
        return; /* it is down, and will be up */
    auth->busy = true;
    auth->stale = false;
    STAILQ_CONCAT(&auth->served, &auth->waiting);
}

static void on_told(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_auth *auth = arg;

    auth->busy = false;
    if (outcome->status != HW_OK)
        hw_log_debug("cannot tell which tokens were used", HW_E(&outcome->err));
    work(auth);
}

static void tell_uses(struct api_auth *auth)
{
    struct hw_buf ids = {0};
    struct token *token;
    struct hw_error err;

    auth->uses_due = false;
    hw_buf_putc(&ids, '{');
    for (size_t at = 0; (token = hw_map_next(&auth->tokens, &at)) != NULL;) {
        if (!token->was_used)
            continue;
        hw_buf_printf(&ids, "%s%s", ids.len > 1 ? "," : "", token->id);
        token->was_used = false;
        token->told_at = hw_loop_now();
    }
    hw_buf_putc(&ids, '}');
    const char *const values[] = {ids.data};
    const struct hw_db_query query = {
        .sql = "SELECT headwater.note_token_use($1::text[])", .count = 1, .values = values};

    if (hw_db_run(auth->pg, HW_DB_ATOMIC, &query, 1, NULL, on_told, auth, &err) == HW_OK)
        auth->busy = true;
    hw_buf_free(&ids);
}

static void work(struct api_auth *auth)
{
    if (auth->stopped || auth->busy || !hw_db_up(auth->pg))
        return;
    if (auth->stale)
        read_tokens(auth);
    else if (auth->uses_due && auth->listening)
        tell_uses(auth);
}

static void on_up(void *arg)
{
    struct api_auth *auth = arg;

    auth->listening = false;
    on_time_to_reread(auth);
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct api_auth *auth = arg;

    auth->listening = false;
    auth->lacks_schema = false;
    auth->trouble = *why;
    call_back(&auth->waiting);
}

static void on_notify(void *arg, const char *channel)
{
    struct api_auth *auth = arg;

    (void)channel;
    auth->stale = true;
    work(auth);
}

enum hw_status api_auth_open(const struct api_auth_config *config, struct api_auth **out,
                             struct hw_error *err)
{
    struct api_auth *auth = hw_alloc(sizeof(*auth));
    const struct hw_db_events events = {
        .up = on_up, .down = on_down, .notify = on_notify, .arg = auth};
    enum hw_status status;

    auth->config = *config;
    STAILQ_INIT(&auth->waiting);
    STAILQ_INIT(&auth->served);
    hw_fail(&auth->trouble, HW_EUNAVAIL, "no connection to the database was made yet");
    status =
        hw_db_open(config->loop, config->conninfo, "headwater-api auth", &events, &auth->pg, err);
    if (status != HW_OK) {
        free(auth);
        return status;
    }
    *out = auth;
    return HW_OK;
}

void api_auth_stop(struct api_auth *auth)
{
    auth->stopped = true;
    hw_timer_stop(&auth->reread);
    hw_timer_stop(&auth->uses);
    hw_db_close(HW_TAKE(auth->pg));
    call_back(&auth->served);
    call_back(&auth->waiting);
}

void api_auth_free(struct api_auth *auth)
{
    if (auth == NULL)
        return;
    if (!auth->stopped)
        api_auth_stop(auth);
    clear_tokens(&auth->tokens);
    free(auth);
}

bool api_auth_ready(const struct api_auth *auth)
{
    return auth->known;
}

const char *api_auth_trouble(const struct api_auth *auth)
{
    return auth->trouble.message;
}

void api_auth_reread(struct api_auth *auth, void (*done)(void *arg), void *arg)
{
    struct rereader *rereader;

    if (auth->stopped || !hw_db_up(auth->pg)) {
        done(arg);
        return;
    }
    rereader = hw_alloc(sizeof(*rereader));
    rereader->done = done;
    rereader->arg = arg;
    STAILQ_INSERT_TAIL(&auth->waiting, rereader, link);
    auth->stale = true;
    work(auth);
}

/* ---- judging ---- */

static void answer_unauthenticated(struct http_request *request, const char *why)
{
    http_answer_header(request, HTTP_WWW_AUTHENTICATE, "Bearer");
    http_answer_problem(request, &api_unauthenticated, "%s", why);
}

/* Only what was wrong counts: whoever has a token gets in whatever others at the address do.
 * token: whose it is, where that is known. */
static void refuse(struct api_auth *auth, struct http_request *request, const char *token,
                   const char *why)
{
    const int64_t wait_ms =
        api_throttle_failed(&auth->throttle, http_request_peer(request), hw_loop_now());
    char seconds[24];

    if (wait_ms == 0) {
        hw_log_warn("authentication failed", HW_S("client", request->client), HW_S("token", token),
                    HW_S("reason", why));
        answer_unauthenticated(request, why);
        return;
    }
    snprintf(seconds, sizeof(seconds), "%" PRId64, (wait_ms + 999) / 1000);
    http_answer_header(request, HTTP_RETRY_AFTER, seconds);
    http_answer_problem(
        request, &api_rate_limited,
        "%d wrong tokens came from this address within a minute. Try again in %s s; "
        "a right one is taken at any time",
        API_THROTTLE_MOST, seconds);
}

/* The token in "Bearer <token>", or NULL. */
static const char *bearer(const char *authorization)
{
    static const char scheme[] = "Bearer ";

    if (strncasecmp(authorization, scheme, strlen(scheme)) != 0)
        return NULL;
    authorization += strlen(scheme);
    return authorization + strspn(authorization, " ");
}

static bool is_well_formed(const char *text)
{
    return strlen(text) == TOKEN_CHARS && strncmp(text, "hwt_", 4) == 0 &&
           strspn(text + 4, "0123456789abcdef") == ID_DIGITS && text[4 + ID_DIGITS] == '_' &&
           strspn(text + 4 + ID_DIGITS + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                            "0123456789-_") == SECRET_CHARS;
}

/* NULL when there is none, after the same work. */
static struct token *find_token(const struct api_auth *auth, const char *text)
{
    static const struct hw_digest nobody;
    char id[ID_DIGITS + 1] = "";
    struct token *token;
    struct hw_digest hash;
    bool same;

    memcpy(id, text + 4, ID_DIGITS);
    hw_digest_of(text, TOKEN_CHARS, &hash);
    token = hw_map_get(&auth->tokens, id);
    same = CRYPTO_memcmp(hash.bytes, token != NULL ? token->hash.bytes : nobody.bytes,
                         sizeof(hash.bytes)) == 0;
    return same ? token : NULL;
}

static void on_uses_due(void *arg)
{
    struct api_auth *auth = arg;

    auth->uses_due = true;
    work(auth);
}

static void note_use(struct api_auth *auth, struct token *token)
{
    if (token->told_at != 0 && hw_loop_now() - token->told_at < USES_EVERY_MS)
        return;
    token->was_used = true;
    if (!auth->uses_due && !hw_timer_running(&auth->uses))
        hw_timer_start(auth->config.loop, &auth->uses, USES_AFTER_MS, on_uses_due, auth);
}

/* The caller is known by author (taken over): may they do it? */
static bool permit(struct http_request *request, enum api_role role, char *author)
{
    request->author = http_request_keep(request, author);
    if ((int)role >= request->route->role)
        return true;
    http_answer_problem(request, &api_forbidden, "This needs the role %s; %s has %s",
                        api_role_name((enum api_role)request->route->role), author,
                        api_role_name(role));
    return false;
}

static bool judge_token(struct api_auth *auth, struct http_request *request,
                        const char *authorization)
{
    const char *text = bearer(authorization);
    struct token *token = NULL;

    if (text == NULL)
        refuse(auth, request, NULL, "Authorization: the scheme must be Bearer");
    else if (!is_well_formed(text))
        refuse(auth, request, NULL, "Authorization: this is not a token, which looks like hwt_…");
    else if ((token = find_token(auth, text)) == NULL && !is_any_active(auth))
        refuse(auth, request, NULL,
               "Every token has expired or was revoked: make one with headwater-api token create");
    else if (token == NULL)
        refuse(auth, request, NULL, "There is no such token");
    else if (token->is_revoked)
        refuse(auth, request, token->name, "The token was revoked");
    else if (has_expired(token))
        refuse(auth, request, token->name, "The token has expired");
    else {
        note_use(auth, token);
        return permit(request, token->role, hw_sprintf("token:%s", token->name));
    }
    return false;
}

static void ask_for_token(const struct api_auth *auth, struct http_request *request)
{
    if (auth->tokens.count == 0)
        answer_unauthenticated(request,
                               "There is no token yet, and this service is reached from other "
                               "machines: make one with headwater-api token create");
    else if (!is_any_active(auth))
        answer_unauthenticated(request, "Every token has expired or was revoked: make one with "
                                        "headwater-api token create");
    else
        answer_unauthenticated(request,
                               "Authorization: Bearer, with a token, is missing: whoever has an "
                               "admin's makes one, by headwater token create NAME --role ROLE");
}

bool api_auth_judge(struct api_auth *auth, struct http_request *request, const char *authorization)
{
    if (request->route->role == API_ROLE_NONE)
        return true;
    if (!auth->known) {
        if (auth->lacks_schema)
            http_answer_problem(request, &api_not_ready, "%s", auth->trouble.message);
        else
            http_answer_problem(request, &api_database_unavailable,
                                "The service has no database: %s", auth->trouble.message);
        return false;
    }
    if (authorization != NULL && auth->tokens.count > 0)
        return judge_token(auth, request, authorization);
    if (auth->config.certificate_role != API_ROLE_NONE) {
        char *name = http_tls_client_name(request->connection);

        if (name != NULL) {
            char *author = hw_sprintf("cert:%s", name);

            free(name);
            return permit(request, auth->config.certificate_role, author);
        }
    }
    if (auth->tokens.count == 0 && auth->config.is_loopback)
        return permit(request, API_ROLE_ADMIN, hw_sprintf("http:%s", request->client));
    ask_for_token(auth, request);
    return false;
}

bool api_auth_still(const struct api_auth *auth, const struct http_request *request)
{
    const char *authorization = http_request_header(request, HTTP_AUTHORIZATION);
    const char *text = authorization != NULL ? bearer(authorization) : NULL;
    const struct token *token;

    if (request->author == NULL || strncmp(request->author, "cert:", 5) == 0)
        return true;
    if (auth->tokens.count == 0)
        return strncmp(request->author, "http:", 5) == 0;
    token = text != NULL && is_well_formed(text) ? find_token(auth, text) : NULL;
    return token != NULL && !token->is_revoked && !has_expired(token) &&
           (int)token->role >= request->route->role;
}
