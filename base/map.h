/*
 * A hash table from strings to pointers. Keys are borrowed: usually they are part of the item.
 *
 * The hash only chooses places in the table. It is no digest: two strings with one hash are found
 * in seconds, so nothing may be taken for equal because its hash is.
 */
#ifndef HW_MAP_H
#define HW_MAP_H

#include <stddef.h>
#include <stdint.h>

/* 64-bit FNV-1a of a string, going on from hash; begin with HW_HASH_START. */
#define HW_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t hw_hash(uint64_t hash, const char *s);

struct hw_map_slot {
    const char *key; /* NULL: free */
    void *item;
};

/* Zero-initialised it is empty. Open addressing, at most half full; items are never removed singly.
 */
struct hw_map {
    struct hw_map_slot *slots;
    size_t count, mask; /* mask + 1 slots, a power of two; none while slots is NULL */
};

void *hw_map_get(const struct hw_map *map, const char *key); /* NULL when it is not there */
/* The key must not be there yet, and lives as long as the map. */
void hw_map_add(struct hw_map *map, const char *key, void *item);
/* Walks over the items, in no order: start with *at = 0; NULL at the end. */
void *hw_map_next(const struct hw_map *map, size_t *at);
void hw_map_clear(struct hw_map *map); /* the items are the caller's */

#endif
