#include "http/target.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/utf8.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place, which never grows. what: for the error. */
static enum hw_status decode(char *text, bool query, const char *what, struct hw_error *err)
{
    char *out = text;

    for (const char *in = text; *in != '\0'; in++) {
        if (query && *in == '+') {
            *out++ = ' ';
            continue;
        }
        if (*in != '%') {
            *out++ = *in;
            continue;
        }
        const int high = hex(in[1]);
        const int low = high < 0 ? -1 : hex(in[2]);

        if (low < 0)
            return hw_fail(err, HW_EINVAL, "%s: \"%%\" must be followed by two hex digits", what);
        const char c = (char)(high << 4 | low);

        if (c == '\0')
            return hw_fail(err, HW_EINVAL, "%s: %%00 is not allowed", what);
        if (c == '/' && !query)
            return hw_fail(err, HW_EINVAL, "%s: %%2F is not allowed: no name holds a slash", what);
        *out++ = c;
        in += 2;
    }
    *out = '\0';
    if (!hw_utf8_valid(text, (size_t)(out - text), NULL))
        return hw_fail(err, HW_EINVAL, "%s: not UTF-8", what);
    return HW_OK;
}

static enum hw_status parse_path(char *path, struct http_target *target, struct hw_error *err)
{
    char *rest = path;
    char *segment;

    rest++; /* the leading slash */
    while ((segment = strsep(&rest, "/")) != NULL) {
        const enum hw_status status = decode(segment, false, "path", err);

        if (status != HW_OK)
            return status;
        if (target->segment_count == HTTP_TARGET_SEGMENTS) {
            target->segment_count++;
            return HW_OK;
        }
        target->segments[target->segment_count++] = segment;
    }
    return HW_OK;
}

static enum hw_status parse_query(char *query, struct http_target *target, struct hw_error *err)
{
    char *name;

    while ((name = strsep(&query, "&")) != NULL) {
        char *value = strchr(name, '=');
        enum hw_status status;

        if (*name == '\0')
            continue;
        if (value != NULL)
            *value++ = '\0';
        else
            value = name + strlen(name);
        status = decode(name, true, "query", err);
        if (status == HW_OK)
            status = decode(value, true, "query", err);
        if (status != HW_OK)
            return status;
        if (http_target_parameter(target, name) != NULL)
            return hw_fail(err, HW_EINVAL, "query: parameter \"%s\" is given twice", name);
        if (target->parameter_count == HTTP_TARGET_PARAMETERS)
            return hw_fail(err, HW_EINVAL, "query: more than %d parameters",
                           HTTP_TARGET_PARAMETERS);
        target->parameters[target->parameter_count++] =
            (struct http_parameter){.name = name, .value = value};
    }
    return HW_OK;
}

/* A client that takes us for a proxy names the authority as well (RFC 9112 section 3.2.2). Returns
 * where it begins; NULL: the target begins with the path. */
static const char *find_authority(const char *raw)
{
    static const char *const schemes[] = {"http://", "https://"};

    for (size_t i = 0; i < HW_COUNT(schemes); i++)
        if (strncasecmp(raw, schemes[i], strlen(schemes[i])) == 0)
            return raw + strlen(schemes[i]);
    return NULL;
}

char *http_target_authority(const char *raw)
{
    const char *authority = find_authority(raw);

    return authority != NULL ? hw_strndup(authority, strcspn(authority, "/?")) : NULL;
}

static const char *without_authority(const char *raw)
{
    const char *authority = find_authority(raw);

    if (authority == NULL)
        return raw;
    const char *path = authority + strcspn(authority, "/?");
    return *path == '/' ? path : "/";
}

enum hw_status http_target_parse(const char *raw, struct http_target *target, struct hw_error *err)
{
    struct http_target t = {.text = hw_strdup(without_authority(raw))};
    char *query = strchr(t.text, '?');
    enum hw_status status;

    if (t.text[0] != '/') {
        free(t.text);
        return hw_fail(err, HW_EINVAL, "path: must start with a slash");
    }
    if (query != NULL)
        *query++ = '\0';
    status = parse_path(t.text, &t, err);
    if (status == HW_OK && query != NULL)
        status = parse_query(query, &t, err);
    if (status != HW_OK) {
        free(t.text);
        return status;
    }
    *target = t;
    return HW_OK;
}

void http_target_free(struct http_target *target)
{
    free(target->text);
    *target = (struct http_target){0};
}

const char *http_target_parameter(const struct http_target *target, const char *name)
{
    for (int i = 0; i < target->parameter_count; i++)
        if (strcmp(target->parameters[i].name, name) == 0)
            return target->parameters[i].value;
    return NULL;
}
