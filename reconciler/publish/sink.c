#include "reconciler/publish/sink.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"
#include "reconciler/publish/content.h"

struct rec_sink {
    struct hw_map entries; /* struct rec_entry by key */
    size_t nodes;          /* of them, those of what a node should run */
    struct hw_map objects; /* struct rec_object by name */
    uint64_t comparison;
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
        free(entry->key);
        free(entry);
    }
    at = 0;
    while ((object = hw_map_next(&sink->objects, &at)) != NULL) {
        free(object->name);
        free(object);
    }
    hw_map_clear(&sink->entries);
    sink->nodes = 0;
    hw_map_clear(&sink->objects);
}

void rec_sink_free(struct rec_sink *sink)
{
    if (sink == NULL)
        return;
    rec_sink_clear(sink);
    free(sink);
}

bool rec_sink_has_key(const char *key)
{
    return hw_desired_node(key) != NULL || hw_decided_node(key) != NULL;
}

bool rec_sink_is_decided(const PGresult *rows, int n)
{
    return *PQgetvalue(rows, n, PQnfields(rows) - 1) == 't';
}

struct rec_entry *rec_sink_find(const struct rec_sink *sink, const char *key)
{
    return hw_map_get(&sink->entries, key);
}

struct rec_entry *rec_sink_entry(struct rec_sink *sink, const char *key)
{
    struct rec_entry *entry = rec_sink_find(sink, key);

    if (entry == NULL) {
        entry = hw_alloc(sizeof(*entry));
        entry->key = hw_strdup(key);
        entry->deleted = true;
        hw_map_add(&sink->entries, entry->key, entry);
        sink->nodes += hw_desired_node(key) != NULL;
    }
    return entry;
}

size_t rec_sink_nodes(const struct rec_sink *sink)
{
    return sink->nodes;
}

struct rec_entry *rec_sink_next(const struct rec_sink *sink, size_t *at)
{
    return hw_map_next(&sink->entries, at);
}

char **rec_sink_keys(const struct rec_sink *sink, size_t *count)
{
    char **keys = hw_alloc((sink->entries.count + 1) * sizeof(*keys));
    const struct rec_entry *entry;
    size_t at = 0, n = 0;

    while ((entry = rec_sink_next(sink, &at)) != NULL)
        if (entry->seq != 0)
            keys[n++] = hw_strdup(entry->key);
    *count = n;
    return keys;
}

/* ---- how an entry changes ---- */

void rec_entry_read(struct rec_entry *entry, const struct hw_entry *found)
{
    entry->seq = found->seq;
    entry->deleted = found->deleted;
    /* Without a fence it is a stranger's, over the entry whose fence we know. */
    if (found->fenced)
        entry->fence = found->fence;
}

void rec_entry_compare(struct rec_entry *entry, const struct hw_entry *found,
                       struct hw_signer *signer)
{
    struct hw_fence fence;

    rec_entry_read(entry, found);
    entry->missigned = !rec_signature_stands(signer, found);
    /* Agents refuse an entry whose value says another fence than its headers. */
    entry->known = found->fenced && !found->deleted &&
                   rec_content_of_entry(found, &entry->content, &fence) &&
                   hw_fence_compare(fence, found->fence) == 0;
}

void rec_entry_listed(struct rec_entry *entry, uint64_t comparison)
{
    entry->listed = comparison;
}

void rec_entry_seen(struct rec_entry *entry, uint64_t comparison)
{
    entry->seen = comparison;
}

/* The fence stays: what a node has accepted it still refuses to go behind. */
void rec_entry_purged(struct rec_entry *entry)
{
    entry->seq = 0;
    entry->deleted = true;
    entry->missigned = entry->known = false;
    rec_entry_show(entry);
}

void rec_entry_touch(struct rec_entry *entry, uint64_t serial, size_t place)
{
    entry->last_tx = serial;
    entry->last_change = place;
}

void rec_entry_commit(struct rec_entry *entry, int64_t rev)
{
    if (rev > entry->rev)
        entry->rev = rev;
}

void rec_entry_begin(struct rec_entry *entry, struct rec_write *write)
{
    entry->in_flight = write;
}

void rec_entry_wait(struct rec_entry *entry, struct rec_write *write)
{
    if (entry->waiting_last != NULL)
        entry->waiting_last->next = write;
    else
        entry->waiting = write;
    entry->waiting_last = write;
}

void rec_entry_end(struct rec_entry *entry)
{
    entry->in_flight = NULL;
}

struct rec_write *rec_entry_next(struct rec_entry *entry)
{
    struct rec_write *next = entry->waiting;

    if (next == NULL)
        return NULL;
    entry->waiting = next->next;
    if (entry->waiting == NULL)
        entry->waiting_last = NULL;
    return next;
}

void rec_entry_written(struct rec_entry *entry, uint64_t seq, struct hw_fence fence, bool deleted)
{
    entry->seq = seq;
    entry->fence = fence;
    entry->deleted = deleted;
    entry->missigned = entry->known = false;
    rec_entry_show(entry);
}

void rec_entry_expect(struct rec_entry *entry, uint64_t seq)
{
    entry->seq = seq;
}

void rec_entry_hide(struct rec_entry *entry, bool emptied)
{
    entry->hidden = true;
    entry->emptied = emptied;
}

void rec_entry_show(struct rec_entry *entry)
{
    entry->hidden = entry->emptied = false;
}

/* ---- objects ---- */

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

uint64_t rec_sink_comparison(const struct rec_sink *sink)
{
    return sink->comparison;
}

uint64_t rec_sink_begin_comparison(struct rec_sink *sink)
{
    return ++sink->comparison;
}
