/* The differences that verify finds. They are printed, a line each, or gathered for one JSON
 * object. */
#ifndef RECONCILER_COMPARE_DIFFERENCES_H
#define RECONCILER_COMPARE_DIFFERENCES_H

#include <stddef.h>

#include "base/buf.h"
#include "reconciler/compare/session.h"

enum { REC_DIFFERENCES_SHOWN = 1000 }; /* the rest is counted only */

struct rec_differences {
    size_t count;
    struct hw_buf list; /* JSON objects, separated by commas */
};

/* kind is a word that the manual page explains; node and object say where, and are NULL where they
 * do not apply; sql and nats are what each side says. */
void rec_differences_add(struct rec_differences *differences, struct rec_session *session,
                         const char *kind, const char *node, const char *object, const char *sql,
                         const char *nats);
void rec_differences_clear(struct rec_differences *differences);

#endif
