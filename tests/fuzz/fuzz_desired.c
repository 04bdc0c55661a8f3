/* Desired values, as an agent gets them; and as the reconciler finds them in the bucket. */
#include <string.h>

#include "agent/desired.h"
#include "reconciler/decided.h"
#include "reconciler/desired.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hw_kv_entry entry = {.fenced = true,
                                      .fence = {.epoch = 1, .lsn = 0x16B3748},
                                      .key = "cfg.desired.daq1",
                                      .value = (const char *)data,
                                      .size = size};
    struct agent_document document = {.revision = -1};
    struct hw_error err = {0};

    if (agent_desired_decode(&entry, "daq1", &document, &err) == HW_OK) {
        FUZZ_HOLDS(document.set && document.revision >= 1 && document.size <= AGENT_DOCUMENT_MAX);
        FUZZ_HOLDS(document.media_type[0] != '\0' && strpbrk(document.media_type, "\r\n") == NULL);
        FUZZ_HOLDS(hw_fence_compare(document.fence, entry.fence) == 0);
    } else {
        FUZZ_HOLDS(err.status == HW_EINVAL && document.revision == -1);
    }
    (void)rec_desired_hash_of_value((const char *)data, size);
    (void)rec_decided_hash_of_value((const char *)data, size);
    return 0;
}
