#include "api/request/idempotency.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/memory.h"
#include "http/answer.h"
#include "http/router.h"

enum { KEY_MAX = 255 };

static bool is_key(const char *text)
{
    const size_t len = strlen(text);

    for (const char *p = text; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            return false;
    return len >= 1 && len <= KEY_MAX;
}

/* Each part is preceded by its length, so that two requests with other parts differ. */
static void add_part(struct hw_digester *digester, const char *bytes, size_t len)
{
    char length[24];

    snprintf(length, sizeof(length), "%zu:", len);
    hw_digester_add(digester, length, strlen(length));
    hw_digester_add(digester, bytes, len);
}

static const char *digest_request(struct http_request *request)
{
    const char *const parts[] = {
        request->method,
        request->raw_target,
        request->media_type,
        http_request_header(request, HTTP_IF_MATCH),
        http_request_header(request, HTTP_IF_NONE_MATCH),
    };
    struct hw_digester *digester = hw_digester_new();
    struct hw_digest digest;
    char text[HW_DIGEST_STR_MAX];

    for (size_t i = 0; i < HW_COUNT(parts); i++)
        add_part(digester, parts[i] != NULL ? parts[i] : "",
                 parts[i] != NULL ? strlen(parts[i]) : 0);
    add_part(digester, request->body != NULL ? request->body : "", request->body_len);
    hw_digester_finish(digester, &digest);
    hw_digester_free(digester);
    return http_request_keep(request, hw_strdup(hw_digest_format(&digest, text)));
}

bool api_idempotency_read(struct http_request *request)
{
    const char *key = http_request_header(request, HTTP_IDEMPOTENCY_KEY);

    if (key == NULL || !http_router_takes(request->route, "dry_run"))
        return true;
    if (!is_key(key)) {
        http_answer_problem(request, &http_malformed_request,
                            "Idempotency-Key: must be 1 to %d printable ASCII characters", KEY_MAX);
        return false;
    }
    request->idempotency_key = key;
    request->idempotency_request = digest_request(request);
    return true;
}
