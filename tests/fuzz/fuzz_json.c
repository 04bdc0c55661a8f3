/* JSON objects: what is written of one reads back as the same, in both ways of writing. */
#include <string.h>

#include "base/json.h"
#include "base/json_text.h"
#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

static void check_text(const char *text, const json_t *object)
{
    HW_AUTO_JSON json_t *again = NULL;

    FUZZ_HOLDS(text != NULL && hw_utf8_valid(text, strlen(text), NULL));
    FUZZ_HOLDS(hw_json_parse_object(text, strlen(text), &again, NULL) == HW_OK);
    FUZZ_HOLDS(json_equal(again, object));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_JSON json_t *object = NULL;
    struct hw_error err = {0};

    if (hw_json_parse_object((const char *)data, size, &object, &err) != HW_OK) {
        FUZZ_HOLDS(err.status == HW_EINVAL && err.message[0] != '\0' && object == NULL);
        return 0;
    }
    HW_AUTO_FREE char *dumped = hw_json_dump(object);
    HW_AUTO_FREE char *text = hw_json_text(object, false);

    check_text(text, object);
    check_text(dumped, object);
    return 0;
}
