#include "reconciler/publish/content.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "common/memory.h"

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

static void digest_desired(const struct rec_desired *row, const json_t *sources,
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

void rec_content_of_desired(const struct rec_desired *row, struct hw_digest *content)
{
    HW_AUTO_JSON json_t *sources = json_loads(row->sources, 0, NULL);

    digest_desired(row, sources, content);
}

void rec_content_of_decided(const struct rec_decided *row, struct hw_digest *content)
{
    HW_AUTO_JSON json_t *decisions = json_loads(row->decisions, 0, NULL);

    digest_decided(row->node, decisions, content);
}

static bool read_fence(json_t *root, struct hw_fence *fence)
{
    const char *lsn;
    json_int_t epoch;

    if (hw_json_unpack(root, NULL, "{s:I, s:s}", "epoch", &epoch, "lsn", &lsn) != HW_OK ||
        epoch < 1 || hw_lsn_parse(lsn, &fence->lsn, NULL) != HW_OK)
        return false;
    fence->epoch = (uint64_t)epoch;
    return true;
}

static bool read_desired(json_t *root, struct hw_digest *content)
{
    static const char algorithm[] = "sha256:";
    struct rec_desired row;
    json_int_t revision, size;
    const char *object;
    json_t *sources;

    if (hw_json_unpack(root, NULL, "{s:s, s:I, s:s, s:I, s:s, s:s, s:o}", "node", &row.node,
                       "revision", &revision, "digest", &row.digest, "size", &size, "media_type",
                       &row.media_type, "object", &object, "sources", &sources) != HW_OK ||
        strncmp(row.digest, algorithm, strlen(algorithm)) != 0 ||
        strcmp(object, row.digest + strlen(algorithm)) != 0)
        return false;
    row.revision = revision;
    row.size = size;
    digest_desired(&row, sources, content);
    return true;
}

static bool read_decided(json_t *root, struct hw_digest *content)
{
    const char *node;
    json_t *decisions;

    if (hw_json_unpack(root, NULL, "{s:s, s:o}", "node", &node, "decisions", &decisions) != HW_OK)
        return false;
    digest_decided(node, decisions, content);
    return true;
}

bool rec_content_of_entry(const struct hw_kv_entry *entry, struct hw_digest *content,
                          struct hw_fence *fence)
{
    HW_AUTO_JSON json_t *root = NULL;
    struct hw_fence said;

    if (hw_json_parse_object(entry->value, entry->size, &root, NULL) != HW_OK ||
        !read_fence(root, &said) ||
        !(rec_decided_node(entry->key) != NULL ? read_decided(root, content)
                                               : read_desired(root, content)))
        return false;
    *fence = said;
    return true;
}
