/* Desired values, as an agent gets them; and as the reconciler finds them in the bucket. */
#include <string.h>

#include "agent/desired.h"
#include "protocol/keys.h"
#include "reconciler/publish/content.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/keys.h"

#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static struct hw_trust *trust;
static char *signature; /* of one value, which the corpus has */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct hw_signer *signer;

    (void)argc;
    (void)argv;
    fuzz_keys(&signer, &trust);
    signature = hw_signer_sign(signer, &(struct hw_statement){.node = "daq1",
                                                              .fence = {1, 0x16B3748},
                                                              .digest = DIGEST,
                                                              .revision = 3,
                                                              .size = 17,
                                                              .media_type = "application/json"});
    hw_signer_free(signer);
    return 0;
}

/* Whatever is in it: where keys are trusted, only what was signed is believed. */
static void try_signed(struct hw_entry entry)
{
    char digest[HW_DIGEST_STR_MAX];
    struct agent_document document;
    struct hw_error err;

    FUZZ_HOLDS(agent_desired_decode(&entry, "daq1", trust, &document, &err) == HW_EINVAL);
    entry.signature = signature;
    if (agent_desired_decode(&entry, "daq1", trust, &document, &err) != HW_OK)
        return;
    FUZZ_HOLDS(document.set && document.revision == 3 && document.size == 17);
    FUZZ_HOLDS(strcmp(document.media_type, "application/json") == 0);
    FUZZ_HOLDS(strcmp(hw_digest_format(&document.digest, digest), DIGEST) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hw_entry entry = {.fenced = true,
                                   .fence = {.epoch = 1, .lsn = 0x16B3748},
                                   .key = "cfg.desired.daq1",
                                   .value = (const char *)data,
                                   .size = size};
    struct hw_entry told = entry;
    struct agent_document document = {.revision = -1};
    struct hw_digest content;
    struct hw_fence said;
    struct hw_error err = {0};

    if (agent_desired_decode(&entry, "daq1", NULL, &document, &err) == HW_OK) {
        FUZZ_HOLDS(document.set && document.revision >= 1 && document.size <= AGENT_DOCUMENT_MAX);
        FUZZ_HOLDS(document.media_type[0] != '\0' && strpbrk(document.media_type, "\r\n") == NULL);
        FUZZ_HOLDS(hw_fence_compare(document.fence, entry.fence) == 0);
    } else {
        FUZZ_HOLDS(err.status == HW_EINVAL && document.revision == -1);
    }
    try_signed(entry);
    told.key = HW_KEY_DECIDED "daq1";
    (void)rec_content_of_entry(&entry, &content, &said);
    (void)rec_content_of_entry(&told, &content, &said);
    return 0;
}
