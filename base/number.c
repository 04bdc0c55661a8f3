#include "base/number.h"

#include <stddef.h>

bool hw_number_parse_until(const char *text, char end, uint64_t *value)
{
    uint64_t read = 0;

    if (text == NULL || *text < '0' || *text > '9')
        return false;
    for (; *text != '\0' && *text != end; text++)
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(read, 10, &read) ||
            __builtin_add_overflow(read, (uint64_t)(*text - '0'), &read))
            return false;
    *value = read;
    return true;
}

bool hw_number_parse(const char *text, uint64_t *value)
{
    return hw_number_parse_until(text, '\0', value);
}
