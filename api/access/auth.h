/*
 * Who is calling, and may they? Bearer tokens (RFC 6750) and client certificates, and the roles
 * that they have. While there is no token at all, a service that only loopback reaches asks for
 * none.
 */
#ifndef API_ACCESS_AUTH_H
#define API_ACCESS_AUTH_H

#include <stdbool.h>

#include "api/access/role.h"
#include "api/access/token_table.h"
#include "http/request.h"

struct api_auth_config {
    struct api_token_table *tokens; /* borrowed */
    bool is_loopback;               /* nobody else reaches the service */
    /* Of callers that TLS knows; API_ROLE_NONE: they need a token. */
    enum api_role certificate_role;
};

struct api_auth;
struct api_auth *api_auth_new(const struct api_auth_config *config);
void api_auth_free(struct api_auth *auth); /* NULL is fine */

/*
 * Judges a request by its route's role and its Authorization field (or NULL), and sets its author:
 * "http:<address>", "token:<name>" or "cert:<name>", for the change log; NULL on routes that are
 * everyone's. False when it was answered instead: 401, 403, 429, or 503 while nobody knows which
 * tokens there are.
 */
bool api_auth_judge(struct api_auth *auth, struct http_request *request, const char *authorization);

/* May the caller of a request that was let in still do it, by what is known now? For requests that
 * last. */
bool api_auth_still(const struct api_auth *auth, const struct http_request *request);

#endif
