/*
 * The decided value: what stands under the key cfg.decided.<node>, and says what became of the
 * node's proposals. The reconciler writes it, from a row of headwater.decided; nodes read it.
 */
#ifndef HW_PROTOCOL_DECIDED_H
#define HW_PROTOCOL_DECIDED_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lsn.h"
#include "base/status.h"

/* Borrows every string from what it was read from. */
struct hw_decided {
    const char *node;
    const char *decisions;    /* JSON array, as text */
    const char *committed_at; /* RFC 3339 */
};

/* The name of the node in a key cfg.decided.<node>, as a pointer into key; NULL for any other
 * key. */
const char *hw_decided_node(const char *key);

/* The value, compact JSON, malloc'ed; *size without its NUL. */
char *hw_decided_write(const struct hw_decided *decided, struct hw_fence fence, size_t *size);

/* A value that was read. */
struct hw_decided_value {
    json_t *root; /* owns what the others point to */
    const char *node;
    json_t *decisions;
    struct hw_fence fence; /* the fence in the value; epoch 0: it cannot be read */
};

/* Reads a value that anyone may have written; HW_EINVAL says what is wrong with it. The caller
 * judges for which node it is. Caller: hw_decided_clear. */
enum hw_status hw_decided_read(const char *text, size_t size, struct hw_decided_value *value,
                               struct hw_error *err) HW_CHECKED;
void hw_decided_clear(struct hw_decided_value *value);

/* One decision; strings are borrowed from the JSON, and may hold any characters. */
struct hw_decision {
    const char *ref;    /* of the proposal */
    const char *config; /* "": it is not known */
    const char *state;  /* "pending", "approved", "rejected", "conflict", "refused" */
    const char *reason;
    int64_t id;       /* in the database; 0: the database never took the proposal */
    int64_t revision; /* the revision of the config that the approval made; 0: none */
};

/* What the value says of a proposal: HW_ENOENT for nothing. */
enum hw_status hw_decided_find(const struct hw_decided_value *value, const char *ref,
                               struct hw_decision *decision, struct hw_error *err) HW_CHECKED;

enum hw_status hw_decision_read(json_t *object, struct hw_decision *decision,
                                struct hw_error *err) HW_CHECKED;

#endif
