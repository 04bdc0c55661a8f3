/*
 * Who is calling, and may they? Bearer tokens (RFC 6750) and client certificates, and the roles
 * that they have. All tokens are held in memory, by their hashes: read when the database is
 * reached, again at each notification "headwater_token" and now and then, so that a request costs
 * no query, and a token goes on being known while the database is away. While there is no token at
 * all, a service that only loopback reaches asks for none. Tokens that were revoked or have expired
 * count as being there: time alone opens nothing.
 */
#ifndef API_AUTH_H
#define API_AUTH_H

#include <stdbool.h>

#include "api/role.h"
#include "common/loop.h"
#include "common/status.h"
#include "http/request.h"

struct api_auth_config {
    struct hw_loop *loop;
    const char *conninfo;
    bool is_loopback; /* nobody else reaches the service */
    enum api_role
        certificate_role; /* of callers that TLS knows; API_ROLE_NONE: they need a token */
};

struct api_auth;
enum hw_status api_auth_open(const struct api_auth_config *config, struct api_auth **auth,
                             struct hw_error *err) HW_CHECKED;
/* Whoever waits for api_auth_reread is called. */
void api_auth_stop(struct api_auth *auth);
void api_auth_free(struct api_auth *auth); /* NULL is fine */

bool api_auth_ready(const struct api_auth *auth); /* the tokens are known */
/* Why they are not, with what to do; no secret. */
const char *api_auth_trouble(const struct api_auth *auth);

/*
 * Judges a request by its route's role and its Authorization field (or NULL), and sets its author.
 * False when it was answered instead: 401, 403, 429, or 503 while nobody knows which tokens there
 * are.
 */
bool api_auth_judge(struct api_auth *auth, struct http_request *request, const char *authorization);

/* May the caller of a request that was let in still do it, by what is known now? For those that
 * last. */
bool api_auth_still(const struct api_auth *auth, const struct http_request *request);

/* Calls done when what is committed now is known here; perhaps at once, where the database is lost.
 */
void api_auth_reread(struct api_auth *auth, void (*done)(void *arg), void *arg);

#endif
