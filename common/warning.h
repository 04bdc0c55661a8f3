/*
 * Warnings about somebody outside: a node, a client. Whoever it is may cause as many as he likes,
 * so what is logged has a rate: of one warning about one name, a few lines at once and then one a
 * minute; of all of them together, ten a second. What is left out is counted. The next line of the
 * kind says how many there were (left_out), and where none comes, a line of its own does so within
 * two minutes.
 *
 *     hw_warn_about(node, "passing over a report that is none", HW_S("node", node), HW_E(&err));
 *
 * Every warning that somebody outside can cause is written like this. Memory is bounded, however
 * many names there are. Only the loop's thread may call these functions.
 */
#ifndef HW_WARNING_H
#define HW_WARNING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/names.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/pace.h"

enum {
    HW_WARNING_MOST = 5,        /* lines of one warning about one name at once … */
    HW_WARNING_EACH_MS = 60000, /* … and then one in so long */
    HW_WARNINGS_MOST = 200,     /* the same for all of them together */
    HW_WARNINGS_EACH_MS = 100,
    HW_WARNING_SETS = 512,
    HW_WARNING_WAYS = 4,
};

#define hw_warn_about(name, msg, ...)                                                              \
    do {                                                                                           \
        const struct hw_field hw_fields_[] = {{.key = NULL}, ##__VA_ARGS__};                       \
        hw_warning_log((name), (msg), hw_fields_ + 1,                                              \
                       sizeof(hw_fields_) / sizeof(hw_fields_[0]) - 1);                            \
    } while (0)

/* msg is a literal: it is kept. */
void hw_warning_log(const char *name, const char *msg, const struct hw_field *fields, size_t count);

/* From now on, what was left out is told by the loop even when no further warning comes. NULL: no
 * longer, because the loop is about to go. */
void hw_warnings_attach(struct hw_loop *loop);

/* ---- what decides ---- */

/* One warning about one name. Names that are longer are cut, and count as one. */
struct hw_warned {
    char name[HW_NAME_MOST + 1];
    const char *msg; /* NULL: the place is free */
    struct hw_pace pace;
    uint64_t left_out;
};

/* Zero-initialised. A name has its place in one of the sets, and takes that of the one which was
 * quiet for the longest time when all of the set are taken. */
struct hw_warnings {
    struct hw_warned sets[HW_WARNING_SETS][HW_WARNING_WAYS];
    struct hw_pace pace;
    uint64_t left_out; /* of all that have no place any more */
    uint64_t waiting;  /* how many were left out and not told, in all */
};

/* Is this one to be logged? Then *left_out is how many of it were not, since the last one. */
bool hw_warning_due(struct hw_warnings *warnings, const char *name, const char *msg, int64_t now,
                    uint64_t *left_out);

/* Calls tell for each warning of which some were left out and that is quiet now, and for all those
 * together that have no place any more (name ""). Returns how many are still to be told. */
typedef void hw_warning_tell_fn(void *arg, const char *name, const char *msg, uint64_t left_out);
uint64_t hw_warnings_tell(struct hw_warnings *warnings, int64_t now, hw_warning_tell_fn *tell,
                          void *arg);

#endif
