/* Delays with chance in them. Many agents often begin something in one moment, when NATS comes
 * back, say; chance keeps them from doing the next thing in one moment as well. */
#ifndef HW_BACKOFF_H
#define HW_BACKOFF_H

#include <stdint.h>
#include <stdlib.h>

/* A random number of milliseconds from 0 to below it, each as likely; 0 for 0. */
static inline int64_t hw_random_ms(int64_t below)
{
    return below > 0 ? (int64_t)arc4random_uniform((uint32_t)below) : 0;
}

/* The pause after so many failures in a row, counted from 1. It doubles from the first one up to
 * the limit, and is drawn at random from its upper half. */
static inline int64_t hw_backoff_from_ms(int64_t first_ms, int failures, int64_t limit_ms)
{
    int64_t delay = first_ms << (failures < 20 ? failures - 1 : 19);

    if (delay > limit_ms)
        delay = limit_ms;
    return delay / 2 + hw_random_ms(delay / 2);
}

/* The same, from a second on. */
static inline int64_t hw_backoff_ms(int failures, int64_t limit_ms)
{
    return hw_backoff_from_ms(1000, failures, limit_ms);
}

/* A time at random within a quarter of the mean, for something that is done again and again. */
static inline int64_t hw_jitter_ms(int64_t mean_ms)
{
    return mean_ms * 3 / 4 + hw_random_ms(mean_ms / 2);
}

#endif
