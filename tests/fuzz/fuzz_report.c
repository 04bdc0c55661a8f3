/* Reports of agents, which anyone with an agent's credentials may write. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "protocol/report.h"
#include "tests/fuzz/fuzz.h"

/* No text is longer than its limit, and nothing is deeper than a document in a report. */
static void check_bounds(const json_t *value, int depth)
{
    const char *name;
    json_t *member;

    FUZZ_HOLDS(!json_is_array(value) && depth <= 2);
    FUZZ_HOLDS(json_string_length(value) <= HW_REPORT_WORDS_MOST);
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
        check_bounds(member, depth + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_JSON json_t *report = NULL;
    HW_AUTO_JSON json_t *again = NULL;
    struct hw_error err = {0};
    struct hw_digest standing;
    struct hw_fence newest;
    const char *node;

    if (hw_report_read("daq1", (const char *)data, size, &report, &newest, &err) != HW_OK) {
        FUZZ_HOLDS(err.message[0] != '\0');
        return 0;
    }
    node = json_string_value(json_object_get(report, "node"));
    FUZZ_HOLDS(node != NULL && strcmp(node, "daq1") == 0);
    FUZZ_HOLDS(newest.epoch <= INT64_MAX); /* the database keeps it */
    check_bounds(report, 0);
    hw_report_standing(report, &standing);

    HW_AUTO_FREE char *text = hw_json_dump(report);
    FUZZ_HOLDS(hw_report_read("daq1", text, strlen(text), &again, &newest, &err) == HW_OK);
    FUZZ_HOLDS(json_equal(report, again));
    return 0;
}
