#include "base/memory.h"

#include <link.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *check(void *ptr)
{
    static const char complaint[] = "out of memory\n";

    if (ptr == NULL) {
        /* Not where it would wait: stderr may be a pipe that nobody reads. */
        if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 0) > 0 &&
            write(STDERR_FILENO, complaint, sizeof(complaint) - 1) < 0)
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

/* Code that was relocated in place differs from the file, so it cannot be read from there again. */
static bool is_patched(const struct dl_phdr_info *object)
{
    const ElfW(Dyn) *d = NULL;

    for (size_t i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            d = (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    for (; d != NULL && d->d_tag != DT_NULL; d++)
        if (d->d_tag == DT_TEXTREL || (d->d_tag == DT_FLAGS && (d->d_un.d_val & DF_TEXTREL) != 0))
            return true;
    return false;
}

static int drop_code(struct dl_phdr_info *object, size_t size, void *arg)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    (void)size;
    (void)arg;
    for (size_t i = 0; i < object->dlpi_phnum && !is_patched(object); i++) {
        const ElfW(Phdr) *const segment = &object->dlpi_phdr[i];
        const uintptr_t from = (object->dlpi_addr + segment->p_vaddr) & ~(page - 1);
        const uintptr_t to = object->dlpi_addr + segment->p_vaddr + segment->p_memsz;

        if (segment->p_type == PT_LOAD && (segment->p_flags & (PF_X | PF_W)) == PF_X)
            (void)madvise((void *)from, to - from,
                          MADV_DONTNEED); /* pages that it refuses to drop stay */
    }
    return 0;
}

void hw_memory_trim(void)
{
    malloc_trim(0);
    dl_iterate_phdr(drop_code, NULL);
}
