/* Request targets, and the way from them to a route. */
#include <string.h>

#include "api/routes.h"
#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

static void check(const char *text)
{
    FUZZ_HOLDS(hw_utf8_valid(text, strlen(text), NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"};
    HW_AUTO_FREE char *raw = fuzz_text(data, size);
    struct http_target target;
    struct hw_error err = {0};

    if (http_target_parse(raw, &target, &err) != HW_OK) {
        FUZZ_HOLDS(err.status == HW_EINVAL && err.message[0] != '\0');
        return 0;
    }
    FUZZ_HOLDS(target.segment_count >= 1 && target.segment_count <= HTTP_TARGET_SEGMENTS + 1);
    for (int i = 0; i < target.segment_count && i < HTTP_TARGET_SEGMENTS; i++) {
        check(target.segments[i]);
        FUZZ_HOLDS(strchr(target.segments[i], '/') == NULL);
    }
    for (int i = 0; i < target.parameter_count; i++) {
        check(target.parameters[i].name);
        check(target.parameters[i].value);
        FUZZ_HOLDS(http_target_parameter(&target, target.parameters[i].name) ==
                   target.parameters[i].value);
    }
    for (size_t i = 0; i < HW_COUNT(methods); i++) {
        const struct http_route *route;
        struct hw_buf allow = {0};
        const enum hw_status status =
            http_router_find(api_routes, methods[i], &target, &route, &allow);

        FUZZ_HOLDS(status == HW_OK || status == HW_ENOENT || (status == HW_EDENIED && allow.len));
        if (status == HW_OK) {
            const char *name = http_router_variable(route, &target, "name");

            FUZZ_HOLDS((strstr(route->pattern, "{name}") != NULL) == (name != NULL));
            FUZZ_HOLDS(name == NULL || *name != '\0');
            (void)http_router_unknown(route, &target);
        }
        hw_buf_free(&allow);
    }
    http_target_free(&target);
    return 0;
}
