#include "reconciler/compare/keys.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/names.h"
#include "nats/hidden.h"
#include "nats/kv.h"
#include "reconciler/publish/content.h"
#include "reconciler/publish/signature.h"
#include "reconciler/publish/sink.h"

enum {
    SILENCE_MS = 30000, /* of NATS while keys are read */
    ROUNDS = 3,         /* how often later states of keys are looked up */
    ROUND_MS = 200,
};

static const char later_sql[] = "SELECT " REC_DESIRED_COLUMNS " FROM headwater.desired_history"
                                " WHERE node = ANY ($1::text[]) AND rev > $2::bigint";
static const char decided_sql[] =
    "SELECT " REC_DECIDED_COLUMNS " FROM headwater.decided WHERE node = $1";

struct reading {
    struct rec_session *session;
    struct rec_snapshot *snapshot;
    struct hw_kv_watch *watch;
    bool all_read, all_searched;
    uint64_t last_seq; /* of the stream when reading began */
    size_t entries;    /* read so far */
};

/* ---- one key ---- */

static bool is_different(const struct rec_snapshot_key *key)
{
    if (!key->has_row)
        return key->present;
    return !key->present || !key->is_entry || !hw_digest_equal(&key->found, &key->wanted);
}

/* Forgets what the key said. */
static void forget(struct rec_snapshot_key *key)
{
    free(key->says);
    key->says = NULL;
    key->present = key->is_entry = key->misfenced = key->missigned = key->hidden = key->is_newer =
        false;
}

/* Describes the value in words. */
static char *describe(const struct hw_entry *entry, bool decided)
{
    struct hw_decided_value told = {0};
    struct hw_desired_value value = {0};
    char *says = NULL;

    if (decided) {
        if (hw_decided_read(entry->value, entry->size, &told, NULL) == HW_OK &&
            told.fence.epoch != 0)
            says = hw_sprintf("%zu decisions", json_array_size(told.decisions));
    } else if (hw_desired_read(entry->value, entry->size, &value, NULL) == HW_OK) {
        says = hw_sprintf("revision %" PRId64 " %.80s, %" PRId64 " bytes", value.desired.revision,
                          value.desired.digest, value.desired.size);
    }
    hw_decided_clear(&told);
    hw_desired_clear(&value);
    return says != NULL ? says : hw_sprintf("no entry of ours, %zu bytes", entry->size);
}

static char *describe_fences(const struct hw_entry *entry, struct hw_fence said)
{
    if (!entry->fenced)
        return hw_strdup("the headers have no fence");
    return hw_sprintf("headers: epoch %" PRIu64 ", LSN %s; value: epoch %" PRIu64 ", LSN %s",
                      entry->fence.epoch, HW_LSN(entry->fence.lsn), said.epoch, HW_LSN(said.lsn));
}

static void take_entry(struct reading *keys, struct rec_snapshot_key *key,
                       const struct hw_entry *entry)
{
    const struct hw_trust *trust = keys->session->config->trust;
    struct hw_fence said = {0};
    struct hw_error why;

    forget(key);
    key->missigned =
        trust != NULL && !key->decided && rec_signature_check(trust, entry, &why) != HW_OK;
    key->is_newer = entry->fenced && entry->fence.lsn > keys->snapshot->lsn;
    if (entry->deleted) {
        key->says = key->has_row     ? hw_strdup("deleted")
                    : key->missigned ? hw_strdup(why.message)
                                     : NULL;
        return;
    }
    key->present = true;
    key->is_entry = rec_content_of_entry(entry, &key->found, &said);
    key->misfenced = !entry->fenced || hw_fence_compare(entry->fence, said) != 0;
    if (is_different(key))
        key->says = describe(entry, key->decided);
    else if (key->misfenced)
        key->says = describe_fences(entry, said);
    else if (key->missigned)
        key->says = hw_strdup(why.message);
}

