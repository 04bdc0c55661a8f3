/* UTF-8: two readers of it agree, and what is made for reports and JSON is UTF-8 at any cut. */
#include <jansson.h>
#include <string.h>

#include "agent/disk/document.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    json_t *string = json_stringn(text, size);
    struct hw_buf quoted = {0};
    char clean[40];
    const size_t room = size % sizeof(clean) + 1;
    size_t bad;

    FUZZ_HOLDS(hw_utf8_valid(text, size, &bad) == (string != NULL));
    if (string == NULL)
        FUZZ_HOLDS(bad < size && hw_utf8_valid(text, bad, NULL));
    json_decref(string);

    hw_buf_json_string(&quoted, text, size);
    string = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    FUZZ_HOLDS(json_is_string(string));
    if (hw_utf8_valid(text, size, NULL))
        FUZZ_HOLDS(json_string_length(string) == size &&
                   memcmp(json_string_value(string), text, size) == 0);
    json_decref(string);
    hw_buf_free(&quoted);

    agent_text_clean(clean, room, text, size);
    FUZZ_HOLDS(strlen(clean) < room);
    FUZZ_HOLDS(hw_utf8_valid(clean, strlen(clean), NULL));
    return 0;
}
