#include "reconciler/sink.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

/* A hash table by string: open addressing, at most half full; keys belong to the items. */
struct table {
    void **items;
    size_t count, mask; /* mask + 1 places; none while items is NULL */
    const char *(*key)(const void *item);
};

struct rec_sink {
    struct table entries;
    struct table objects;
    struct rec_entry **list; /* in the order of making, for walking over them */
    size_t list_cap;
};

static size_t hash_of(const char *key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *key != '\0'; key++)
        hash = (hash ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
    return (size_t)(hash ^ hash >> 32);
}

/* The place where key is, or would go. */
static void **find(const struct table *t, const char *key)
{
    size_t place = hash_of(key) & t->mask;

    while (t->items[place] != NULL && strcmp(t->key(t->items[place]), key) != 0)
        place = (place + 1) & t->mask;
    return &t->items[place];
}

static void make_room(struct table *t)
{
    const struct table old = *t;
    const size_t places = t->items == NULL ? 64 : 2 * (t->mask + 1);

    if (t->items != NULL && 2 * (t->count + 1) <= t->mask + 1)
        return;
    t->items = hw_alloc(places * sizeof(*t->items));
    t->mask = places - 1;
    for (size_t i = 0; old.items != NULL && i <= old.mask; i++)
        if (old.items[i] != NULL)
            *find(t, t->key(old.items[i])) = old.items[i];
    free(old.items);
}

static const char *entry_key(const void *item)
{
    return ((const struct rec_entry *)item)->node;
}

static const char *object_key(const void *item)
{
    return item;
}

struct rec_sink *rec_sink_new(void)
{
    struct rec_sink *sink = hw_alloc(sizeof(*sink));

    sink->entries.key = entry_key;
    sink->objects.key = object_key;
    return sink;
}

void rec_sink_clear(struct rec_sink *sink)
{
    for (size_t i = 0; i < sink->entries.count; i++) {
        free(sink->list[i]->node);
        free(sink->list[i]);
    }
    for (size_t i = 0; sink->objects.items != NULL && i <= sink->objects.mask; i++)
        free(sink->objects.items[i]);
    free(sink->entries.items);
    free(sink->objects.items);
    free(sink->list);
    *sink = (struct rec_sink){.entries.key = entry_key, .objects.key = object_key};
}

void rec_sink_free(struct rec_sink *sink)
{
    if (sink == NULL)
        return;
    rec_sink_clear(sink);
    free(sink);
}

struct rec_entry *rec_sink_entry(struct rec_sink *sink, const char *node)
{
    struct rec_entry *entry;
    void **place;

    make_room(&sink->entries);
    place = find(&sink->entries, node);
    if (*place != NULL)
        return *place;
    if (sink->entries.count == sink->list_cap) {
        sink->list_cap = sink->list_cap > 0 ? 2 * sink->list_cap : 64;
        sink->list = hw_realloc(sink->list, sink->list_cap * sizeof(struct rec_entry *));
    }
    entry = hw_alloc(sizeof(*entry));
    entry->node = hw_strdup(node);
    entry->deleted = true;
    *place = entry;
    sink->list[sink->entries.count++] = entry;
    return entry;
}

size_t rec_sink_count(const struct rec_sink *sink)
{
    return sink->entries.count;
}

struct rec_entry *rec_sink_at(const struct rec_sink *sink, size_t n)
{
    return sink->list[n];
}

bool rec_sink_has_object(const struct rec_sink *sink, const char *hex)
{
    return sink->objects.items != NULL && *find(&sink->objects, hex) != NULL;
}

void rec_sink_add_object(struct rec_sink *sink, const char *hex)
{
    void **place;

    make_room(&sink->objects);
    place = find(&sink->objects, hex);
    if (*place != NULL)
        return;
    *place = hw_strdup(hex);
    sink->objects.count++;
}

size_t rec_sink_objects(const struct rec_sink *sink)
{
    return sink->objects.count;
}
