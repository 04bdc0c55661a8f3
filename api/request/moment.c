#include "api/request/moment.h"

#include <string.h>

#include "base/lsn.h"
#include "base/memory.h"
#include "http/answer.h"

/* Has the text the form of RFC 3339 section 5.6? Only the form is checked, since PostgreSQL refuses
 * days that do not exist. The "+" of an offset that was not escaped arrives as a blank in a query,
 * and is put right here. */
static bool is_time(char *text)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    char *rest = text;

    for (const char *s = shape; *s != '\0'; s++, rest++)
        if (*s == 'd' ? *rest < '0' || *rest > '9' : (*rest & ~(*s == 'T' ? 0x20 : 0)) != *s)
            return false;
    if (*rest == '.') {
        const size_t digits = strspn(rest + 1, "0123456789");

        if (digits == 0 || digits > 9)
            return false;
        rest += 1 + digits;
    }
    if (strcmp(rest, "Z") == 0 || strcmp(rest, "z") == 0)
        return true;
    if (*rest == ' ')
        *rest = '+';
    return (*rest == '+' || *rest == '-') && strlen(rest) == 6 && rest[3] == ':' &&
           strspn(rest + 1, "0123456789") == 2 && strspn(rest + 4, "0123456789") == 2;
}

bool api_moment_read(struct http_request *request, struct api_moment *moment)
{
    const char *given = http_request_parameter(request, "at");
    hw_lsn lsn;
    char *text;

    if (given == NULL) {
        *moment = (struct api_moment){.kind = API_MOMENT_NOW};
        return true;
    }
    text = http_request_keep(request, hw_strdup(given));
    if (hw_lsn_parse(text, &lsn, NULL) == HW_OK) {
        *moment = (struct api_moment){.kind = API_MOMENT_LSN, .text = text};
        return true;
    }
    if (is_time(text)) {
        *moment = (struct api_moment){.kind = API_MOMENT_TIME, .text = text};
        return true;
    }
    http_answer_problem(request, &http_invalid_parameter,
                        "at: must be a time such as 2026-01-31T12:00:00Z, or a position such as "
                        "0/16B3748");
    return false;
}
