/* Delays between tries: they double from 1 s up to a limit, and each is drawn from its upper half,
 * so that many agents that failed at one moment do not come back at one moment. */
#ifndef HW_AGENT_BACKOFF_H
#define HW_AGENT_BACKOFF_H

#include <stdint.h>
#include <stdlib.h>

/* Uniform within 0 … below; 0 for 0. */
static inline int64_t agent_random_ms(int64_t below)
{
    return below > 0 ? (int64_t)arc4random_uniform((uint32_t)below) : 0;
}

/* ms to wait after so many failures in a row, from 1. */
static inline int64_t agent_backoff_ms(int failures, int64_t limit_ms)
{
    int64_t delay = (int64_t)1000 << (failures < 20 ? failures - 1 : 19);

    if (delay > limit_ms)
        delay = limit_ms;
    return delay / 2 + agent_random_ms(delay / 2);
}

#endif
