/*
 * A pace: how often something may be done. It may be done a number of times at once, and from then
 * on once in each_ms. All that has to be kept is one time: the one from which on nothing would be
 * owed any more (the generic cell rate algorithm, ITU-T I.371).
 */
#ifndef HW_PACE_H
#define HW_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Zero-initialised, nothing is owed. Times are milliseconds of any clock that only grows, such as
 * hw_loop_now(). */
struct hw_pace {
    int64_t until;
};

/* After how many milliseconds it may be done, where it may be done `most` times at once; 0: now. */
static inline int64_t hw_pace_wait(const struct hw_pace *pace, int64_t each_ms, int64_t most,
                                   int64_t now)
{
    const int64_t wait = pace->until - now - (most - 1) * each_ms;

    return wait > 0 ? wait : 0;
}

/* It is done. */
static inline void hw_pace_spend(struct hw_pace *pace, int64_t each_ms, int64_t now)
{
    pace->until = (pace->until > now ? pace->until : now) + each_ms;
}

/* May it be done? If so, it counts as done. */
static inline bool hw_pace_take(struct hw_pace *pace, int64_t each_ms, int64_t most, int64_t now)
{
    if (hw_pace_wait(pace, each_ms, most, now) > 0)
        return false;
    hw_pace_spend(pace, each_ms, now);
    return true;
}

#endif
