#include "http/etag.h"

#include <stddef.h>
#include <string.h>

#include "common/buf.h"
#include "common/memory.h"

struct tag {
    const char *opaque; /* with its quotes */
    size_t len;
    bool weak;
};

/* Takes the next tag of a list; false at the end. *valid turns false where it is not a list. */
static bool next_tag(const char **at, struct tag *tag, bool *valid)
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

static bool is_any(const char *field)
{
    return strcmp(field, "*") == 0;
}

bool api_etag_list_valid(const char *field)
{
    struct tag tag;
    bool valid = true;
    int count = 0;

    if (is_any(field))
        return true;
    while (next_tag(&field, &tag, &valid))
        count++;
    return valid && count > 0;
}

bool api_etag_list_has(const char *field, const char *etag)
{
    struct tag tag;
    bool valid = true;

    if (is_any(field))
        return true;
    while (next_tag(&field, &tag, &valid))
        if (tag.len == strlen(etag) && strncmp(tag.opaque, etag, tag.len) == 0)
            return true;
    return false;
}

/* A positive bigint in its one usual spelling. */
static bool is_version(const struct tag *tag)
{
    const size_t digits = tag->len - 2;

    return !tag->weak && digits >= 1 && digits <= 18 && tag->opaque[1] != '0' &&
           strspn(tag->opaque + 1, "0123456789") == digits;
}

char *api_etag_versions(const char *field)
{
    struct hw_buf literal = {0};
    struct tag tag;
    bool valid = true;

    if (is_any(field))
        return NULL;
    hw_buf_putc(&literal, '{');
    while (next_tag(&field, &tag, &valid)) {
        if (!is_version(&tag))
            continue;
        if (literal.len > 1)
            hw_buf_putc(&literal, ',');
        hw_buf_add(&literal, tag.opaque + 1, tag.len - 2);
    }
    hw_buf_putc(&literal, '}');
    return literal.data;
}
