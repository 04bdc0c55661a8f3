#include "base/points.h"

#ifdef HW_FAULTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>

void hw_point(const char *name)
{
    static long passed;
    const char *armed = getenv("HEADWATER_POINT");
    const size_t len = strlen(name);
    char *end;

    if (armed == NULL || strncmp(armed, name, len) != 0 || armed[len] != ':')
        return;
    if (++passed != strtol(armed + len + 1, &end, 10))
        return;
    raise(strcmp(end, ":stop") == 0 ? SIGSTOP : SIGKILL);
}

#endif
