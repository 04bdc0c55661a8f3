/* The header of a signature: only the one that the key makes is one. */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/keys.h"

static const struct hw_statement statement = {
    .node = "daq-2",
    .fence = {1, 0x16B3748},
    .digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    .revision = 3,
    .size = 3,
    .media_type = "text/plain"};
static struct hw_trust *trust;
static char *right;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct hw_signer *signer;

    (void)argc;
    (void)argv;
    fuzz_keys(&signer, &trust);
    right = hw_signer_sign(signer, &statement);
    hw_signer_free(signer);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    struct hw_error err = {0};

    if (hw_trust_check(trust, &statement, text, &err) == HW_OK)
        FUZZ_HOLDS(strcmp(text, right) == 0);
    else
        FUZZ_HOLDS(err.status == HW_EINVAL && err.message[0] != '\0');
    return 0;
}
