/* JSON bodies of requests, read strictly. What the target stands in for is the answer. */
#include <string.h>

#include "api/problem.h"
#include "api/request/body.h"
#include "base/utf8.h"
#include "http/answer.h"
#include "tests/fuzz/fuzz.h"

static const struct http_problem *answered;
static void *kept[8];
static size_t kept_count;

void http_answer_problem_with(struct http_request *request, const struct http_problem *problem,
                              json_t *members, const char *fmt, ...)
{
    (void)request;
    (void)fmt;
    FUZZ_HOLDS(answered == NULL);
    answered = problem;
    json_decref(members);
}

void *http_request_keep(struct http_request *request, void *memory)
{
    (void)request;
    FUZZ_HOLDS(kept_count < HW_COUNT(kept));
    return kept[kept_count++] = memory;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *body = hw_alloc(size + 1);
    struct http_request request = {.body = body, .body_len = size};
    const char *config = NULL, *selector = NULL, *priority = NULL;
    const struct api_field fields[] = {
        {"config", API_FIELD_STRING, true, &config},
        {"selector", API_FIELD_OBJECT, false, &selector},
        {"priority", API_FIELD_INTEGER, false, &priority},
    };

    memcpy(body, data, size);
    answered = NULL;
    if (api_body_read(&request, fields, HW_COUNT(fields))) {
        FUZZ_HOLDS(answered == NULL);
        FUZZ_HOLDS(config != NULL && hw_utf8_valid(config, strlen(config), NULL));
        FUZZ_HOLDS(selector == NULL || (selector[0] == '{' && strlen(selector) >= 2));
        FUZZ_HOLDS(priority == NULL || strspn(priority, "-0123456789") == strlen(priority));
    } else {
        FUZZ_HOLDS(answered == &api_malformed_json || answered == &api_invalid_body);
    }
    while (kept_count > 0)
        free(kept[--kept_count]);
    return 0;
}
