#include "common/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *check(void *ptr)
{
    static const char complaint[] = "out of memory\n";

    if (ptr == NULL) {
        if (write(STDERR_FILENO, complaint, sizeof(complaint) - 1) < 0)
            abort();
        abort();
    }
    return ptr;
}

void *hw_alloc(size_t size)
{
    return check(calloc(1, size > 0 ? size : 1));
}

void *hw_realloc(void *ptr, size_t size)
{
    return check(realloc(ptr, size > 0 ? size : 1));
}

char *hw_strdup(const char *s)
{
    return check(strdup(s));
}

char *hw_strndup(const char *s, size_t n)
{
    return check(strndup(s, n));
}

char *hw_sprintf(const char *fmt, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    if (vasprintf(&text, fmt, args) < 0)
        text = NULL;
    va_end(args);
    return check(text);
}

void hw_free_at(void *pointer_to_pointer)
{
    free(*(void **)pointer_to_pointer);
}
