#include "cli/pointer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"

/* The step at *rest, malloc'ed; *rest then stands behind it. NULL at the end. ~1 and ~0 mean / and
 * ~. */
static char *next_step(const char **rest, char separator)
{
    if (*rest == NULL)
        return NULL;
    const size_t len = strcspn(*rest, (char[]){separator, '\0'});
    char *step = hw_strndup(*rest, len), *to = step;

    *rest = (*rest)[len] != '\0' ? *rest + len + 1 : NULL;
    if (separator != '/')
        return step;
    for (const char *from = step; *from != '\0';) {
        const bool escape = *from == '~' && (from[1] == '0' || from[1] == '1');

        *to++ = !escape ? *from : from[1] == '0' ? '~' : '/';
        from += escape ? 2 : 1;
    }
    *to = '\0';
    return step;
}

/* Reads an index without a sign or leading zeros; false: it is none. */
static bool parse_index(const char *step, size_t *index)
{
    char *end;

    if (*step < '0' || *step > '9' || (*step == '0' && step[1] != '\0'))
        return false;
    *index = strtoul(step, &end, 10);
    return *end == '\0';
}

/* The value to which a step leads, borrowed; NULL: there is none. */
static json_t *get_member(const json_t *container, const char *step)
{
    size_t index;

    if (json_is_array(container))
        return parse_index(step, &index) ? json_array_get(container, index) : NULL;
    return json_object_get(container, step);
}

static enum hw_status put_member(json_t *container, const char *step, json_t *value,
                                 const char *path, struct hw_error *err)
{
    size_t index = 0;

    if (json_is_object(container)) {
        if (json_object_set(container, step, value) != 0)
            return hw_fail(err, HW_EINVAL, "%s: the name is not UTF-8", path);
        return HW_OK;
    }
    if (strcmp(step, "-") == 0)
        index = json_array_size(container);
    else if (!parse_index(step, &index) || index > json_array_size(container))
        return hw_fail(err, HW_EINVAL, "%s: \"%s\" is no index into an array of %zu", path, step,
                       json_array_size(container));
    if (index == json_array_size(container))
        json_array_append(container, value);
    else
        json_array_set(container, index, value);
    return HW_OK;
}

static enum hw_status remove_member(json_t *container, const char *step, const char *path,
                                    struct hw_error *err)
{
    size_t index;

    if (get_member(container, step) == NULL)
        return hw_fail(err, HW_ENOENT, "%s: nothing is there to remove", path);
    if (json_is_object(container))
        json_object_del(container, step);
    else if (parse_index(step, &index))
        json_array_remove(container, index);
    return HW_OK;
}

char *cli_pointer_of(const char *path)
{
    struct hw_buf pointer = {0};

    if (*path == '/' || *path == '\0')
        return hw_strdup(path);
    hw_buf_putc(&pointer, '/');
    for (const char *p = path; *p != '\0'; p++) {
        if (*p == '~')
            hw_buf_puts(&pointer, "~0");
        else if (*p == '/')
            hw_buf_puts(&pointer, "~1");
        else
            hw_buf_putc(&pointer, *p == '.' ? '/' : *p);
    }
    return pointer.data;
}

enum hw_status cli_pointer_set(json_t *document, const char *path, json_t *value,
                               struct hw_error *err)
{
    const char separator = *path == '/' ? '/' : '.';
    const char *rest = separator == '/' ? path + 1 : path;
    json_t *container = document;
    HW_AUTO_FREE char *step = next_step(&rest, separator);

    for (;;) {
        HW_AUTO_FREE char *next = next_step(&rest, separator);

        if (!json_is_object(container) && !json_is_array(container))
            return hw_fail(err, HW_EINVAL,
                           "%s: \"%s\" would be in a value that is neither object nor array", path,
                           step);
        if (next == NULL)
            break;
        json_t *member = get_member(container, step);
        if (member == NULL && value == NULL)
            return hw_fail(err, HW_ENOENT, "%s: nothing is there to remove", path);
        if (member == NULL) {
            HW_AUTO_JSON json_t *made = json_object();
            const enum hw_status st = put_member(container, step, made, path, err);
            if (st != HW_OK)
                return st;
            member = made;
        }
        container = member;
        free(step);
        step = HW_TAKE(next);
    }
    return value != NULL ? put_member(container, step, value, path, err)
                         : remove_member(container, step, path, err);
}

enum hw_status cli_pointer_split(const char *assignment, char **path, json_t **value,
                                 struct hw_error *err)
{
    const char *equals = strchr(assignment, '=');
    const size_t len = equals != NULL ? (size_t)(equals - assignment) : strlen(assignment);
    json_error_t problem;

    if (equals == NULL && (len < 2 || assignment[len - 1] != '-'))
        return hw_fail(
            err, HW_EINVAL,
            "%s: not PATH=VALUE, such as rate_hz=2000 or limits.high=7, nor PATH- to remove",
            assignment);
    if (len == 0)
        return hw_fail(err, HW_EINVAL, "%s: the path is missing", assignment);
    if (equals == NULL) {
        *path = hw_strndup(assignment, len - 1);
        *value = NULL;
        return HW_OK;
    }
    const char *text = equals + 1;
    json_t *parsed =
        hw_json_load(text, strlen(text), JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &problem);
    if (parsed == NULL && (*text == '{' || *text == '[' || *text == '"'))
        return hw_fail(err, HW_EINVAL, "%s: not valid JSON at column %d: %s%s", assignment,
                       problem.column, problem.text, hw_json_hint(text, strlen(text), &problem));
    if (parsed == NULL)
        parsed = json_string(text);
    if (parsed == NULL)
        return hw_fail(err, HW_EINVAL, "%s: the value is not UTF-8", assignment);
    *path = hw_strndup(assignment, len);
    *value = parsed;
    return HW_OK;
}
