/* Selectors: whatever is taken is a JSON object, and is taken again as it is. */
#include <string.h>

#include "api/selector.h"
#include "common/json.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    HW_AUTO_FREE char *json = NULL;
    HW_AUTO_FREE char *again = NULL;
    struct hw_error err = {0};

    if (api_selector_parse(text, &json, &err) != HW_OK) {
        FUZZ_HOLDS(err.status == HW_EINVAL && err.message[0] != '\0' && json == NULL);
        return 0;
    }
    FUZZ_HOLDS(json[0] == '{');
    FUZZ_HOLDS(api_selector_parse(json, &again, NULL) == HW_OK && strcmp(json, again) == 0);
    return 0;
}
