/*
 * What the fuzz targets share. A target is one file: it feeds bytes to a parser and says what must
 * hold beyond not crashing. clang's libFuzzer drives it (make fuzz); replay.c drives it with the
 * files that are kept in corpus/<target> (make fuzz-check), with any compiler.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

/* 0, always: libFuzzer wants it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Called once before, of a target that has it. 0. */
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

#define FUZZ_HOLDS(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The input as a C string, malloc'ed: exactly as large, so that reading on is noticed. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    return hw_strndup((const char *)data, size);
}

#endif
