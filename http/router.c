#include "http/router.h"

#include <string.h>

/* The segment of the pattern at *at and its length; moves *at behind it. NULL at the end. */
static const char *next_segment(const char **at, size_t *len)
{
    const char *segment;

    if (**at != '/')
        return NULL;
    segment = *at + 1;
    *len = strcspn(segment, "/");
    *at = segment + *len;
    return segment;
}

static bool matches(const char *pattern, const struct http_target *target)
{
    const char *segment;
    size_t len;
    int i = 0;

    if (target->segment_count > HTTP_TARGET_SEGMENTS)
        return false;
    while ((segment = next_segment(&pattern, &len)) != NULL) {
        if (i == target->segment_count)
            return false;
        const char *given = target->segments[i++];

        if (segment[0] == '{' ? *given == '\0'
                              : strncmp(segment, given, len) != 0 || given[len] != '\0')
            return false;
    }
    return i == target->segment_count;
}

static void allow_method(struct hw_buf *allow, const char *method)
{
    if (allow->len > 0)
        hw_buf_puts(allow, ", ");
    hw_buf_puts(allow, method);
    if (strcmp(method, "GET") == 0)
        hw_buf_puts(allow, ", HEAD");
}

enum hw_status http_router_find(const struct http_route *routes, const char *method,
                                const struct http_target *target, const struct http_route **route,
                                struct hw_buf *allow)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;

    for (const struct http_route *r = routes; r->method != NULL; r++) {
        if (!matches(r->pattern, target))
            continue;
        if (strcmp(r->method, wanted) == 0) {
            hw_buf_free(allow);
            *route = r;
            return HW_OK;
        }
        allow_method(allow, r->method);
    }
    return allow->len > 0 ? HW_EDENIED : HW_ENOENT;
}

const char *http_router_variable(const struct http_route *route, const struct http_target *target,
                                 const char *name)
{
    const char *pattern = route->pattern;
    const size_t name_len = strlen(name);
    const char *segment;
    size_t len;

    for (int i = 0; (segment = next_segment(&pattern, &len)) != NULL; i++)
        if (segment[0] == '{' && len == name_len + 2 && strncmp(segment + 1, name, name_len) == 0)
            return target->segments[i];
    return NULL;
}

static bool takes(const char *words, const char *word)
{
    const size_t len = strlen(word);

    for (const char *p = words; *p != '\0'; p += strspn(p, " ")) {
        const size_t span = strcspn(p, " ");

        if (span == len && strncmp(p, word, len) == 0)
            return true;
        p += span;
    }
    return false;
}

bool http_router_takes(const struct http_route *route, const char *parameter)
{
    return takes(route->query, parameter);
}

const char *http_router_unknown(const struct http_route *route, const struct http_target *target)
{
    for (int i = 0; i < target->parameter_count; i++)
        if (!takes(route->query, target->parameters[i].name))
            return target->parameters[i].name;
    return NULL;
}
