/*
 * Did you mean …? Of words that there are, the one that a mistyped word is nearest to: letters
 * missing, too many, wrong, or two of them swapped.
 */
#ifndef HW_NEAREST_H
#define HW_NEAREST_H

#include <stddef.h>

struct hw_nearest {
    const char *word; /* that was typed */
    const char *best; /* so far, borrowed; NULL: none is near enough for a guess */
    size_t distance;  /* of it, in mistakes */
};

/* Looks at one more word. Words of more than 63 bytes are near to none. */
void hw_nearest_try(struct hw_nearest *nearest, const char *candidate);

/* The nearest of a list that NULL ends, or NULL. */
const char *hw_nearest_of(const char *word, const char *const *candidates);

#endif
