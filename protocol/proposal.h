/*
 * The proposal: what stands under the key cfg.proposed.<node> in the bucket of reports. A node asks
 * in it for new content of one config. The key holds one proposal at a time; the node puts it there
 * again until the decided value names it (protocol/decided.h). The reconciler reads it into
 * headwater.proposal.
 */
#ifndef HW_PROTOCOL_PROPOSAL_H
#define HW_PROTOCOL_PROPOSAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define HW_PROPOSAL_REF_MOST   64                /* characters of a ref */
#define HW_PROPOSAL_VALUE_MOST ((size_t)1 << 20) /* bytes: the content in base64, and the rest */

struct hw_proposal {
    const char *node;
    const char *ref; /* the node's own word for it: the same ref is the same proposal */
    const char *config;
    int64_t base_revision; /* of the config, that the node saw */
    const void *data;
    size_t size;
    const char *media_type; /* NULL: that of the config */
    const char *message;    /* NULL: none */
};

/* The value, malloc'ed; *size without its NUL. */
char *hw_proposal_write(const struct hw_proposal *proposal, size_t *size);

/* 1 to HW_PROPOSAL_REF_MOST letters, digits, '-' and '_'. */
bool hw_proposal_ref_valid(const char *ref);

/*
 * Checks that value is a proposal of node, and gives its members, the optional "encoding" filled
 * in; the content is not decoded. The error says what is wrong with it. *ref: the value's, where it
 * has a valid one, also after an error; or NULL. Both are the caller's: json_decref, free.
 */
enum hw_status hw_proposal_read(const char *node, const char *value, size_t size, json_t **members,
                                char **ref, struct hw_error *err) HW_CHECKED;

#endif
