/*
 * Preconditions of a write (RFC 9110 section 13.1), as the statement that carries it out checks
 * them. The entity tag of a resource is its version in the database.
 */
#ifndef API_REQUEST_PRECONDITION_H
#define API_REQUEST_PRECONDITION_H

#include <stdbool.h>

#include "http/request.h"

/* As PostgreSQL takes them: headwater.check_precondition() judges them. */
struct api_precondition {
    const char *versions;       /* that If-Match lists, as bigint[]; NULL: it lists none */
    const char *must_exist;     /* was If-Match: * given? "t" or "f" */
    const char *must_not_exist; /* was If-None-Match: * given, the only form taken? "t" or "f" */
};

/* False when the request was answered with the problem. */
bool api_precondition_read(struct http_request *request, struct api_precondition *condition);

/* For a write of what is always there and has no entity tag: neither If-Match nor If-None-Match: *
 * can hold. False when the request was answered so. */
bool api_precondition_none(struct http_request *request);

/* Does If-Match list a weak tag? It can never match, which its sender may want to know. */
bool api_precondition_is_weak(const struct http_request *request);

/*
 * The tags of If-Match: field that can be versions, as PostgreSQL's array literal "{17,18}";
 * malloc'ed. NULL for "*", which asks for no version. Weak tags never match (RFC 9110 section
 * 13.1.1), so they are left out.
 */
char *api_precondition_versions(const char *field);

#endif
