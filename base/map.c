#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

uint64_t hw_hash(uint64_t hash, const char *s)
{
    for (; *s != '\0'; s++)
        hash = (hash ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    return hash;
}

/* The slot where key is, or would go. */
static struct hw_map_slot *find(const struct hw_map *map, const char *key)
{
    const uint64_t hash = hw_hash(HW_HASH_START, key);
    size_t place = (size_t)(hash ^ hash >> 32) & map->mask;

    while (map->slots[place].key != NULL && strcmp(map->slots[place].key, key) != 0)
        place = (place + 1) & map->mask;
    return &map->slots[place];
}

void *hw_map_get(const struct hw_map *map, const char *key)
{
    return map->slots != NULL ? find(map, key)->item : NULL;
}

/* Twice the slots; the table is kept at most half full, so that a search is short. */
static void grow(struct hw_map *map)
{
    const struct hw_map old = *map;
    const size_t places = old.slots == NULL ? 64 : 2 * (old.mask + 1);

    map->slots = hw_alloc(places * sizeof(*map->slots));
    map->mask = places - 1;
    for (size_t i = 0; old.slots != NULL && i <= old.mask; i++)
        if (old.slots[i].key != NULL)
            *find(map, old.slots[i].key) = old.slots[i];
    free(old.slots);
}

void hw_map_add(struct hw_map *map, const char *key, void *item)
{
    if (map->slots == NULL || 2 * (map->count + 1) > map->mask + 1)
        grow(map);
    *find(map, key) = (struct hw_map_slot){.key = key, .item = item};
    map->count++;
}

void *hw_map_next(const struct hw_map *map, size_t *at)
{
    while (map->slots != NULL && *at <= map->mask) {
        const struct hw_map_slot *slot = &map->slots[(*at)++];

        if (slot->key != NULL)
            return slot->item;
    }
    return NULL;
}

void hw_map_clear(struct hw_map *map)
{
    free(map->slots);
    *map = (struct hw_map){0};
}
