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
    int64_t whole;
    if (__builtin_mul_overflow((int64_t)timegm(&utc), INT64_C(1000000000), &whole) ||
        __builtin_add_overflow(whole, ns, &whole))
        return false;
    *unix_ns = whole;
    return true;
}

bool hw_clock_is_time(const char *text)
{
    char again[HW_CLOCK_MAX];
    int64_t unix_ns;
    struct tm utc = {0};

    if (!hw_clock_parse(text, &unix_ns))
        return false;
    /* The 31st of February comes back as a day of March. */
    strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    const time_t time = timegm(&utc);
    gmtime_r(&time, &utc);
    return strftime(again, sizeof(again), "%Y-%m-%dT%H:%M:%S", &utc) ==
               strlen("2026-01-31T12:00:00") &&
           strncmp(text, again, strlen(again)) == 0;
}
