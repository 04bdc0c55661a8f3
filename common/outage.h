/*
 * An outage: the program needs something and cannot have it for a while. This decides when its log
 * tells of it: at once, each minute while it lasts, when another reason is found, and when it is
 * over. The caller writes the lines and gives the time.
 */
#ifndef HW_OUTAGE_H
#define HW_OUTAGE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    HW_OUTAGE_REASON = 256,     /* bytes of a reason that tell it from another, its NUL included */
    HW_OUTAGE_AGAIN_MS = 60000, /* between two lines with the same reason */
    HW_OUTAGE_OTHER_MS =
        2000, /* before a line with another reason, because several may come in turns */
};

/* Zero-initialised. Times are milliseconds of any clock that only grows, such as hw_loop_now(). */
struct hw_outage {
    bool lasts;
    int64_t since, told;
    char reason[HW_OUTAGE_REASON]; /* that was told last */
};

/* The thing is away, or still away, for this reason. True: it is time for a line. */
bool hw_outage_goes_on(struct hw_outage *outage, const char *reason, int64_t now);

/* The thing is there. True: there was an outage, and its end is to be told; *lasted: its
 * milliseconds. */
bool hw_outage_ends(struct hw_outage *outage, int64_t now, int64_t *lasted);

/* The milliseconds for which it has been going on; 0: there is none. */
int64_t hw_outage_age(const struct hw_outage *outage, int64_t now);

#endif
