/*
 * The desired value: what stands under the key cfg.desired.<node>, and says which document the node
 * should run. The reconciler writes it, from a row of headwater.desired; nodes read it, and so do
 * the comparison with the database and `verify`.
 */
#ifndef HW_PROTOCOL_DESIRED_H
#define HW_PROTOCOL_DESIRED_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/lsn.h"
#include "base/status.h"
#include "protocol/statement.h"

/* What is desired. Borrows every string from what it was read from. */
struct hw_desired {
    const char *node;
    int64_t revision;   /* counts the changes of this node's document, from 1 */
    const char *digest; /* of the document: "sha256:<64 hex>" */
    int64_t size;       /* bytes of the document */
    const char *media_type;
    const char *sources;      /* JSON array of what it was made of, as text */
    const char *committed_at; /* RFC 3339 */
};

/* The name of the node in a key cfg.desired.<node>, as a pointer into key; NULL for any other
 * key. */
const char *hw_desired_node(const char *key);

/* The value, compact JSON, malloc'ed; *size without its NUL. */
char *hw_desired_write(const struct hw_desired *desired, struct hw_fence fence, size_t *size);

/* A value that was read. */
struct hw_desired_value {
    json_t *root;              /* owns what the others point to */
    struct hw_desired desired; /* sources and committed_at are NULL: they tell people, and decide
                                  nothing */
    struct hw_digest digest;   /* desired.digest in bytes */
    struct hw_fence fence;     /* the fence in the value; compare it with that of the headers */
    json_t *sources;           /* NULL: the value has none */
};

/*
 * Reads a value that anyone may have written. HW_EINVAL says which member is missing or wrong;
 * HW_OK says that the value is right by itself: the numbers are in range, the digest has its form,
 * the object is named by the digest, and the fence can be read. The caller judges whether it is for
 * this node, and whether the headers agree with it. Members that are not known are passed over.
 * Caller: hw_desired_clear.
 */
enum hw_status hw_desired_read(const char *text, size_t size, struct hw_desired_value *value,
                               struct hw_error *err) HW_CHECKED;
void hw_desired_clear(struct hw_desired_value *value);

/* The statement that is signed: the parts of an entry on which a node acts. desired NULL: the entry
 * is a deletion. */
struct hw_statement hw_desired_statement(const char *node, struct hw_fence fence,
                                         const struct hw_desired *desired);

#endif
