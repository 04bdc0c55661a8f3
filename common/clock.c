#include "common/clock.h"

#include <stdio.h>
#include <time.h>

int64_t hw_clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

char *hw_clock_format(int64_t unix_ns, int digits, char out[static HW_CLOCK_MAX])
{
    const time_t seconds = (time_t)(unix_ns / 1000000000);
    const int64_t rest = unix_ns % 1000000000;
    char date[24];
    struct tm utc;

    gmtime_r(&seconds, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, HW_CLOCK_MAX, "%s.%0*dZ", date, digits,
             (int)(digits == 3 ? rest / 1000000 : rest / 1000));
    return out;
}
