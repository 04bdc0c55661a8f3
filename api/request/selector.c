#include "api/request/selector.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/labels.h"
#include "base/memory.h"
#include "http/answer.h"

enum hw_status api_selector_parse(const char *text, json_t **out, struct hw_error *err)
{
    return hw_labels_alternatives(text, API_SELECTOR_ALTERNATIVES, out, err);
}

char *api_selector_array(const json_t *alternatives)
{
    struct hw_buf array = {0};
    const json_t *object;
    size_t i;

    hw_buf_putc(&array, '{');
    json_array_foreach(alternatives, i, object) {
        HW_AUTO_FREE char *text = hw_json_text(object, false);

        hw_buf_puts(&array, i > 0 ? ",\"" : "\"");
        for (const char *p = text; *p != '\0'; p++) {
            if (*p == '"' || *p == '\\')
                hw_buf_putc(&array, '\\');
            hw_buf_putc(&array, *p);
        }
        hw_buf_putc(&array, '"');
    }
    hw_buf_putc(&array, '}');
    return array.data;
}

bool api_selector_alternatives(struct http_request *request, json_t **alternatives)
{
    const char *given = http_request_parameter(request, "selector");
    struct hw_error err;

    if (api_selector_parse(given != NULL ? given : "", alternatives, &err) == HW_OK)
        return true;
    http_answer_problem(request, &http_invalid_parameter, "selector: %s", err.message);
    return false;
}

bool api_selector_read(struct http_request *request, const char **array)
{
    HW_AUTO_JSON json_t *alternatives = NULL;

    if (!api_selector_alternatives(request, &alternatives))
        return false;
    *array = http_request_keep(request, api_selector_array(alternatives));
    return true;
}
