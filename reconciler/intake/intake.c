#include "reconciler/intake/intake.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/map.h"
#include "common/memory.h"
#include "common/names.h"
#include "common/warning.h"
#include "protocol/keys.h"

enum {
    BATCH_BYTES = 4 << 20,
    WAITING_BYTES = 32 << 20, /* beyond it entries are left in the bucket until there is room */
    RETRY_MS = 1000,
};

struct node {
    struct rec_item item; /* text NULL: nothing waits */
    uint64_t seen;        /* entries up to this one were read */
    bool queued;
    struct node *next_queued;
};

struct rec_intake {
    struct rec_intake_config config;
    struct hw_db *pg;
    struct hw_kv_watch *watch;
    int64_t created_ns;        /* of the stream */
    struct hw_map nodes;       /* struct node by name */
    struct node *first, *last; /* waiting, in order of arrival */
    struct node **batch;       /* being written */
    size_t batch_count;
    size_t waiting;  /* bytes */
    bool left;       /* some were left in the bucket */
    bool one_by_one; /* the database cannot read one of those that wait: find out which */
    struct hw_timer retry;
};

/* ---- what waits ---- */

static struct node *node_of(struct rec_intake *intake, const char *name)
{
    struct node *node = hw_map_get(&intake->nodes, name);

    if (node == NULL) {
        node = hw_alloc(sizeof(*node));
        node->item.node = hw_strdup(name);
        hw_map_add(&intake->nodes, node->item.node, node);
    }
    return node;
}

static void enqueue(struct rec_intake *intake, struct node *node)
{
    if (node->queued)
        return;
    node->queued = true;
    node->next_queued = NULL;
    if (intake->last != NULL)
        intake->last->next_queued = node;
    else
        intake->first = node;
    intake->last = node;
}

static struct node *dequeue(struct rec_intake *intake)
{
    struct node *node = intake->first;

    intake->first = node->next_queued;
    if (intake->first == NULL)
        intake->last = NULL;
    node->queued = false;
    return node;
}

static void drop(struct rec_intake *intake, struct node *node)
{
    intake->waiting -= node->item.size;
    node->item.size = 0;
    free(HW_TAKE(node->item.text));
}

static void write_batch(void *arg);

static void on_entry(void *arg, struct hw_kv_entry *entry)
{
    struct rec_intake *intake = arg;
    const struct rec_intake_config *config = &intake->config;
    const char *name = hw_key_node(entry->key, config->prefix);
    struct node *node;
    char *text;

    if (entry->deleted || name == NULL)
        return;
    if (!hw_name_valid(name)) {
        hw_warn_about(name, "passing over a key that does not end with a node's name",
                      HW_S("key", entry->key), HW_I("revision", (int64_t)entry->seq));
        return;
    }
    node = node_of(intake, name);
    if (entry->seq <= node->seen)
        return; /* the watch began again */
    if (intake->waiting > WAITING_BYTES) {
        intake->left = true;
        return;
    }
    node->seen = entry->seq;
    text = config->read(config->arg, name, entry);
    if (text == NULL)
        return;
    drop(intake, node);
    node->item.text = text;
    node->item.size = strlen(text);
    node->item.seq = entry->seq;
    node->item.created_ns = intake->created_ns;
    intake->waiting += node->item.size;
    enqueue(intake, node);
    hw_timer_start(config->loop, &intake->retry, 0, write_batch, intake);
}

/* ---- writing ---- */

static void put_back(struct rec_intake *intake)
{
    for (size_t i = 0; i < intake->batch_count; i++)
        enqueue(intake, intake->batch[i]);
    intake->batch_count = 0;
}

/* A newer message of the same node, which came meanwhile, stays. */
static void forget_batch(struct rec_intake *intake)
{
    for (size_t i = 0; i < intake->batch_count; i++)
        if (!intake->batch[i]->queued)
            drop(intake, intake->batch[i]);
    intake->batch_count = 0;
}

static void on_written(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_intake *intake = arg;
    const struct rec_intake_config *config = &intake->config;

    /* Class 22, data exception: another attempt would fail as well. */
    if (outcome->status != HW_OK && strncmp(outcome->sqlstate, "22", 2) == 0) {
        intake->one_by_one = true;
        if (intake->batch_count == 1) {
            hw_warn_about(intake->batch[0]->item.node, "passing over what the database cannot read",
                          HW_S("node", intake->batch[0]->item.node), HW_S("of", config->what),
                          HW_E(&outcome->err));
            forget_batch(intake);
        } else {
            put_back(intake);
        }
        write_batch(intake);
        return;
    }
    if (outcome->status != HW_OK) {
        hw_log_warn("what nodes sent could not be written, trying again", HW_S("of", config->what),
                    HW_I("count", (int64_t)intake->batch_count), HW_E(&outcome->err));
        put_back(intake);
        rec_intake_write_later(intake);
        return;
    }
    config->answered(config->arg, outcome->results[0]);
    forget_batch(intake);
    write_batch(intake);
}

static void add(const struct rec_intake_config *config, const struct rec_item *item,
                struct hw_buf *json)
{
    if (config->add != NULL)
        config->add(config->arg, item, json);
    else
        hw_buf_add(json, item->text, item->size);
}

