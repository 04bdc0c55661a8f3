/*
 * Entity tags and preconditions (RFC 9110 sections 8.8.3 and 13.1). Our tags are strong: the
 * database's version of a resource, a number that grows with every change and is never used again.
 */
#ifndef HTTP_ETAG_H
#define HTTP_ETAG_H

#include <stdbool.h>

#include "common/status.h"

/* May field be the value of If-Match or If-None-Match? */
bool api_etag_list_valid(const char *field);

/* Does If-None-Match: field hold etag (with its quotes), by weak comparison? "*" holds any. */
bool api_etag_list_has(const char *field, const char *etag);

/*
 * Those of If-Match: field that can be versions, as PostgreSQL's array literal "{17,18}";
 * malloc'ed.
 * "*" gives NULL: no version is asked for. Weak tags never match (RFC 9110 section 13.1.1).
 */
char *api_etag_versions(const char *field);

#endif
