/* The agent's state file: what is read is written and read again as the same. */
#include <string.h>

#include "agent/disk/state.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct agent_state state, again; /* large for a stack */
    struct hw_error err = {0};

    if (agent_state_decode((const char *)data, size, "daq1", &state, &err) != HW_OK) {
        FUZZ_HOLDS(err.status == HW_EINVAL || err.status == HW_ECONFLICT);
        return 0;
    }
    HW_AUTO_FREE char *text = agent_state_encode(&state, "daq1");

    FUZZ_HOLDS(text != NULL);
    FUZZ_HOLDS(agent_state_decode(text, strlen(text), "daq1", &again, &err) == HW_OK);
    HW_AUTO_FREE char *once_more = agent_state_encode(&again, "daq1");

    FUZZ_HOLDS(strcmp(text, once_more) == 0);
    return 0;
}
