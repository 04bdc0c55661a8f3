#include "reconciler/publish/content.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"

/* The members are written in one order, and values that were JSON with sorted keys and no white
 * space: equal contents give equal bytes. */
static void add_string(struct hw_buf *text, const char *name, const char *value)
{
    hw_buf_puts(text, name);
    hw_buf_json_string(text, value, strlen(value));
}

static void add_json(struct hw_buf *text, const char *name, const json_t *value)
{
    HW_AUTO_FREE char *dumped = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

    hw_buf_puts(text, name);
    hw_buf_puts(text, dumped != NULL ? dumped : "null");
}

static void finish(struct hw_buf *text, struct hw_digest *content)
{
    hw_buf_putc(text, '}');
    hw_digest_of(text->data, text->len, content);
    hw_buf_free(text);
}

static void digest_desired(const struct hw_desired *row, const json_t *sources,
                           struct hw_digest *content)
{
    struct hw_buf text = {0};

    add_string(&text, "{\"node\":", row->node);
    hw_buf_printf(&text, ",\"revision\":%" PRId64 ",\"size\":%" PRId64, row->revision, row->size);
    add_string(&text, ",\"digest\":", row->digest);
    add_string(&text, ",\"media_type\":", row->media_type);
    add_json(&text, ",\"sources\":", sources);
    finish(&text, content);
}

static void digest_decided(const char *node, const json_t *decisions, struct hw_digest *content)
{
    struct hw_buf text = {0};

    add_string(&text, "{\"node\":", node);
    add_json(&text, ",\"decisions\":", decisions);
    finish(&text, content);
}

void rec_content_of_desired(const struct hw_desired *row, struct hw_digest *content)
{
    HW_AUTO_JSON json_t *sources = json_loads(row->sources, 0, NULL);

    digest_desired(row, sources, content);
}

void rec_content_of_decided(const struct hw_decided *row, struct hw_digest *content)
{
    HW_AUTO_JSON json_t *decisions = json_loads(row->decisions, 0, NULL);

    digest_decided(row->node, decisions, content);
}

static bool read_desired(const struct hw_entry *entry, struct hw_digest *content,
                         struct hw_fence *fence)
{
    struct hw_desired_value value;
    bool ours;

    if (hw_desired_read(entry->value, entry->size, &value, NULL) != HW_OK)
        return false;
    ours = value.sources != NULL; /* a reader does without them; a row always has them */
    if (ours) {
        digest_desired(&value.desired, value.sources, content);
        *fence = value.fence;
    }
    hw_desired_clear(&value);
    return ours;
}

static bool read_decided(const struct hw_entry *entry, struct hw_digest *content,
                         struct hw_fence *fence)
{
    struct hw_decided_value value;
    bool ours;

    if (hw_decided_read(entry->value, entry->size, &value, NULL) != HW_OK)
        return false;
    ours = value.fence.epoch != 0;
    if (ours) {
        digest_decided(value.node, value.decisions, content);
        *fence = value.fence;
    }
    hw_decided_clear(&value);
    return ours;
}

bool rec_content_of_entry(const struct hw_entry *entry, struct hw_digest *content,
                          struct hw_fence *fence)
{
    return hw_decided_node(entry->key) != NULL ? read_decided(entry, content, fence)
                                               : read_desired(entry, content, fence);
}
