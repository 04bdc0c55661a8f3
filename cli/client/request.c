#include "cli/client/request.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

static void add_encoded(struct hw_buf *out, const char *text)
{
    char *encoded = curl_easy_escape(NULL, text, 0);

    if (encoded == NULL)
        abort(); /* no memory */
    hw_buf_puts(out, encoded);
    curl_free(encoded);
}

void cli_path_add(struct hw_buf *path, const char *segment)
{
    hw_buf_putc(path, '/');
    add_encoded(path, segment);
}

void cli_query_add(struct hw_buf *path, const char *name, const char *value)
{
    if (value == NULL)
        return;
    hw_buf_putc(path, strchr(path->data, '?') == NULL ? '?' : '&');
    hw_buf_puts(path, name);
    hw_buf_putc(path, '=');
    add_encoded(path, value);
}

void cli_answer_free(struct cli_answer *answer)
{
    free(answer->body);
    free(answer->media_type);
    free(answer->etag);
    free(answer->lsn);
    free(answer->change);
    json_decref(answer->details);
    *answer = (struct cli_answer){0};
}

bool cli_is_change(const char *text)
{
    const size_t digits = strspn(text, "0123456789");

    return digits >= 1 && digits <= 18 && text[digits] == '\0' && *text != '0';
}
