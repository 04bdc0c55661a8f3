#include "common/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
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

bool hw_clock_parse(const char *text, int64_t *unix_ns)
{
    struct tm utc = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    int64_t ns = 0, unit = 1000000000;

    if (rest == NULL)
        return false;
    if (*rest == '.')
        for (rest++; isdigit((unsigned char)*rest); rest++) {
            unit /= 10;
            ns += (*rest - '0') * unit;
        }
    if (strcmp(rest, "Z") != 0)
        return false;
    *unix_ns = (int64_t)timegm(&utc) * 1000000000 + ns;
    return true;
}
