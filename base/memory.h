/*
 * Allocation. Small objects come from hw_alloc and friends, which never return NULL: when the
 * system has no memory left they write one line to stderr and abort. Buffers whose size comes from
 * outside the process use malloc and report HW_ELIMIT instead.
 */
#ifndef HW_MEMORY_H
#define HW_MEMORY_H

#include <stddef.h>

void *hw_alloc(size_t size) __attribute__((malloc, returns_nonnull)); /* zeroed */
void *hw_realloc(void *ptr, size_t size) __attribute__((returns_nonnull));
char *hw_strdup(const char *s) __attribute__((malloc, returns_nonnull, nonnull));
char *hw_strndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull, nonnull));
char *hw_sprintf(const char *fmt, ...)
    __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

/* Gives memory back that the start needed and an idle program does not need: free heap, and pages
 * of code that do not run any more. Such a page is read from its file again when it is needed. */
void hw_memory_trim(void);

/* For __attribute__((cleanup)): HW_AUTO_FREE char *s = ...; frees at the end of the scope. */
void hw_free_at(void *pointer_to_pointer);
#define HW_AUTO_FREE __attribute__((cleanup(hw_free_at)))

/* Moves ownership out of an automatic variable: return HW_TAKE(s). */
#define HW_TAKE(p)                                                                                 \
    __extension__({                                                                                \
        __typeof__(p) hw_taken_ = (p);                                                             \
        (p) = NULL;                                                                                \
        hw_taken_;                                                                                 \
    })

#define HW_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
