#include "common/unlisted.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "common/log.h"

void hw_unlisted_event_tell(const char *machine, const char *state, const char *event,
                            hw_unlisted_fn *tell, void *arg)
{
    HW_AUTO_FREE char *detail = hw_sprintf("%s, state %s, event %s", machine, state, event);

#ifdef HW_STRICT
    (void)tell;
    (void)arg;
    fprintf(stderr, "an event is not listed for the state: %s\n", detail);
    abort();
#else
    tell(arg, "an event came that is not listed for the state: passed over", detail);
#endif
}

static void to_the_log(void *arg, const char *message, const char *detail)
{
    (void)arg;
    hw_log_warn(message, HW_S("detail", detail));
}

void hw_unlisted_event(const char *machine, const char *state, const char *event)
{
    hw_unlisted_event_tell(machine, state, event, to_the_log, NULL);
}
