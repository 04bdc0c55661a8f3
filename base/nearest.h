/*
 * Did you mean …? Finds the word of a list that is nearest to a mistyped one: letters may be
 * missing, too many or wrong, or two of them swapped.
 */
#ifndef HW_NEAREST_H
#define HW_NEAREST_H

#include <stddef.h>

struct hw_nearest {
    const char *word; /* the word that was typed */
    const char *best; /* the best so far, borrowed; NULL: none is near enough */
    size_t distance;  /* its number of mistakes */
};

/* Looks at one more word. A word of more than 63 bytes is never near. */
void hw_nearest_try(struct hw_nearest *nearest, const char *candidate);

/* The nearest of a list that NULL ends, or NULL. */
const char *hw_nearest_of(const char *word, const char *const *candidates);

#endif
