#include "api/access/auth.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/access/throttle.h"
#include "api/problem.h"
#include "base/memory.h"
#include "common/warning.h"
#include "http/answer.h"
#include "http/tls.h"

#define NONE_LEFT                                                                                  \
    "There were tokens, and the database shows none now: make one with headwater-api token "       \
    "create, or have a DBA say that none is needed (SELECT headwater.forget_tokens())"

struct api_auth {
    struct api_auth_config config;
    struct api_throttle throttle;
};

struct api_auth *api_auth_new(const struct api_auth_config *config)
{
    struct api_auth *auth = hw_alloc(sizeof(*auth));

    auth->config = *config;
    return auth;
}

void api_auth_free(struct api_auth *auth)
{
    free(auth);
}

static void answer_unauthenticated(struct http_request *request, const char *why)
{
    http_answer_header(request, HTTP_WWW_AUTHENTICATE, "Bearer");
    http_answer_problem(request, &api_unauthenticated, "%s", why);
}

/* Refuses a caller who showed a wrong token, and counts that for the address. Callers with a right
 * token get in however often others failed from the same address. token: its name, where it is
 * known, or NULL. */
static void refuse(struct api_auth *auth, struct http_request *request, const char *token,
                   const char *why)
{
    const int64_t wait_ms =
        api_throttle_failed(&auth->throttle, http_request_peer(request), hw_loop_now());
    char seconds[24];

    if (wait_ms == 0) {
        hw_warn_about(request->client, "authentication failed", HW_S("client", request->client),
                      HW_S("token", token), HW_S("reason", why));
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

/* Has the caller, who is known by author (taken over), the role that the route needs? */
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
    struct api_token_table *const tokens = auth->config.tokens;
    const char *text = bearer(authorization);
    struct api_token *token = NULL;

    if (text == NULL)
        refuse(auth, request, NULL, "Authorization: the scheme must be Bearer");
    else if (!api_token_is_well_formed(text))
        refuse(auth, request, NULL, "Authorization: this is not a token, which looks like hwt_…");
    else if (api_token_table_count(tokens) == 0)
        refuse(auth, request, NULL, NONE_LEFT);
    else if ((token = api_token_table_find(tokens, text)) == NULL &&
             !api_token_table_any_active(tokens))
        refuse(auth, request, NULL,
               "Every token has expired or was revoked: make one with headwater-api token create");
    else if (token == NULL)
        refuse(auth, request, NULL, "There is no such token");
    else if (token->is_revoked)
        refuse(auth, request, token->name, "The token was revoked");
    else if (api_token_has_expired(token))
        refuse(auth, request, token->name, "The token has expired");
    else {
        api_token_table_note_use(tokens, token);
        return permit(request, token->role, hw_sprintf("token:%s", token->name));
    }
    return false;
}

static void ask_for_token(const struct api_auth *auth, struct http_request *request)
{
    const struct api_token_table *const tokens = auth->config.tokens;

    if (!api_token_table_required(tokens))
        answer_unauthenticated(request,
                               "There is no token yet, and this service is reached from other "
                               "machines: make one with headwater-api token create");
    else if (api_token_table_count(tokens) == 0)
        answer_unauthenticated(request, NONE_LEFT);
    else if (!api_token_table_any_active(tokens))
        answer_unauthenticated(request, "Every token has expired or was revoked: make one with "
                                        "headwater-api token create");
    else
        answer_unauthenticated(request,
                               "Authorization: Bearer, with a token, is missing: whoever has an "
                               "admin's makes one, by headwater token create NAME --role ROLE");
}

bool api_auth_judge(struct api_auth *auth, struct http_request *request, const char *authorization)
{
    const struct api_token_table *const tokens = auth->config.tokens;

    if (request->route->role == API_ROLE_NONE)
        return true;
    if (!api_token_table_known(tokens)) {
        if (api_token_table_lacks_schema(tokens))
            http_answer_problem(request, &api_not_ready, "%s", api_token_table_trouble(tokens));
        else
            http_answer_problem(request, &api_database_unavailable,
                                "The service has no database: %s", api_token_table_trouble(tokens));
        return false;
    }
    if (authorization != NULL && api_token_table_required(tokens))
        return judge_token(auth, request, authorization);
    if (auth->config.certificate_role != API_ROLE_NONE) {
        char *name = http_tls_client_name(request->connection);

        if (name != NULL) {
            char *author = hw_sprintf("cert:%s", name);

            free(name);
            return permit(request, auth->config.certificate_role, author);
        }
    }
    if (!api_token_table_required(tokens) && auth->config.is_loopback)
        return permit(request, API_ROLE_ADMIN, hw_sprintf("http:%s", request->client));
    ask_for_token(auth, request);
    return false;
}

bool api_auth_still(const struct api_auth *auth, const struct http_request *request)
{
    const struct api_token_table *const tokens = auth->config.tokens;
    const char *authorization = http_request_header(request, HTTP_AUTHORIZATION);
    const char *text = authorization != NULL ? bearer(authorization) : NULL;
    const struct api_token *token;

    if (request->author == NULL || strncmp(request->author, "cert:", 5) == 0)
        return true;
    if (!api_token_table_required(tokens))
        return strncmp(request->author, "http:", 5) == 0;
    token =
        text != NULL && api_token_is_well_formed(text) ? api_token_table_find(tokens, text) : NULL;
    return token != NULL && !token->is_revoked && !api_token_has_expired(token) &&
           (int)token->role >= request->route->role;
}
