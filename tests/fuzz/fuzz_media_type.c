/* Media types: the form that is stored is a fixed point, and can stand in a header field. */
#include <string.h>

#include "http/media_type.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    HW_AUTO_FREE char *stored = NULL;
    HW_AUTO_FREE char *again = NULL;
    struct hw_error err = {0};

    if (http_media_type_parse(text, &stored, &err) != HW_OK) {
        FUZZ_HOLDS(err.status == HW_EINVAL && err.message[0] != '\0' && stored == NULL);
        return 0;
    }
    for (const char *p = stored; *p != '\0'; p++)
        FUZZ_HOLDS(*p >= ' ' && *p <= '~'); /* as agents want it */
    FUZZ_HOLDS(http_media_type_parse(stored, &again, NULL) == HW_OK && strcmp(stored, again) == 0);
    if (http_media_type_is_json(stored))
        FUZZ_HOLDS(http_media_type_is_text(stored));
    return 0;
}
