#include "api/request/body.h"

#include <inttypes.h>
#include <string.h>

#include "api/problem.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "base/nearest.h"
#include "http/answer.h"

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return hw_json_digits(value) != NULL ? hw_json_digits(value) : "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static void refuse(struct http_request *request, const char *name, const char *what)
{
    HW_AUTO_FREE char *path = hw_sprintf("$%s%s", *name != '\0' ? "." : "", name);

    http_answer_problem_with(request, &api_invalid_body, json_pack("{s:s}", "path", path), "%s: %s",
                             path, what);
}

/* Which members there are, and which of them was meant. */
static void refuse_unknown(struct http_request *request, const struct api_field *fields,
                           size_t count, const char *name)
{
    struct hw_nearest nearest = {.word = name};
    struct hw_buf what = {0};

    hw_buf_puts(&what, "there is no such member; there are: ");
    for (size_t i = 0; i < count; i++) {
        hw_buf_printf(&what, "%s%s", i > 0 ? ", " : "", fields[i].name);
        hw_nearest_try(&nearest, fields[i].name);
    }
    if (nearest.best != NULL)
        hw_buf_printf(&what, "; did you mean %s?", nearest.best);
    refuse(request, name, what.data);
    hw_buf_free(&what);
}

/* JSON has one kind of number, so 1.0 and 1e3 are integers as 1 is (JSON Schema 2020-12, section
 * 4.2.3). */
static json_t *as_integer(json_t *value)
{
    const double most = 9007199254740992; /* 2^53: below it every integer is exact */
    const double number = json_real_value(value);

    if (!json_is_real(value) || number < -most || number > most ||
        number != (double)(json_int_t)number)
        return json_incref(value);
    return json_integer((json_int_t)number);
}

static bool read_field(struct http_request *request, const struct api_field *field, json_t *given)
{
    HW_AUTO_JSON json_t *value =
        field->type == API_FIELD_INTEGER ? as_integer(given) : json_incref(given);
    static const struct {
        json_type type;
        const char *name;
    } types[] = {
        [API_FIELD_STRING] = {JSON_STRING, "a string"},
        [API_FIELD_INTEGER] = {JSON_INTEGER, "an integer"},
        [API_FIELD_OBJECT] = {JSON_OBJECT, "an object such as {\"site\": \"north\"}"},
    };

    if (json_is_null(value) && !field->required)
        return true;
    HW_AUTO_FREE char *integer = hw_json_is_number(value) ? hw_json_integer(value) : NULL;
    const bool fits =
        field->type == API_FIELD_INTEGER
            ? integer != NULL
            : json_typeof(value) == types[field->type].type && hw_json_digits(value) == NULL;

    if (!fits) {
        HW_AUTO_FREE char *what =
            hw_sprintf("must be %s, not %s", types[field->type].name, type_name(value));

        refuse(request, field->name, what);
        return false;
    }
    switch (field->type) {
    case API_FIELD_STRING:
        *field->value = http_request_keep(request, hw_strdup(json_string_value(value)));
        break;
    case API_FIELD_INTEGER:
        *field->value = http_request_keep(request, HW_TAKE(integer));
        break;
    case API_FIELD_OBJECT:
        *field->value = http_request_keep(request, hw_json_text(value, false));
        break;
    }
    return true;
}

static bool read_fields(struct http_request *request, const struct api_field *fields, size_t count,
                        json_t *object)
{
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value) {
        size_t i = 0;

        while (i < count && strcmp(fields[i].name, name) != 0)
            i++;
        if (i == count) {
            refuse_unknown(request, fields, count, name);
            return false;
        }
        if (!read_field(request, &fields[i], value))
            return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (fields[i].required && json_object_get(object, fields[i].name) == NULL) {
            refuse(request, fields[i].name, "is missing");
            return false;
        }
    }
    return true;
}

static void cut(struct hw_buf *text, size_t len)
{
    text->len = len;
    text->data[len] = '\0';
}

/* Is there a number that the database's numeric cannot hold? pointer is where, the first one. */
static bool find_unfit(const json_t *value, struct hw_buf *pointer)
{
    const size_t len = pointer->len;
    const char *name;
    json_t *member;
    size_t i;

    if (hw_json_digits(value) != NULL)
        return !hw_json_number_fits(value);
    json_array_foreach(value, i, member) {
        hw_buf_printf(pointer, "/%zu", i);
        if (find_unfit(member, pointer))
            return true;
        cut(pointer, len);
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, member) {
        hw_buf_putc(pointer, '/');
        for (const char *p = name; *p != '\0'; p++) {
            if (*p == '~' || *p == '/')
                hw_buf_puts(pointer, *p == '~' ? "~0" : "~1");
            else
                hw_buf_putc(pointer, *p);
        }
        if (find_unfit(member, pointer))
            return true;
        cut(pointer, len);
    }
    return false;
}

static bool refuse_unfit(struct http_request *request, const json_t *value)
{
    struct hw_buf pointer = {0};

    hw_buf_puts(&pointer, "");
    const bool found = find_unfit(value, &pointer);

    if (found)
        http_answer_problem_with(
            request, &api_invalid_body, json_pack("{s:s}", "pointer", hw_buf_str(&pointer)),
            "the number at %s is more than PostgreSQL keeps: 131072 digits before the point and "
            "16383 behind it",
            hw_buf_str(&pointer));
    hw_buf_free(&pointer);
    return found;
}

/* NULL when the request was answered with the problem. */
static json_t *parse(struct http_request *request)
{
    json_error_t error;
    json_t *value = hw_json_load(request->body, request->body_len,
                                 JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

    if (value == NULL)
        http_answer_problem_with(
            request, &api_malformed_json,
            json_pack("{s:i, s:i}", "line", error.line, "column", error.column),
            "line %d, column %d: %s%s", error.line, error.column, error.text,
            hw_json_hint(request->body, request->body_len, &error));
    else if (refuse_unfit(request, value))
        json_decref(HW_TAKE(value));
    return value;
}

bool api_body_check(struct http_request *request)
{
    HW_AUTO_JSON json_t *value = parse(request);

    return value != NULL;
}

bool api_body_read(struct http_request *request, const struct api_field *fields, size_t count)
{
    HW_AUTO_JSON json_t *value = parse(request);

    if (value == NULL)
        return false;
    if (!json_is_object(value)) {
        HW_AUTO_FREE char *what = hw_sprintf("must be an object, not %s", type_name(value));

        refuse(request, "", what);
        return false;
    }
    return read_fields(request, fields, count, value);
}
