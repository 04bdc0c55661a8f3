/*
 * Preconditions of a write (RFC 9110 section 13.1), as the statement that carries it out checks
 * them. The entity tag of a resource is its version in the database.
 */
#ifndef API_REQUEST_PRECONDITION_H
#define API_REQUEST_PRECONDITION_H

#include <stdbool.h>

#include "http/request.h"

struct api_precondition {
    const char *if_match;       /* the field as it came, valid, or NULL */
    const char *versions;       /* those that it lists, as PostgreSQL's bigint[]; NULL: any */
    const char *must_not_exist; /* was If-None-Match: * given, the only form taken? "t" or "f" */
};

/* False when the request was answered with the problem. */
bool api_precondition_read(struct http_request *request, struct api_precondition *condition);

/*
 * The tags of If-Match: field that can be versions, as PostgreSQL's array literal "{17,18}";
 * malloc'ed. NULL for "*", which asks for no version. Weak tags never match (RFC 9110 section
 * 13.1.1), so they are left out.
 */
char *api_precondition_versions(const char *field);

#endif
