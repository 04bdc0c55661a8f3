#include "agent/disk/document.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "common/clock.h"

void agent_text_clean(char *out, size_t size, const char *bytes, size_t len)
{
    const char *p = bytes;
    const char *const end = p + len;
    char *to = out;

    while (p < end) {
        const size_t n = hw_utf8_length(p, (size_t)(end - p));
        const bool plain = n > 1 || (n == 1 && *p >= ' ' && *p != 0x7F) || *p == '\n' || *p == '\t';
        const size_t step = plain ? n : 1;

        if (step >= size - (size_t)(to - out))
            break;
        if (plain)
            memcpy(to, p, n);
        else
            *to = '?';
        to += step;
        p += step;
    }
    *to = '\0';
}

bool agent_document_same(const struct agent_document *a, const struct agent_document *b)
{
    return a->set && b->set && hw_digest_equal(&a->digest, &b->digest) &&
           strcmp(a->media_type, b->media_type) == 0;
}

char *agent_time_now(char out[static AGENT_TIME_MAX])
{
    char text[HW_CLOCK_MAX];

    snprintf(out, AGENT_TIME_MAX, "%s", hw_clock_format(hw_clock_now(), 3, text));
    return out;
}
