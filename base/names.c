#include "base/names.h"

#include <string.h>

static bool is_part(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

bool hw_name_is_dotted(const char *text)
{
    bool in_part = false;

    for (; *text != '\0'; text++) {
        if (*text == '.' ? !in_part : !is_part(*text))
            return false;
        in_part = *text != '.';
    }
    return in_part;
}

bool hw_name_valid(const char *name)
{
    return strlen(name) <= HW_NAME_MOST && hw_name_is_dotted(name);
}

enum hw_status hw_name_check(const char *name, struct hw_error *err)
{
    if (name != NULL && hw_name_valid(name))
        return HW_OK;
    return hw_fail(err, HW_EINVAL,
                   "\"%.200s\" is no name: 1 to %d letters, digits, - and _, in parts joined by "
                   "single dots",
                   name != NULL ? name : "", HW_NAME_MOST);
}
