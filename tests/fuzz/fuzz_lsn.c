/* LSNs: what is read is written and read again as the same. */
#include <string.h>
#include <strings.h>

#include "base/lsn.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    struct hw_error err = {0};
    hw_lsn lsn = 4711, again;

    if (hw_lsn_parse(text, &lsn, &err) != HW_OK) {
        FUZZ_HOLDS(lsn == 4711 && err.status == HW_EINVAL && err.message[0] != '\0');
        return 0;
    }
    FUZZ_HOLDS(strlen(HW_LSN(lsn)) < HW_LSN_STR_MAX && strlen(text) < HW_LSN_STR_MAX);
    FUZZ_HOLDS(hw_lsn_parse(HW_LSN(lsn), &again, NULL) == HW_OK && again == lsn);
    return 0;
}