static void on_entry(void *arg, struct hw_kv_entry *stored)
{
    const struct hw_entry entry = hw_entry_of(stored);
    struct reading *keys = arg;
    struct rec_snapshot_key *key;

    keys->entries++;
    keys->all_read = entry.seq >= keys->last_seq;
    if (!rec_sink_has_key(entry.key))
        return;
    key = hw_map_get(&keys->snapshot->keys, entry.key);
    if (key == NULL && entry.deleted && keys->session->config->trust == NULL)
        return;
    if (key == NULL)
        key = rec_snapshot_add(keys->snapshot, entry.key);
    take_entry(keys, key, &entry);
}

static enum hw_status on_starting(void *arg, struct hw_error *err)
{
    struct reading *keys = arg;
    struct hw_kv_stream stream;
    struct rec_snapshot_key *key;
    size_t at = 0;
    const enum hw_status status =
        hw_kv_stat(keys->session->nats, keys->session->config->bucket, &stream, err);

    if (status != HW_OK)
        return status;
    while ((key = hw_map_next(&keys->snapshot->keys, &at)) != NULL)
        forget(key);
    keys->entries = 0;
    keys->last_seq = stream.last_seq; /* what is written later must not keep us reading */
    return HW_OK;
}

static void on_caught_up(void *arg)
{
    struct reading *keys = arg;

    keys->all_read = true;
}

static void on_restarting(void *arg, const struct hw_error *why)
{
    const struct reading *keys = arg;

    rec_session_fail(keys->session, why->status, "reading the keys: ", why->message);
}

static enum hw_status read_keys(struct reading *keys, struct hw_error *err)
{
    const struct hw_kv_watch_events events = {.starting = on_starting,
                                              .entry = on_entry,
                                              .caught_up = on_caught_up,
                                              .restarting = on_restarting,
                                              .arg = keys};
    int64_t until = hw_loop_now() + SILENCE_MS;
    size_t before = 0;
    enum hw_status status =
        hw_kv_watch_start(keys->session->nats, keys->session->config->bucket, HW_KEYS_OF_NODES,
                          HW_DELIVER_LAST, &events, &keys->watch, err);

    while (status == HW_OK && !keys->all_read) {
        status = rec_session_wait(keys->session, &keys->all_read, REC_SESSION_POLL_MS, err);
        rec_session_sign(keys->session, "keys", keys->entries, keys->snapshot->desired);
        if (keys->entries != before)
            until = hw_loop_now() + SILENCE_MS;
        else if (status == HW_OK && !keys->all_read && hw_loop_now() >= until)
            status = hw_fail(err, HW_ETIMEOUT, "reading the keys: NATS says nothing more");
        before = keys->entries;
    }
    hw_kv_watch_stop(HW_TAKE(keys->watch));
    return status;
}

/* ---- keys that are there and are not found by their names ---- */

static void on_hidden(void *arg, const char *name)
{
    struct rec_snapshot_key *key = hw_map_get(&((struct reading *)arg)->snapshot->keys, name);

    key->hidden = true;
    if (key->says == NULL)
        key->says = hw_strdup("there, but not found by its name, as an agent asks for it");
}

static void on_hidden_searched(void *arg)
{
    struct reading *keys = arg;

    keys->all_searched = true;
}

static enum hw_status search_hidden(struct reading *keys, struct hw_error *err)
{
    const struct hw_hidden_events events = {
        .found = on_hidden, .done = on_hidden_searched, .arg = keys};
    char **names = hw_alloc((keys->snapshot->keys.count + 1) * sizeof(*names));
    struct hw_hidden_search *search = NULL;
    struct rec_snapshot_key *key;
    size_t at = 0, count = 0;
    enum hw_status status;

    while ((key = hw_map_next(&keys->snapshot->keys, &at)) != NULL)
        if (key->present)
            names[count++] = hw_strdup(key->key);
    status = hw_hidden_search(keys->session->nats, keys->session->config->bucket, names, count,
                              &events, &search, err);
    while (status == HW_OK && !keys->all_searched) {
        status = rec_session_wait(keys->session, &keys->all_searched, REC_SESSION_POLL_MS, err);
        rec_session_sign(keys->session, "asking for keys by their names", 0, 0);
    }
    hw_hidden_stop(search);
    return status;
}

