/*
 * Labels as people write them: site=north,slot=3, or a JSON object.
 *
 * The short form does not say what type a value has: 3 may be the string "3" or the number, and
 * true, false and null may be strings as well. Everything else is a string. A value in double
 * quotes, a JSON string, is that string alone.
 */
#ifndef HW_LABELS_H
#define HW_LABELS_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"

/* One object, in which every value of the short form is a string; an empty text is {}. Caller:
 * json_decref. */
enum hw_status hw_labels_parse(const char *text, json_t **labels, struct hw_error *err) HW_CHECKED;

/*
 * All objects that the text may mean, as an array; an empty text is [{}]. Every value that may be a
 * string or not doubles them: HW_EINVAL beyond most, which is at least 2.
 */
enum hw_status hw_labels_alternatives(const char *text, size_t most, json_t **alternatives,
                                      struct hw_error *err) HW_CHECKED;

#endif
