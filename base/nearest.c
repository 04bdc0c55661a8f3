#include "base/nearest.h"

#include <string.h>

enum { WORD_MOST = 63 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The distance by optimal string alignment; it needs only the last three rows of its table. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][WORD_MOST + 1];

    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        const size_t *above = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];
        size_t *row = rows[i % 3];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            row[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]), least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
    }
    return rows[a_len % 3][b_len];
}

void hw_nearest_try(struct hw_nearest *nearest, const char *candidate)
{
    const size_t len = strlen(nearest->word), other = strlen(candidate);

    if (len == 0 || len > WORD_MOST || other > WORD_MOST)
        return;
    const size_t mistakes = distance(nearest->word, len, candidate, other);
    /* At most one letter in three may be wrong; with more it is another word. */
    if (mistakes > (len + 2) / 3 || mistakes >= other)
        return;
    if (nearest->best == NULL || mistakes < nearest->distance) {
        nearest->best = candidate;
        nearest->distance = mistakes;
    }
}

const char *hw_nearest_of(const char *word, const char *const *candidates)
{
    struct hw_nearest nearest = {.word = word};

    for (; *candidates != NULL; candidates++)
        hw_nearest_try(&nearest, *candidates);
    return nearest.best;
}
