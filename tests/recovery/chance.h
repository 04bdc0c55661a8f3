/* Chance that can be repeated: a generator of numbers (splitmix64) that a seed determines. */
#ifndef RECOVERY_CHANCE_H
#define RECOVERY_CHANCE_H

#include <stdbool.h>
#include <stdint.h>

struct chance {
    uint64_t state;
};

/* Each part of the harness has a sequence of its own from the same seed, so that the numbers that
 * one part draws do not change those of another. */
static inline struct chance chance_of(uint64_t seed, uint64_t part)
{
    return (struct chance){seed * UINT64_C(0xd1342543de82ef95) +
                           part * UINT64_C(0x2545f4914f6cdd1d) + 1};
}

static inline uint64_t chance_next(struct chance *c)
{
    uint64_t z = c->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline int chance_below(struct chance *c, int n)
{
    return (int)(chance_next(c) % (uint64_t)n);
}

static inline int chance_between(struct chance *c, int low, int high)
{
    return low + chance_below(c, high - low + 1);
}

static inline bool chance_in(struct chance *c, int n) /* one in n */
{
    return chance_below(c, n) == 0;
}

#endif
