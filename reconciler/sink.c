#include "reconciler/sink.h"

#include <stdlib.h>

#include "common/map.h"
#include "common/memory.h"

struct rec_sink {
    struct hw_map entries; /* struct rec_entry by node */
    struct hw_map objects; /* struct rec_object by name */
    uint64_t audit;
};

struct rec_sink *rec_sink_new(void)
{
    return hw_alloc(sizeof(struct rec_sink));
}

void rec_sink_clear(struct rec_sink *sink)
{
    struct rec_object *object;
    struct rec_entry *entry;
    size_t at = 0;

    while ((entry = hw_map_next(&sink->entries, &at)) != NULL) {
        free(entry->node);
        free(entry);
    }
    at = 0;
    while ((object = hw_map_next(&sink->objects, &at)) != NULL) {
        free(object->name);
        free(object);
    }
    hw_map_clear(&sink->entries);
    hw_map_clear(&sink->objects);
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
    struct rec_entry *entry = hw_map_get(&sink->entries, node);

    if (entry == NULL) {
        entry = hw_alloc(sizeof(*entry));
        entry->node = hw_strdup(node);
        entry->deleted = true;
        hw_map_add(&sink->entries, entry->node, entry);
    }
    return entry;
}

size_t rec_sink_count(const struct rec_sink *sink)
{
    return sink->entries.count;
}

struct rec_entry *rec_sink_next(const struct rec_sink *sink, size_t *at)
{
    return hw_map_next(&sink->entries, at);
}

struct rec_object *rec_sink_object(struct rec_sink *sink, const char *hex)
{
    struct rec_object *object = hw_map_get(&sink->objects, hex);

    if (object == NULL) {
        object = hw_alloc(sizeof(*object));
        object->name = hw_strdup(hex);
        hw_map_add(&sink->objects, object->name, object);
    }
    return object;
}

struct rec_object *rec_sink_next_object(const struct rec_sink *sink, size_t *at)
{
    return hw_map_next(&sink->objects, at);
}

size_t rec_sink_objects(const struct rec_sink *sink)
{
    const struct rec_object *object;
    size_t count = 0, at = 0;

    while ((object = rec_sink_next_object(sink, &at)) != NULL)
        count += object->there;
    return count;
}

uint64_t rec_sink_audit(const struct rec_sink *sink)
{
    return sink->audit;
}

uint64_t rec_sink_begin_audit(struct rec_sink *sink)
{
    return ++sink->audit;
}
