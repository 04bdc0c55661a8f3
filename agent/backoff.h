/* Delays, so that many agents that did something at one moment do not do it again at one moment. */
#ifndef HW_AGENT_BACKOFF_H
#define HW_AGENT_BACKOFF_H

#include <stdint.h>
#include <stdlib.h>

/* Uniform within 0 … below; 0 for 0. */
static inline int64_t agent_random_ms(int64_t below)
{
    return below > 0 ? (int64_t)arc4random_uniform((uint32_t)below) : 0;
}

/* ms to wait after so many failures in a row, from 1: doubles from 1 s up to the limit, and is
 * drawn from its upper half. */
static inline int64_t agent_backoff_ms(int failures, int64_t limit_ms)
{
    int64_t delay = (int64_t)1000 << (failures < 20 ? failures - 1 : 19);

    if (delay > limit_ms)
        delay = limit_ms;
    return delay / 2 + agent_random_ms(delay / 2);
}

/* Within a quarter of the mean, for what is done again and again. */
static inline int64_t agent_jitter_ms(int64_t mean_ms)
{
    return mean_ms * 3 / 4 + agent_random_ms(mean_ms / 2);
}

#endif
