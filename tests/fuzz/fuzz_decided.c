/* What a node is told about its proposals, as its agent gets it. */
#include <string.h>

#include "agent/proposal.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hw_entry entry = {.fenced = true,
                                   .fence = {.epoch = 1, .lsn = 0x16B3748},
                                   .key = "cfg.decided.daq1",
                                   .value = (const char *)data,
                                   .size = size};
    struct agent_decision decision = {.id = -1};
    struct hw_error err = {0};

    if (agent_decision_find(&entry, "daq1", "a-1", &decision, &err) == HW_OK)
        FUZZ_HOLDS(strcmp(decision.ref, "a-1") == 0);
    else
        FUZZ_HOLDS((err.status == HW_EINVAL || err.status == HW_ENOENT) && decision.id == -1);
    return 0;
}
