#include "http/etag.h"

#include <string.h>

bool http_etag_next(const char **at, struct http_etag *tag, bool *valid)
{
    const char *p = *at + strspn(*at, " \t,");
    const char *end;

    if (*p == '\0')
        return false;
    tag->weak = strncmp(p, "W/", 2) == 0;
    if (tag->weak)
        p += 2;
    end = *p == '"' ? strchr(p + 1, '"') : NULL;
    if (end == NULL || (end[1] != '\0' && strchr(" \t,", end[1]) == NULL)) {
        *valid = false;
        return false;
    }
    tag->opaque = p;
    tag->len = (size_t)(end + 1 - p);
    *at = end + 1;
    return true;
}

bool http_etag_is_any(const char *field)
{
    return strcmp(field, "*") == 0;
}

bool http_etag_list_valid(const char *field)
{
    struct http_etag tag;
    bool valid = true;
    int count = 0;

    if (http_etag_is_any(field))
        return true;
    while (http_etag_next(&field, &tag, &valid))
        count++;
    return valid && count > 0;
}

bool http_etag_list_has(const char *field, const char *etag)
{
    struct http_etag tag;
    bool valid = true;

    if (http_etag_is_any(field))
        return true;
    if (strncmp(etag, "W/", 2) == 0)
        etag += 2;
    while (http_etag_next(&field, &tag, &valid))
        if (tag.len == strlen(etag) && strncmp(tag.opaque, etag, tag.len) == 0)
            return true;
    return false;
}
