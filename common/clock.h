/* Wall-clock time as text: RFC 3339, UTC, as logs, reports and SQL write it. */
#ifndef HW_CLOCK_H
#define HW_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define HW_CLOCK_MAX 40 /* room for any year, and a NUL */

int64_t hw_clock_now(
    void); /* Unix nanoseconds. The clock may jump: it tells times, and must not measure waits. */

/* Writes "2026-01-31T12:00:00.123Z" with 3 or 6 digits of the second, not rounded, and returns
 * out. */
char *hw_clock_format(int64_t unix_ns, int digits, char out[static HW_CLOCK_MAX]);

/* Reads such a time, with any number of digits of the second; false: text is none, or
 * not of the years 1678 to 2261, which 64 bits can hold. */
bool hw_clock_parse(const char *text, int64_t *unix_ns) HW_CHECKED;
/* Is it such a time, of a day that there is? */
bool hw_clock_is_time(const char *text);

#endif