/* ---- what changed meanwhile ---- */

/* The history, read after the keys, has every state that a key can have come to since. */
static enum hw_status look_up_later(struct reading *keys, const char *names, struct hw_error *err)
{
    HW_AUTO_FREE char *rev = hw_sprintf("%" PRId64, keys->snapshot->rev);
    PGresult *result = NULL;
    enum hw_status status =
        rec_session_ask(keys->session, later_sql, 2, (const char *[]){names, rev}, &result, err);

    if (status != HW_OK)
        return status;
    for (int i = 0; i < PQntuples(result) && status == HW_OK; i++) {
        HW_AUTO_FREE char *name = hw_sprintf(HW_KEY_DESIRED "%s", PQgetvalue(result, i, 0));
        struct rec_snapshot_key *key = hw_map_get(&keys->snapshot->keys, name);
        struct hw_digest content;
        struct hw_desired row;

        if (key == NULL)
            continue;
        if (PQgetisnull(result, i, 2)) {
            key->is_later |= !key->present;
            continue;
        }
        status = rec_desired_from_result(result, i, &row, err);
        if (status != HW_OK)
            break;
        rec_content_of_desired(&row, &content);
        key->is_later |= key->present && key->is_entry && hw_digest_equal(&key->found, &content);
    }
    PQclear(result);
    return status;
}

/* The database has no history of decided. So both sides of such a key are read once more, until
 * they agree. */
static enum hw_status look_again(struct reading *keys, struct rec_snapshot_key *key,
                                 struct hw_error *err)
{
    struct hw_kv_entry found = {0};
    PGresult *result = NULL;
    struct hw_decided row;
    enum hw_status status =
        rec_session_ask(keys->session, decided_sql, 1, (const char *[]){key->name}, &result, err);

    if (status != HW_OK)
        return status;
    key->has_row = PQntuples(result) > 0;
    if (key->has_row)
        status = rec_decided_from_result(result, 0, &row, err);
    if (status == HW_OK && key->has_row)
        rec_content_of_decided(&row, &key->wanted);
    PQclear(result);
    if (status == HW_OK)
        status =
            hw_kv_get(keys->session->nats, keys->session->config->bucket, key->key, &found, err);
    if (status == HW_ENOENT) {
        forget(key);
        return HW_OK;
    }
    if (status != HW_OK)
        return status;
    const struct hw_entry entry = hw_entry_of(&found);
    take_entry(keys, key, &entry);
    hw_kv_entry_clear(&found);
    return HW_OK;
}

static bool is_unexplained(const struct rec_snapshot_key *key)
{
    return is_different(key) && !key->is_later;
}

/* *left: how many keys stay unexplained. *newer: how many of these have a fence newer than the
 * snapshot, which another look may explain. */
static enum hw_status look_up_round(struct reading *keys, size_t *left, size_t *newer,
                                    struct hw_error *err)
{
    enum hw_status status = HW_OK;
    struct hw_buf names = {0};
    struct rec_snapshot_key *key;
    size_t at = 0, count = 0;

    do {
        key = hw_map_next(&keys->snapshot->keys, &at);
        /* SQL never had a node whose name is not legal, so there is nothing to look up for such a
         * key. */
        if (key != NULL && is_unexplained(key) && hw_name_is_dotted(key->name)) {
            if (key->decided) {
                status = look_again(keys, key, err);
            } else {
                rec_snapshot_add_name(&names, key->name);
                count++;
            }
        }
        if (status == HW_OK && (count == REC_SESSION_BATCH || (key == NULL && count > 0))) {
            hw_buf_putc(&names, '}');
            status = look_up_later(keys, hw_buf_str(&names), err);
            hw_buf_reset(&names);
            count = 0;
            rec_session_sign(keys->session, "looking for later changes", 0, 0);
        }
    } while (key != NULL && status == HW_OK);
    hw_buf_free(&names);
    at = *left = *newer = 0;
    while ((key = hw_map_next(&keys->snapshot->keys, &at)) != NULL) {
        *left += is_unexplained(key);
        *newer += is_unexplained(key) && key->is_newer;
    }
    return status;
}