static void write_batch(void *arg)
{
    struct rec_intake *intake = arg;
    const struct rec_intake_config *config = &intake->config;
    const size_t most = intake->one_by_one ? 1 : config->batch_most;
    struct hw_buf json = {0};

    if (intake->batch_count > 0 || !hw_db_idle(intake->pg))
        return;
    if (intake->first == NULL) {
        intake->one_by_one = false;
        if (intake->left)
            hw_kv_watch_restart(intake->watch);
        intake->left = false;
        return;
    }
    if (config->ready != NULL && !config->ready(config->arg, intake->pg))
        return;
    while (intake->first != NULL && intake->batch_count < most && json.len < BATCH_BYTES) {
        struct node *node = dequeue(intake);

        hw_buf_putc(&json, json.len == 0 ? '[' : ',');
        add(config, &node->item, &json);
        intake->batch[intake->batch_count++] = node;
    }
    hw_buf_putc(&json, ']');
    const char *const values[] = {hw_buf_str(&json)};
    const struct hw_db_query query = {.sql = config->sql, .count = 1, .values = values};
    /* When the connection is down, the batch is written as soon as it is up again. */
    if (hw_db_run(intake->pg, HW_DB_ATOMIC, &query, 1, NULL, on_written, intake, NULL) != HW_OK)
        put_back(intake);
    hw_buf_free(&json);
}

void rec_intake_write(struct rec_intake *intake)
{
    write_batch(intake);
}

void rec_intake_write_later(struct rec_intake *intake)
{
    hw_timer_start(intake->config.loop, &intake->retry, RETRY_MS, write_batch, intake);
}

/* ---- life ---- */

/* A stream that was made anew, or put back from a copy, gives its numbers once more. */
static enum hw_status on_starting(void *arg, struct hw_error *err)
{
    struct rec_intake *intake = arg;
    const struct rec_intake_config *config = &intake->config;
    struct hw_kv_stream stream;
    struct node *node;
    size_t at = 0;

    const enum hw_status status = config->identify != NULL
                                      ? config->identify(config->arg, &stream, err)
                                      : hw_kv_stat(config->nats, config->bucket, &stream, err);
    if (status != HW_OK)
        return status;
    while ((node = hw_map_next(&intake->nodes, &at)) != NULL)
        if (stream.created_ns != intake->created_ns || node->seen > stream.last_seq)
            node->seen = 0;
    intake->created_ns = stream.created_ns;
    return HW_OK;
}

static void on_caught_up(void *arg)
{
    const struct rec_intake *intake = arg;

    hw_log_debug("caught up with what nodes sent", HW_S("bucket", intake->config.bucket),
                 HW_S("of", intake->config.what), HW_I("nodes", (int64_t)intake->nodes.count));
}

static void on_restarting(void *arg, const struct hw_error *why)
{
    const struct rec_intake *intake = arg;

    hw_log_warn("watching what nodes send failed, trying again",
                HW_S("bucket", intake->config.bucket), HW_S("of", intake->config.what), HW_E(why));
}

static void on_lost(void *arg, const char *why, int64_t pause_ms)
{
    const struct rec_intake *intake = arg;

    hw_log_warn("what nodes send is read anew", HW_S("bucket", intake->config.bucket),
                HW_S("of", intake->config.what), HW_S("why", why), HW_I("pause_ms", pause_ms));
}

enum hw_status rec_intake_start(const struct rec_intake_config *config, struct rec_intake **out,
                                struct hw_error *err)
{
    HW_AUTO_FREE char *application = hw_sprintf("headwater-reconciler: %s", config->what);
    HW_AUTO_FREE char *filter = hw_sprintf("%s>", config->prefix);
    struct rec_intake *intake = hw_alloc(sizeof(*intake));
    const struct hw_db_events pg_events = {.up = write_batch, .arg = intake};
    const struct hw_kv_watch_events watch_events = {.starting = on_starting,
                                                    .entry = on_entry,
                                                    .caught_up = on_caught_up,
                                                    .restarting = on_restarting,
                                                    .lost = on_lost,
                                                    .arg = intake};
    enum hw_status status;

    intake->config = *config;
    intake->batch = hw_alloc(config->batch_most * sizeof(struct node *));
    status = hw_db_open(config->loop, config->database, application, &pg_events, &intake->pg, err);
    if (status == HW_OK)
        status = hw_kv_watch_start(config->nats, config->bucket, filter, HW_DELIVER_LAST,
                                   &watch_events, &intake->watch, err);
    if (status != HW_OK) {
        rec_intake_stop(intake);
        return status;
    }
    *out = intake;
    return HW_OK;
}

void rec_intake_stop(struct rec_intake *intake)
{
    struct node *node;
    size_t at = 0;

    if (intake == NULL)
        return;
    hw_kv_watch_stop(intake->watch);
    hw_db_close(intake->pg);
    hw_timer_stop(&intake->retry);
    while ((node = hw_map_next(&intake->nodes, &at)) != NULL) {
        free(node->item.node);
        free(node->item.text);
        free(node);
    }
    hw_map_clear(&intake->nodes);
    free(intake->batch);
    free(intake);
}
