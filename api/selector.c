#include "api/selector.h"

#include <string.h>

#include "common/json.h"
#include "common/json_text.h"
#include "common/memory.h"

static enum hw_status parse_pairs(char *text, json_t *object, struct hw_error *err)
{
    char *pair;

    while ((pair = strsep(&text, ",")) != NULL) {
        char *value = strchr(pair, '=');

        if (value == NULL || value == pair)
            return hw_fail(err, HW_EINVAL,
                           "\"%s\" is not label=value (or give a whole JSON object)", pair);
        *value++ = '\0';
        if (json_object_get(object, pair) != NULL)
            return hw_fail(err, HW_EINVAL, "label \"%s\" is given twice", pair);
        if (json_object_set_new(object, pair, json_string(value)) != 0)
            return hw_fail(err, HW_EINVAL, "label \"%s\" is not UTF-8", pair);
    }
    return HW_OK;
}

enum hw_status api_selector_parse(const char *text, char **json, struct hw_error *err)
{
    HW_AUTO_JSON json_t *object = NULL;
    enum hw_status status = HW_OK;

    if (text[0] == '{') {
        status = hw_json_parse_object(text, strlen(text), &object, err);
    } else {
        HW_AUTO_FREE char *copy = hw_strdup(text);

        object = json_object();
        if (*copy != '\0')
            status = parse_pairs(copy, object, err);
    }
    if (status == HW_OK)
        *json = hw_json_text(object, false);
    return status;
}
