/*
 * The rule for names. Names of nodes and configs become parts of keys, of subjects, of paths and
 * of labels, so they hold nothing that means something in one of these: parts of letters, digits,
 * '-' and '_', joined by single dots.
 */
#ifndef HW_NAMES_H
#define HW_NAMES_H

#include <stdbool.h>

#include "base/status.h"

#define HW_NAME_MOST 128 /* characters of a name */

/* May it be the name of a node or of a config? At most HW_NAME_MOST characters of such parts. */
bool hw_name_valid(const char *name);

/* The same with a sentence for whoever wrote the name: HW_EINVAL. NULL is no name. */
enum hw_status hw_name_check(const char *name, struct hw_error *err) HW_CHECKED;

/* Is it of such parts, one or more, whatever its length? */
bool hw_name_is_dotted(const char *text);

#endif
