/*
 * JSON by jansson. These functions turn its errors into ours and add the strictness that bytes from
 * outside need: one object, UTF-8, no member name twice, no NUL.
 */
#ifndef HW_JSON_H
#define HW_JSON_H

#include <jansson.h>

#include "base/status.h"

/* Parses one JSON object (RFC 8259). The error names line and column. Caller: json_decref. */
enum hw_status hw_json_parse_object(const char *text, size_t len, json_t **object,
                                    struct hw_error *err) HW_CHECKED;
/* The same, and every number stays as it is written: base/json_text.h. */
enum hw_status hw_json_parse_exact(const char *text, size_t len, json_t **object,
                                   struct hw_error *err) HW_CHECKED;

/*
 * A guess at the mistake in a text that jansson refuses, to be put behind its words: "; a comma
 * before it is one too many", or "" where there is no good guess. problem must be about this text
 * from its beginning.
 */
const char *hw_json_hint(const char *text, size_t len, const json_error_t *problem);

/*
 * json_unpack_ex with our errors: "member "x" …". The strings that it gives belong to the object.
 * End the format with '!' to refuse members that it does not name, or with '*' to pass them over.
 */
enum hw_status hw_json_unpack(json_t *object, struct hw_error *err, const char *fmt,
                              ...) HW_CHECKED;

/* Compact text, members in the order they were set; malloc'ed. */
char *hw_json_dump(const json_t *value);

static inline void hw_json_decref_at(json_t **value)
{
    json_decref(*value);
}
#define HW_AUTO_JSON __attribute__((cleanup(hw_json_decref_at)))

#endif
