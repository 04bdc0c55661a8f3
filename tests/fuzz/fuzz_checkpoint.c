/* Checkpoints: what is read is written and read again as the same. */
#include "reconciler/publish/checkpoint.c" /* NOLINT: its parser is its own */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hw_kv_entry entry = {.value = (const char *)data, .size = size};
    struct rec_checkpoint checkpoint = {0}, again = {0};
    struct hw_error err = {0};

    if (parse(&entry, &checkpoint, &err) != HW_OK) {
        FUZZ_HOLDS(err.status != HW_OK && err.message[0] != '\0');
        return 0;
    }
    FUZZ_HOLDS(checkpoint.fence.epoch >= 1 && checkpoint.timeline >= 1);
    HW_AUTO_FREE char *value = rec_checkpoint_value(&checkpoint);

    entry.value = value;
    entry.size = strlen(value);
    FUZZ_HOLDS(parse(&entry, &again, &err) == HW_OK);
    FUZZ_HOLDS(hw_fence_compare(checkpoint.fence, again.fence) == 0);
    FUZZ_HOLDS(checkpoint.system_id == again.system_id && checkpoint.timeline == again.timeline);
    FUZZ_HOLDS(checkpoint.rev == again.rev && strcmp(checkpoint.nonce, again.nonce) == 0);
    FUZZ_HOLDS(strcmp(checkpoint.slot, again.slot) == 0);
    FUZZ_HOLDS(strcmp(checkpoint.address, again.address) == 0);
    FUZZ_HOLDS(checkpoint.taken_over == again.taken_over);
    return 0;
}