/*
 * A transaction is streamed once its commit is in the log, and may be seen by others only a moment
 * later; with a synchronous standby that can take long. So it is looked for more than once.
 */
static enum hw_status look_up_all_later(struct reading *keys, struct hw_error *err)
{
    const int64_t until = hw_loop_now() + keys->session->config->timeout_ms;
    size_t left, newer;

    for (int round = 1;; round++) {
        enum hw_status status = look_up_round(keys, &left, &newer, err);

        if (status != HW_OK || left == 0)
            return status;
        if (round >= ROUNDS && (newer == 0 || hw_loop_now() >= until))
            return HW_OK;
        status = rec_session_sleep(keys->session, ROUND_MS, err);
        if (status != HW_OK)
            return status;
    }
}

enum hw_status rec_keys_compare(struct rec_snapshot *snapshot, struct rec_session *session,
                                struct hw_error *err)
{
    struct reading keys = {.session = session, .snapshot = snapshot};
    enum hw_status status = read_keys(&keys, err);

    if (status == HW_OK)
        status = search_hidden(&keys, err);
    return status == HW_OK ? look_up_all_later(&keys, err) : status;
}

/* ---- what is told in the end ---- */

static void tell_decided(const struct rec_snapshot_key *key, struct rec_session *session,
                         struct rec_differences *differences)
{
    rec_differences_add(differences, session, "decided", key->name, NULL,
                        !key->has_row ? "nothing is decided" : "what headwater.decided has",
                        key->says != NULL ? key->says : "no key");
}

static void tell_desired(const struct rec_snapshot_key *key, struct rec_session *session,
                         struct rec_differences *differences)
{
    HW_AUTO_FREE char *sql =
        !key->has_row ? hw_strdup("nothing is desired")
                      : hw_sprintf("revision %" PRId64 " %s, %" PRId64 " bytes", key->revision,
                                   key->object->digest, key->object->size);
    const char *kind = is_unexplained(key) ? !key->has_row  ? "unknown"
                                             : key->present ? "changed"
                                                            : "missing"
                       : key->misfenced    ? "fence"
                       : key->hidden       ? "hidden"
                                           : "signature";
    const char *says = key->says != NULL ? key->says : "no key";

    if (strcmp(kind, "changed") == 0 && strcmp(sql, says) == 0)
        says = "the same document; another media type, other sources, or another node";
    rec_differences_add(differences, session, kind, key->name, NULL, sql, says);
}

static int by_name(const void *a, const void *b)
{
    const struct rec_snapshot_key *const *one = a, *const *other = b;
    const int order = strcmp((*one)->name, (*other)->name);

    return order != 0 ? order : (*one)->decided - (*other)->decided;
}

void rec_keys_tell(struct rec_snapshot *snapshot, struct rec_session *session,
                   struct rec_differences *differences)
{
    const struct rec_snapshot_key **found =
        hw_alloc((snapshot->keys.count + 1) * sizeof(struct rec_snapshot_key *));
    const struct rec_snapshot_key *key;
    size_t at = 0, count = 0;

    while ((key = hw_map_next(&snapshot->keys, &at)) != NULL)
        if (is_unexplained(key) || key->misfenced || key->missigned || key->hidden)
            found[count++] = key;
    qsort(found, count, sizeof(struct rec_snapshot_key *), by_name);
    for (size_t i = 0; i < count; i++)
        (found[i]->decided ? tell_decided : tell_desired)(found[i], session, differences);
    free(found);
}
