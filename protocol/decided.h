/*
 * The decided value: what stands under the key cfg.decided.<node>, and says what became of the
 * node's proposals. The reconciler writes it, from a row of headwater.decided; nodes read it.
 */
#ifndef HW_PROTOCOL_DECIDED_H
#define HW_PROTOCOL_DECIDED_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/lsn.h"
#include "common/status.h"

/* Borrows every string from what it was read from. */
struct hw_decided {
    const char *node;
    const char *decisions;    /* JSON array, as text */
    const char *committed_at; /* RFC 3339 */
};

/* The node whose decisions key is of, within key; NULL: the key is another one. */
const char *hw_decided_node(const char *key);

/* The value, compact JSON, malloc'ed; *size without its NUL. */
char *hw_decided_write(const struct hw_decided *decided, struct hw_fence fence, size_t *size);

/* A value that was read. */
struct hw_decided_value {
    json_t *root; /* owns what the others point to */
    const char *node;
    json_t *decisions;
    struct hw_fence fence; /* that the value repeats; epoch 0: none that can be read */
};

/* Reads a value that anyone may have written; HW_EINVAL says what is wrong with it. Whom it is for
 * is for the caller to judge. Caller: hw_decided_clear. */
enum hw_status hw_decided_read(const char *text, size_t size, struct hw_decided_value *value,
                               struct hw_error *err) HW_CHECKED;
void hw_decided_clear(struct hw_decided_value *value);

/* One decision; strings are borrowed from the JSON, and may hold any characters. */
struct hw_decision {
    const char *ref;    /* of the proposal */
    const char *config; /* "": it is not known */
    const char *state;  /* "pending", "approved", "rejected", "conflict", "refused" */
    const char *reason;
    int64_t id;       /* in the database; 0: it did not come there */
    int64_t revision; /* of the config, that the approval made; 0: none */
};

/* What the value says of a proposal: HW_ENOENT for nothing. */
enum hw_status hw_decided_find(const struct hw_decided_value *value, const char *ref,
                               struct hw_decision *decision, struct hw_error *err) HW_CHECKED;

enum hw_status hw_decision_read(json_t *object, struct hw_decision *decision,
                                struct hw_error *err) HW_CHECKED;

#endif
