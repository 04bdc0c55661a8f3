/* Proposals of nodes, which anyone with an agent's credentials may write. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/names.h"
#include "nats/kv.h"
#include "reconciler/intake/proposals.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = rec_proposal_read("daq1", (const char *)data, size);
    HW_AUTO_JSON json_t *item = NULL;
    const char *node, *ref, *problem = NULL, *config, *content, *encoding, *media_type = NULL;
    json_int_t base;

    FUZZ_HOLDS(hw_json_parse_object(text, strlen(text), &item, NULL) == HW_OK);
    FUZZ_HOLDS(hw_json_unpack(item, NULL, "{s:s, s:s, s?s}", "node", &node, "ref", &ref, "problem",
                              &problem) == HW_OK);
    FUZZ_HOLDS(strcmp(node, "daq1") == 0);
    FUZZ_HOLDS(hw_kv_key_valid(ref) && strlen(ref) <= 64);
    if (problem != NULL) {
        FUZZ_HOLDS(*problem != '\0');
        return 0;
    }
    FUZZ_HOLDS(hw_json_unpack(item, NULL, "{s:s, s:s, s:s, s:I, s?s}", "config", &config, "content",
                              &content, "encoding", &encoding, "base_revision", &base, "media_type",
                              &media_type) == HW_OK);
    FUZZ_HOLDS(hw_name_valid(config) && base >= 1 && base <= INT32_MAX);
    FUZZ_HOLDS(media_type == NULL || strlen(media_type) <= 255);
    return 0;
}
