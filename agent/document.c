#include "agent/document.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* The length of the UTF-8 sequence (RFC 3629) at p, or 0 where there is none. */
static size_t sequence(const unsigned char *p, size_t len)
{
    const unsigned char c = p[0];
    const size_t n = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;

    if (n == 0 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies above U+10FFFF. */
    if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F) || (c == 0xF0 && p[1] < 0x90) ||
        (c == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

void agent_text_clean(char *out, size_t size, const char *bytes, size_t len)
{
    const unsigned char *p = (const unsigned char *)bytes;
    const unsigned char *const end = p + len;
    char *to = out;

    while (p < end) {
        const size_t n = sequence(p, (size_t)(end - p));
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
    struct timespec now;
    struct tm utc;
    char seconds[24];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, AGENT_TIME_MAX, "%s.%03dZ", seconds, (int)(now.tv_nsec / 1000000 % 1000));
    return out;
}
