#include "reconciler/sink.h"

#include <stdlib.h>

#include "common/map.h"
#include "common/memory.h"

struct rec_sink {
    struct hw_map entries; /* struct rec_entry by node */
    struct hw_map objects; /* the name itself by name */
};

struct rec_sink *rec_sink_new(void)
{
    return hw_alloc(sizeof(struct rec_sink));
}

void rec_sink_clear(struct rec_sink *sink)
{
    struct rec_entry *entry;
    char *object;
    size_t at = 0;

    while ((entry = hw_map_next(&sink->entries, &at)) != NULL) {
        free(entry->node);
        free(entry);
    }
    at = 0;
    while ((object = hw_map_next(&sink->objects, &at)) != NULL)
        free(object);
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

bool rec_sink_has_object(const struct rec_sink *sink, const char *hex)
{
    return hw_map_get(&sink->objects, hex) != NULL;
}

void rec_sink_add_object(struct rec_sink *sink, const char *hex)
{
    if (!rec_sink_has_object(sink, hex)) {
        char *name = hw_strdup(hex);

        hw_map_add(&sink->objects, name, name);
    }
}

size_t rec_sink_objects(const struct rec_sink *sink)
{
    return sink->objects.count;
}
