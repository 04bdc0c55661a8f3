/*
 * Selectors: whatever is taken is a few JSON objects with the same members, and each of them is
 * taken again as the only one.
 */
#include <string.h>

#include "api/request/selector.h"
#include "base/json.h"
#include "base/json_text.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    HW_AUTO_JSON json_t *alternatives = NULL;
    struct hw_error err = {0};
    json_t *object;
    size_t i;

    if (api_selector_parse(text, &alternatives, &err) != HW_OK) {
        FUZZ_HOLDS(err.status == HW_EINVAL && err.message[0] != '\0' && alternatives == NULL);
        return 0;
    }
    const size_t count = json_array_size(alternatives);
    FUZZ_HOLDS(count >= 1 && count <= API_SELECTOR_ALTERNATIVES);
    HW_AUTO_FREE char *array = api_selector_array(alternatives);
    FUZZ_HOLDS(array[0] == '{' && array[strlen(array) - 1] == '}');
    json_array_foreach(alternatives, i, object) {
        HW_AUTO_FREE char *json = hw_json_text(object, false);
        HW_AUTO_JSON json_t *again = NULL;

        FUZZ_HOLDS(json_object_size(object) == json_object_size(json_array_get(alternatives, 0)));
        FUZZ_HOLDS(api_selector_parse(json, &again, NULL) == HW_OK && json_array_size(again) == 1 &&
                   json_equal(json_array_get(again, 0), object));
    }
    return 0;
}
