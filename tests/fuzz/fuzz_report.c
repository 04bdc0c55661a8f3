/* Reports of agents, which anyone with an agent's credentials may write. */
#include <string.h>

#include "common/json.h"
#include "protocol/report.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_JSON json_t *report = NULL;
    struct hw_error err = {0};
    struct hw_fence newest;
    const char *node;

    if (hw_report_check("daq1", (const char *)data, size, &newest, &err) != HW_OK) {
        FUZZ_HOLDS(err.message[0] != '\0');
        return 0;
    }
    FUZZ_HOLDS(hw_json_parse_object((const char *)data, size, &report, NULL) == HW_OK);
    node = json_string_value(json_object_get(report, "node"));
    FUZZ_HOLDS(node != NULL && strcmp(node, "daq1") == 0);
    FUZZ_HOLDS(newest.epoch <= INT64_MAX); /* the database keeps it */
    return 0;
}
