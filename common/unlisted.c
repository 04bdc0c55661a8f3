#include "common/unlisted.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"

void hw_unlisted_event(const char *machine, const char *state, const char *event)
{
#ifdef HW_STRICT
    fprintf(stderr, "%s: event %s is not listed for state %s\n", machine, event, state);
    abort();
#else
    hw_log_warn("an event came that is not listed for the state: passed over",
                HW_S("machine", machine), HW_S("state", state), HW_S("event", event));
#endif
}
