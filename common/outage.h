/*
 * An outage: something that a program needs and cannot have for a while, and when its log tells of
 * it: at once, each minute while it lasts, when another reason has been found, and when it is over.
 * What is said, and how, is the caller's, and so is the clock.
 */
#ifndef HW_OUTAGE_H
#define HW_OUTAGE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    HW_OUTAGE_AGAIN_MS = 60000, /* between two times that the same is said */
    HW_OUTAGE_OTHER_MS = 2000,  /* before another reason is: several may come in turns */
};

/* Zero-initialised. Times are milliseconds of any clock that only grows, such as hw_loop_now(). */
struct hw_outage {
    bool lasts;
    int64_t since, told;
    uint64_t reason; /* a hash of the one that was told last */
};

/* It is away, or still is, because of this. True: it is to be said now. */
bool hw_outage_goes_on(struct hw_outage *outage, const char *reason, int64_t now);

/* It is there. True: there was an outage, and its end is to be said; *lasted: ms. */
bool hw_outage_ends(struct hw_outage *outage, int64_t now, int64_t *lasted);

/* For how long it has been going on, in ms; 0: there is none. */
int64_t hw_outage_age(const struct hw_outage *outage, int64_t now);

#endif
