#include "common/json.h"

#include <stdarg.h>

enum hw_status hw_json_parse_object(const char *text, size_t len, json_t **object,
                                    struct hw_error *err)
{
    json_error_t problem;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);

    if (value == NULL)
        return hw_fail(err, HW_EINVAL, "not valid JSON at line %d, column %d: %s", problem.line,
                       problem.column, problem.text);
    if (!json_is_object(value)) {
        json_decref(value);
        return hw_fail(err, HW_EINVAL, "not a JSON object");
    }
    *object = value;
    return HW_OK;
}

enum hw_status hw_json_unpack(json_t *object, struct hw_error *err, const char *fmt, ...)
{
    json_error_t problem;
    va_list args;
    int rc;

    va_start(args, fmt);
    rc = json_vunpack_ex(object, &problem, 0, fmt, args);
    va_end(args);
    if (rc != 0)
        return hw_fail(err, HW_EINVAL, "%s", problem.text);
    return HW_OK;
}

char *hw_json_dump(const json_t *value)
{
    return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
}
