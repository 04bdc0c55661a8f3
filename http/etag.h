/*
 * Lists of entity tags (RFC 9110 section 8.8.3), as If-Match and If-None-Match have them.
 */
#ifndef HTTP_ETAG_H
#define HTTP_ETAG_H

#include <stdbool.h>
#include <stddef.h>

/* May field be the value of If-Match or If-None-Match? */
bool http_etag_list_valid(const char *field);

/* Does If-None-Match: field hold etag (with its quotes), by weak comparison? "*" holds any. */
bool http_etag_list_has(const char *field, const char *etag);

/* One tag of a list. */
struct http_etag {
    const char *opaque; /* in the field, with its quotes */
    size_t len;
    bool weak;
};
/* Takes the next tag of a list and moves *at behind it. False at the end, and also where the text
 * is no list; then *valid turns false. */
bool http_etag_next(const char **at, struct http_etag *tag, bool *valid);
/* "*", which any tag matches. */
bool http_etag_is_any(const char *field);

#endif
