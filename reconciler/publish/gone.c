#include "reconciler/publish/gone.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/memory.h"
#include "common/log.h"
#include "nats/kv.h"
#include "protocol/keys.h"

enum {
    NODES_MOST = 1000, /* in one answer */
    NODE_MS = 5,       /* between two nodes */
};

static const char gone_sql[] = "SELECT headwater.purge_gone($1, $2, $3::interval, $4)";

struct rec_gone {
    struct rec_gone_config config;
    bool anew;
    bool refused;         /* NATS has refused a purge, and it was told */
    int64_t done;         /* of nodes, those whose keys were purged */
    bool is_waiting;      /* the last answer had nodes */
    bool is_end_known;    /* before the database was asked, NATS was … */
    uint64_t asked_end;   /* … for the number of the last report */
    uint64_t reports_end; /* the same, of the answer that nodes are from */
    char *nodes[NODES_MOST];
    size_t count, at; /* of nodes: those from at on are still to do */
    struct hw_timer next;
    struct hw_buf purged; /* names that the database is still to be told … */
    struct hw_buf told;   /* … and those that the statement tells: an array of SQL; or empty */
    char grace[32], most[16];
    const char *values[4];
};

/* ---- one node ---- */

static struct rec_entry *find_entry(const struct rec_gone *gone, const char *prefix,
                                    const char *node)
{
    HW_AUTO_FREE char *key = hw_sprintf("%s%s", prefix, node);

    return rec_sink_find(gone->config.sink, key);
}

/* May the entry's key go? Its last word is a deletion, nobody is about to write it, and the log
 * from the stored checkpoint on does not make it again. */
static bool may_go(const struct rec_gone *gone, const struct rec_entry *entry)
{
    return entry == NULL ||
           (entry->deleted && !entry->hidden && entry->in_flight == NULL &&
            entry->waiting == NULL &&
            hw_fence_compare(entry->fence, rec_apply_stored(gone->config.apply)->fence) <= 0);
}

/* An entry that was written since keeps its number, which is greater. */
static enum hw_status purge_entry(const struct rec_gone *gone, struct rec_entry *entry,
                                  struct hw_error *err)
{
    if (entry == NULL || entry->seq == 0)
        return HW_OK;
    if (hw_kv_purge(gone->config.nats, gone->config.bucket, entry->key, entry->seq + 1, err) !=
        HW_OK)
        return err->status;
    rec_entry_purged(entry);
    return HW_OK;
}

static enum hw_status purge_sent(const struct rec_gone *gone, const char *prefix, const char *node,
                                 struct hw_error *err)
{
    HW_AUTO_FREE char *key = hw_sprintf("%s%s", prefix, node);

    return hw_kv_purge(gone->config.nats, gone->config.reports, key, gone->reports_end + 1, err);
}

/* *done: false where it must wait for another time. */
static enum hw_status purge_node(const struct rec_gone *gone, const char *node, bool *done,
                                 struct hw_error *err)
{
    struct rec_entry *desired = find_entry(gone, HW_KEY_DESIRED, node);
    struct rec_entry *decided = find_entry(gone, HW_KEY_DECIDED, node);

    *done = may_go(gone, desired) && may_go(gone, decided);
    if (!*done)
        return HW_OK;
    if (purge_entry(gone, desired, err) != HW_OK || purge_entry(gone, decided, err) != HW_OK ||
        purge_sent(gone, HW_KEY_REPORTED, node, err) != HW_OK ||
        purge_sent(gone, HW_KEY_PROPOSED, node, err) != HW_OK)
        return err->status;
    return HW_OK;
}

/* ---- a batch ---- */

static void forget_nodes(struct rec_gone *gone)
{
    for (size_t i = 0; i < gone->count; i++)
        free(gone->nodes[i]);
    gone->count = gone->at = 0;
    gone->done = 0;
}

static void purge_next(void *arg)
{
    struct rec_gone *gone = arg;
    const char *node = gone->nodes[gone->at++];
    struct hw_error err;
    bool done;

    if (purge_node(gone, node, &done, &err) != HW_OK) {
        /* They come again with the next answer. */
        if (!gone->refused && hw_nats_up(gone->config.nats))
            hw_log_warn("keys of deleted nodes cannot be purged", HW_S("node", node), HW_E(&err));
        gone->refused = hw_nats_up(gone->config.nats);
        forget_nodes(gone);
        return;
    }
    if (done) {
        hw_buf_printf(&gone->purged, "%s\"%s\"", gone->purged.len > 0 ? "," : "", node);
        gone->config.counts->purged++;
        gone->done++;
    }
    if (gone->at < gone->count) {
        hw_timer_start(gone->config.loop, &gone->next, NODE_MS, purge_next, gone);
        return;
    }
    if (gone->done > 0)
        hw_log_info("keys of deleted nodes were purged", HW_I("nodes", gone->done));
    forget_nodes(gone);
}

void rec_gone_take(struct rec_gone *gone, const PGresult *nodes)
{
    gone->anew = false;
    hw_buf_reset(&gone->told);
    gone->is_waiting = PQntuples(nodes) > 0;
    if (!gone->is_waiting || !gone->is_end_known || gone->count > 0)
        return;
    gone->reports_end = gone->asked_end;
    for (int i = 0; i < PQntuples(nodes) && gone->count < NODES_MOST; i++)
        gone->nodes[gone->count++] = hw_strdup(PQgetvalue(nodes, i, 0));
    hw_timer_start(gone->config.loop, &gone->next, 0, purge_next, gone);
}

struct hw_db_query rec_gone_query(struct rec_gone *gone)
{
    struct hw_kv_stream stream;

    /* NATS is asked only where there is something to do, for that blocks. */
    gone->is_end_known = gone->is_waiting && hw_kv_stat(gone->config.nats, gone->config.reports,
                                                        &stream, NULL) == HW_OK;
    if (gone->is_end_known)
        gone->asked_end = stream.last_seq;
    if (gone->told.len == 0) {
        hw_buf_printf(&gone->told, "{%s}", hw_buf_str(&gone->purged));
        hw_buf_reset(&gone->purged);
    }
    gone->values[0] = hw_buf_str(&gone->told);
    gone->values[1] = gone->anew ? "true" : "false";
    gone->values[2] = gone->config.grace_ms > 0 ? gone->grace : NULL;
    gone->values[3] = gone->most;
    return (struct hw_db_query){
        .sql = gone_sql, .count = HW_COUNT(gone->values), .values = gone->values};
}

/* ---- life ---- */

struct rec_gone *rec_gone_start(const struct rec_gone_config *config)
{
    struct rec_gone *gone = hw_alloc(sizeof(*gone));

    gone->config = *config;
    gone->anew = config->anew;
    snprintf(gone->grace, sizeof(gone->grace), "%" PRId64 " ms", config->grace_ms);
    snprintf(gone->most, sizeof(gone->most), "%d", NODES_MOST);
    return gone;
}

void rec_gone_stop(struct rec_gone *gone)
{
    if (gone == NULL)
        return;
    hw_timer_stop(&gone->next);
    forget_nodes(gone);
    hw_buf_free(&gone->purged);
    hw_buf_free(&gone->told);
    free(gone);
}
