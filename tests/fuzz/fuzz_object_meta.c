/* Metadata of objects, which any client of the object store may have written. */
#include "nats/objstore.c" /* NOLINT: its metadata are its own */
#include "tests/fuzz/fuzz.h"

/* The library's messages want the library up. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    FUZZ_HOLDS(nats_Open(-1) == NATS_OK);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct meta meta = {0};
    struct hw_error err = {0};
    natsMsg *msg = NULL;

    if (natsMsg_Create(&msg, "$O.headwater.M.x", NULL, (const char *)data, (int)size) != NATS_OK)
        return 0;
    if (parse_meta(msg, 1, &meta, &err) == HW_OK) {
        /* It becomes part of a subject. */
        FUZZ_HOLDS(strlen(meta.nuid) < NUID_MAX && strpbrk(meta.nuid, ".*> \t\r\n") == NULL);
        FUZZ_HOLDS(strlen(meta.name) < sizeof(meta.name));
    } else {
        FUZZ_HOLDS(err.status == HW_ECORRUPT);
    }
    natsMsg_Destroy(msg);
    return 0;
}
