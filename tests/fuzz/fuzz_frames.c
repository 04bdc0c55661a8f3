/*
 * Frames of the replication protocol, one a line and in order, through the assembler. Whatever
 * comes: transactions begin and end in turn, and positions grow.
 */
#include "cdc/pg_source.c" /* NOLINT: its frames are its own */
#include "tests/fuzz/fuzz.h"

struct seen {
    bool open;
    hw_lsn last;
};

static enum hw_status on_begin(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct seen *seen = arg;

    (void)err;
    FUZZ_HOLDS(!seen->open && tx->xid != 0);
    seen->open = true;
    return HW_OK;
}

static enum hw_status on_change(void *arg, const struct cdc_transaction *tx,
                                const struct cdc_change *change, struct hw_error *err)
{
    const struct seen *seen = arg;

    (void)err;
    FUZZ_HOLDS(seen->open || (change->action == CDC_MESSAGE && tx == NULL));
    return HW_OK;
}

static enum hw_status on_commit(void *arg, const struct cdc_transaction *tx, struct hw_error *err)
{
    struct seen *seen = arg;

    (void)err;
    FUZZ_HOLDS(seen->open && tx->lsn > seen->last);
    seen->open = false;
    seen->last = tx->lsn;
    return HW_OK;
}

static void on_progress(void *arg, hw_lsn position)
{
    const struct seen *seen = arg;

    (void)position;
    FUZZ_HOLDS(!seen->open);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen seen = {0};
    struct pg_source source = {
        .assembler.handler = {.begin = on_begin,
                              .change = on_change,
                              .commit = on_commit,
                              .progress = on_progress,
                              .arg = &seen},
    };
    const char *at = (const char *)data, *end = at + size;
    enum hw_status status = HW_OK;

    while (at < end && status == HW_OK) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        const size_t len = (size_t)((line != NULL ? line : end) - at);
        HW_AUTO_FREE char *frame = hw_alloc(len + 1);
        struct hw_error err = {0};

        memcpy(frame, at, len);
        if (len > 0) /* libpq gives no empty message */
            status = take_message(&source, frame, len, &err);
        FUZZ_HOLDS(status == err.status);
        at += len + 1;
    }
    FUZZ_HOLDS(source.assembler.received == seen.last);
    return 0;
}
