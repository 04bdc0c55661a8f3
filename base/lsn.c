#include "base/lsn.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

char *hw_lsn_format(hw_lsn lsn, char out[static HW_LSN_STR_MAX])
{
    snprintf(out, HW_LSN_STR_MAX, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
    return out;
}

/* Reads one to eight hexadecimal digits, and moves *text behind them. */
static bool parse_half(const char **text, uint32_t *half)
{
    uint32_t value = 0;
    int digits = 0;

    for (;; (*text)++, digits++) {
        const char c = **text;
        uint32_t digit;

        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A') + 10;
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a') + 10;
        else
            break;
        if (digits == 8)
            return false;
        value = value << 4 | digit;
    }
    *half = value;
    return digits > 0;
}

enum hw_status hw_lsn_parse(const char *text, hw_lsn *lsn, struct hw_error *err)
{
    const char *p = text;
    uint32_t high, low;

    if (!parse_half(&p, &high) || *p++ != '/' || !parse_half(&p, &low) || *p != '\0')
        return hw_fail(err, HW_EINVAL,
                       "\"%.40s\" is not an LSN: two hexadecimal numbers, as in 16/B374D848", text);
    *lsn = (hw_lsn)high << 32 | low;
    return HW_OK;
}

int hw_fence_compare(struct hw_fence a, struct hw_fence b)
{
    if (a.epoch != b.epoch)
        return a.epoch < b.epoch ? -1 : 1;
    if (a.lsn != b.lsn)
        return a.lsn < b.lsn ? -1 : 1;
    return 0;
}
