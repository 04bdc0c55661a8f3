#include "reconciler/publish/hidden.h"

#include <stdlib.h>

#include "base/memory.h"
#include "common/log.h"
#include "nats/kv.h"
#include "protocol/keys.h"

struct rec_hidden {
    struct hw_nats *nats;
    const char *bucket, *reports;
    struct rec_hidden_events events;
    struct hw_hidden_search *search; /* among the entries, and then among what nodes sent */
    struct hw_kv_watch *list;        /* while the keys of what nodes sent are read */
    char **keys;                     /* of that, so far */
    size_t count, cap, found;
    bool refused; /* a purge was: no other is tried, for each may wait for an answer */
};

enum hw_status rec_hidden_free_key(struct hw_nats *nats, const char *bucket,
                                   struct rec_entry *entry, uint64_t newest, bool whole,
                                   struct hw_error *err)
{
    if (hw_hidden_purge(nats, bucket, entry->key, whole ? 0 : newest, err) != HW_OK)
        return err->status;
    hw_log_warn("nats-server does not find a key by its name, as after it was killed: its older "
                "entries were purged, so that it can be written again",
                HW_S("key", entry->key), HW_I("revision", (int64_t)newest));
    rec_entry_hide(entry, whole);
    return HW_OK;
}

enum hw_status rec_hidden_free_entry(struct hw_nats *nats, const char *bucket,
                                     struct rec_sink *sink, const char *key, struct hw_error *err)
{
    struct rec_entry *entry = rec_sink_entry(sink, key);
    bool found;

    if (entry->hidden || entry->seq == 0 || entry->in_flight != NULL)
        return HW_OK; /* it is known; or the server's answer will show it */
    /* It may have been written since it was asked for. */
    if (hw_hidden_kept(nats, bucket, key, 0, &found, err) != HW_OK)
        return err->status;
    return found ? HW_OK : rec_hidden_free_key(nats, bucket, entry, entry->seq, false, err);
}

enum hw_status rec_hidden_check_kept(struct hw_nats *nats, const char *bucket,
                                     struct rec_entry *entry, uint64_t seq, bool *kept,
                                     struct hw_error *err)
{
    const enum hw_status status = hw_hidden_kept(nats, bucket, entry->key, seq, kept, err);

    if (status != HW_OK || *kept)
        return status;
    if (entry->emptied)
        return hw_hidden_fail(err, bucket, entry->key,
                              "it acknowledges what is written there, and does not keep it, "
                              "though the key was purged");
    return rec_hidden_free_key(nats, bucket, entry, seq, true, err);
}

/* ---- what nodes sent ---- */

static void on_report_hidden(void *arg, const char *key)
{
    struct rec_hidden *hidden = arg;
    struct hw_error err;
    bool found;

    /* A report that has come since is not to be purged. */
    if (hidden->refused ||
        hw_hidden_kept(hidden->nats, hidden->reports, key, 0, &found, &err) != HW_OK || found)
        return;
    hidden->refused = hw_hidden_purge(hidden->nats, hidden->reports, key, 0, &err) != HW_OK;
    if (hidden->refused)
        hw_log_error("what a node reports cannot be stored", HW_S("key", key), HW_E(&err));
    else
        hw_log_warn("nats-server does not find a key by its name, as after it was killed: it was "
                    "purged, and its node sends it again",
                    HW_S("bucket", hidden->reports), HW_S("key", key));
}

static void on_reports_searched(void *arg)
{
    struct rec_hidden *hidden = arg;

    hw_hidden_stop(HW_TAKE(hidden->search));
}

static void on_report(void *arg, struct hw_kv_entry *entry)
{
    struct rec_hidden *hidden = arg;

    if (hidden->count == hidden->cap) {
        hidden->cap = hidden->cap > 0 ? 2 * hidden->cap : 64;
        hidden->keys = hw_realloc(hidden->keys, hidden->cap * sizeof(*hidden->keys));
    }
    hidden->keys[hidden->count++] = hw_strdup(entry->key);
}

static void on_reports_listed(void *arg)
{
    struct rec_hidden *hidden = arg;
    const struct hw_hidden_events events = {
        .found = on_report_hidden, .done = on_reports_searched, .arg = hidden};
    const size_t count = hidden->count;
    struct hw_error err;

    hw_kv_watch_stop(HW_TAKE(hidden->list));
    hidden->count = 0;
    /* Whatever it fails of is told by the connection, and is tried again after its loss. */
    (void)!hw_hidden_search(hidden->nats, hidden->reports, HW_TAKE(hidden->keys), count, &events,
                            &hidden->search, &err);
}

static void forget_keys(struct rec_hidden *hidden)
{
    while (hidden->count > 0)
        free(hidden->keys[--hidden->count]);
    free(HW_TAKE(hidden->keys));
    hidden->cap = 0;
}

/* The watch begins anew: its keys come again. */
static enum hw_status on_listing(void *arg, struct hw_error *err)
{
    (void)err;
    forget_keys(arg);
    return HW_OK;
}

/* ---- entries ---- */

static void on_entry_hidden(void *arg, const char *key)
{
    struct rec_hidden *hidden = arg;

    hidden->found++;
    hidden->events.found(hidden->events.arg, key);
}

static void on_entries_searched(void *arg)
{
    struct rec_hidden *hidden = arg;
    const struct hw_kv_watch_events events = {
        .starting = on_listing, .entry = on_report, .caught_up = on_reports_listed, .arg = hidden};
    struct hw_error err;

    hw_hidden_stop(HW_TAKE(hidden->search));
    hidden->events.done(hidden->events.arg, hidden->found);
    (void)!hw_kv_watch_start(hidden->nats, hidden->reports, HW_KEYS ">", HW_DELIVER_LAST, &events,
                             &hidden->list, &err);
}

enum hw_status rec_hidden_start(struct hw_nats *nats, const struct rec_sink *sink,
                                const char *bucket, const char *reports,
                                const struct rec_hidden_events *events, struct rec_hidden **out,
                                struct hw_error *err)
{
    struct rec_hidden *hidden = hw_alloc(sizeof(*hidden));
    const struct hw_hidden_events search_events = {
        .found = on_entry_hidden, .done = on_entries_searched, .arg = hidden};
    size_t count;
    char **keys = rec_sink_keys(sink, &count);

    *hidden =
        (struct rec_hidden){.nats = nats, .bucket = bucket, .reports = reports, .events = *events};
    if (hw_hidden_search(nats, bucket, keys, count, &search_events, &hidden->search, err) !=
        HW_OK) {
        rec_hidden_stop(hidden);
        return err->status;
    }
    *out = hidden;
    return HW_OK;
}

void rec_hidden_stop(struct rec_hidden *hidden)
{
    if (hidden == NULL)
        return;
    hw_hidden_stop(hidden->search);
    hw_kv_watch_stop(hidden->list);
    forget_keys(hidden);
    free(hidden);
}
