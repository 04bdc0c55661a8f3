#include "tests/recovery/checker.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <nats/nats.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/map.h"
#include "base/memory.h"
#include "protocol/entry.h"
#include "tests/recovery/bus.h"
#include "tests/recovery/doubled.h"
#include "tests/recovery/fleet.h"
#include "tests/recovery/follower.h"
#include "tests/recovery/hostile.h"
#include "tests/recovery/proposals.h"
#include "tests/recovery/stream.h"
#include "tests/recovery/wal.h"
#include "tests/support/process.h"

#define STREAM     "KV_headwater"
#define SUBJECTS   "$KV.headwater.cfg."
#define CHECKPOINT "$KV.headwater.cfg.checkpoint"

enum { STORES_MOST = 16, EXCUSES_MOST = 32, PROBLEMS_SHOWN = 20, HISTORIES_KEPT = 8 };

/* What the keys of nodes say: what the node shall run, and what became of its proposals. The name
 * of a key is "desired." or "decided.", and the node. */
enum key_kind { KEY_DESIRED, KEY_DECIDED, KEY_OTHER };

/* What a transaction left of a key. text has revision, digest, media type and sources, or the
 * decisions; NULL means that the transaction removed the row. */
struct outcome {
    hw_lsn lsn;
    int64_t rev;
    char *text;
    unsigned seen[STORES_MOST + 1]; /* how many entries carry its fence, in each storage */
};

struct entry {
    int store;
    uint64_t seq;
    bool foreign, fenced;
    struct hw_fence fence;
    hw_lsn checkpoint; /* the one that was in the stream before this entry; 0: none */
    char *text;        /* as in struct outcome; "?" and the value when that is not as it must be */
};

struct key {
    char *name;
    struct outcome *outcomes;
    size_t outcome_count;
    struct entry *entries; /* by storage, then by sequence */
    size_t entry_count;
    bool bad;
};

/* One storage that NATS had for a while. The last of them is the one that it has now. */
struct store {
    char *dir, *copy;         /* copy: the storage that it began as, or NULL … */
    int copy_of;              /* … and the number of the storage that was copied */
    struct followed followed; /* its messages; of the storage that NATS has the follower has them */
    hw_lsn confirmed; /* the log was confirmed up to here when this storage was taken away */
    hw_lsn checkpoint;
    hw_lsn struck; /* the lowest checkpoint that a stranger wrote over here; 0: none */
};

/* Transactions after the position after and up to upto may be missing in a storage; with unless_in
 * not -1 only those which that earlier storage has. */
struct excuse {
    hw_lsn after, upto;
    int unless_in;
};

struct checker {
    const struct test_postgres *pg;
    const struct test_nats *nats;
    struct follower *follower;
    struct store stores[STORES_MOST + 1];
    int store_count; /* including the one that NATS has now */
    int copied;      /* the storage that was copied last */
    struct hw_map keys;
    struct proposals *proposals; /* NULL: nobody proposes */
    int transactions, entries, repairs, problems;
    const char *failure_dir;
};

/* ---- small things ---- */

static hw_lsn parse_lsn(const char *text)
{
    struct hw_error err;
    hw_lsn lsn = 0;

    if (text == NULL || hw_lsn_parse(text, &lsn, &err) != HW_OK)
        test_fail("no LSN: %s", text != NULL ? text : "(null)");
    return lsn;
}

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static struct key *key_of(struct checker *c, const char *name)
{
    struct key *key = hw_map_get(&c->keys, name);

    if (key == NULL) {
        key = hw_alloc(sizeof(*key));
        key->name = hw_strdup(name);
        hw_map_add(&c->keys, key->name, key);
    }
    return key;
}

static void forget(struct checker *c)
{
    struct key *key;

    for (size_t at = 0; (key = hw_map_next(&c->keys, &at)) != NULL;) {
        for (size_t i = 0; i < key->outcome_count; i++)
            free(key->outcomes[i].text);
        for (size_t i = 0; i < key->entry_count; i++)
            free(key->entries[i].text);
        free(key->outcomes);
        free(key->entries);
        free(key->name);
        free(key);
    }
    hw_map_clear(&c->keys);
    c->transactions = c->entries = c->repairs = c->problems = 0;
}

static enum key_kind kind_of(const char *name)
{
    return strncmp(name, "desired.", 8) == 0   ? KEY_DESIRED
           : strncmp(name, "decided.", 8) == 0 ? KEY_DECIDED
                                               : KEY_OTHER;
}

static char *text_of_list(const json_t *list)
{
    char *text = json_dumps(list, JSON_COMPACT | JSON_SORT_KEYS);

    return text != NULL ? text : hw_strdup("?");
}

static char *text_of(int64_t revision, const char *digest, const char *media_type,
                     const json_t *sources)
{
    HW_AUTO_FREE char *list = text_of_list(sources);

    return hw_sprintf("%" PRId64 " %s %s %s", revision, digest, media_type, list);
}

static void note_problem(struct checker *c, const char *what, const char *fmt, va_list args)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/problems", c->failure_dir);
    HW_AUTO_FREE char *text = NULL;

    if (++c->problems > PROBLEMS_SHOWN || c->failure_dir == NULL)
        return;
    if (vasprintf(&text, fmt, args) < 0)
        test_fail("out of memory");
    mkdir(c->failure_dir, 0755);
    FILE *file = fopen(path, "ae");
    fprintf(stderr, "problem: %s: %s\n", what, text);
    if (file != NULL) {
        fprintf(file, "problem: %s: %s\n", what, text);
        fclose(file);
    }
}

void checker_problem(struct checker *c, const char *what, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    note_problem(c, what, fmt, args);
    va_end(args);
}

static void __attribute__((format(printf, 3, 4)))
problem(struct checker *c, struct key *key, const char *fmt, ...)
{
    va_list args;

    key->bad = true;
    va_start(args, fmt);
    note_problem(c, key->name, fmt, args);
    va_end(args);
}

/* ---- the database's side ---- */

/* The transaction that is being read: its rev, and the keys that it changed. */
struct reading {
    struct checker *checker;
    int64_t rev;
    struct key **keys;
    size_t count;
};

/* The outcome of a key in the transaction that is being read; its position is set at its end. */
static void set_outcome(struct reading *r, struct key *key, char *text)
{
    struct outcome *last = key->outcome_count > 0 ? &key->outcomes[key->outcome_count - 1] : NULL;

    if (last == NULL || last->lsn != 0) {
        key->outcomes =
            hw_realloc(key->outcomes, (key->outcome_count + 1) * sizeof(*key->outcomes));
        last = &key->outcomes[key->outcome_count++];
        *last = (struct outcome){0};
        r->keys = hw_realloc(r->keys, (r->count + 1) * sizeof(struct key *));
        r->keys[r->count++] = key;
    }
    free(last->text);
    last->text = text;
}

/* What a row of desired or of decided says, or fails where a column is missing. */
static char *text_of_row(const struct wal_change *change, enum key_kind kind)
{
    const char *const list = kind == KEY_DESIRED ? "sources" : "decisions";
    const char *text = wal_text(change, list), *digest = wal_text(change, "digest");
    const char *media_type = wal_text(change, "media_type");
    HW_AUTO_JSON json_t *parsed = text != NULL ? json_loads(text, 0, NULL) : NULL;

    if (parsed == NULL || (kind == KEY_DESIRED && (digest == NULL || media_type == NULL)))
        test_fail("a change of headwater.%s is incomplete: node %s", change->table,
                  wal_text(change, "node"));
    return kind == KEY_DESIRED ? text_of(wal_number(change, "revision"), digest, media_type, parsed)
                               : text_of_list(parsed);
}

static void read_change(void *arg, const struct wal_change *change)
{
    struct reading *r = arg;

    if (strcmp(change->table, "changelog") == 0) {
        r->rev = wal_number(change, "rev");
        return;
    }
    if (strcmp(change->table, "proposal") == 0) {
        if (r->checker->proposals != NULL)
            proposals_read(r->checker->proposals, r->checker, change);
        return;
    }
    const enum key_kind kind = strcmp(change->table, "desired") == 0 ? KEY_DESIRED : KEY_DECIDED;
    const char *node = wal_text(change, "node");
    if (node == NULL)
        test_fail("a change of headwater.%s names no node", change->table);
    HW_AUTO_FREE char *name = hw_sprintf("%s.%s", change->table, node);
    set_outcome(r, key_of(r->checker, name),
                change->action == 'D' ? NULL : text_of_row(change, kind));
}

static void read_commit(void *arg, hw_lsn lsn)
{
    struct reading *r = arg;

    for (size_t i = 0; i < r->count; i++) {
        struct outcome *o = &r->keys[i]->outcomes[r->keys[i]->outcome_count - 1];
        o->lsn = lsn;
        o->rev = r->rev;
    }
    r->checker->transactions += r->rev != 0;
    r->count = 0;
    r->rev = 0;
}

static void read_database(struct checker *c)
{
    struct reading r = {.checker = c};

    wal_read(c->pg, "headwater.desired,headwater.decided,headwater.proposal,headwater.changelog",
             &(struct wal_reader){.change = read_change, .commit = read_commit, .arg = &r});
    free(r.keys);
}

/* ---- NATS's side ---- */

static const char *header(natsMsg *msg, const char *name)
{
    const char *value = NULL;

    return natsMsgHeader_Get(msg, name, &value) == NATS_OK ? value : NULL;
}

static bool is_fence(json_int_t epoch, const char *text, const struct hw_fence *fence)
{
    hw_lsn lsn;

    return (uint64_t)epoch == fence->epoch && hw_lsn_parse(text, &lsn, NULL) == HW_OK &&
           lsn == fence->lsn;
}

/* Reads an entry, whose value must be complete and agree with its headers. */
static char *text_of_value(natsMsg *msg, const char *name, const struct hw_fence *fence)
{
    HW_AUTO_JSON json_t *root =
        json_loadb(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), 0, NULL);
    const char *node, *digest, *media_type, *object, *lsn, *const expected = strchr(name, '.') + 1;
    json_int_t revision, epoch;
    json_t *list; /* borrowed */

    if (kind_of(name) == KEY_DECIDED &&
        json_unpack(root, "{s:s, s:I, s:s, s:o}", "node", &node, "epoch", &epoch, "lsn", &lsn,
                    "decisions", &list) == 0 &&
        strcmp(node, expected) == 0 && is_fence(epoch, lsn, fence))
        return text_of_list(list);
    if (kind_of(name) == KEY_DESIRED &&
        json_unpack(root, "{s:s, s:I, s:s, s:s, s:s, s:I, s:s, s:o}", "node", &node, "revision",
                    &revision, "digest", &digest, "media_type", &media_type, "object", &object,
                    "epoch", &epoch, "lsn", &lsn, "sources", &list) == 0 &&
        strcmp(node, expected) == 0 && strncmp(digest, "sha256:", 7) == 0 &&
        strcmp(digest + 7, object) == 0 && is_fence(epoch, lsn, fence))
        return text_of(revision, digest, media_type, list);
    return hw_sprintf("? %.*s", natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
}

/* The name of the key, as in struct key; NULL where it is not one of a node. */
static const char *name_of(natsMsg *msg)
{
    const char *subject = natsMsg_GetSubject(msg);

    if (strncmp(subject, SUBJECTS, strlen(SUBJECTS)) != 0)
        return NULL;
    subject += strlen(SUBJECTS);
    return kind_of(subject) != KEY_OTHER ? subject : NULL;
}

static void read_message(natsMsg *msg, const char *name, uint64_t seq, struct entry *entry)
{
    const char *operation = header(msg, "KV-Operation"), *epoch = header(msg, HW_HEADER_EPOCH);
    const char *lsn = header(msg, HW_HEADER_LSN);

    *entry = (struct entry){.seq = seq, .foreign = header(msg, CHECKER_FOREIGN) != NULL};
    entry->fenced =
        epoch != NULL && lsn != NULL && hw_lsn_parse(lsn, &entry->fence.lsn, NULL) == HW_OK;
    if (entry->fenced)
        entry->fence.epoch = strtoull(epoch, NULL, 10);
    if (operation == NULL)
        entry->text = text_of_value(msg, name, &entry->fence);
}

/* The position of a checkpoint; 0 when the message is not one. */
static hw_lsn checkpoint_of(natsMsg *msg, int64_t *rev)
{
    json_t *root = json_loadb(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), 0, NULL);
    const char *text = NULL;
    json_int_t found = 0;
    hw_lsn lsn = 0;

    if (json_unpack(root, "{s:s, s:I}", "lsn", &text, "rev", &found) != 0 ||
        hw_lsn_parse(text, &lsn, NULL) != HW_OK)
        lsn = 0;
    else if (rev != NULL)
        *rev = found;
    json_decref(root);
    return lsn;
}

/* Has it the form of those that the reconciler writes, or is it its marker that there is none? */
static bool is_checkpoint(natsMsg *msg)
{
    HW_AUTO_JSON json_t *root =
        json_loadb(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), 0, NULL);

    if (natsMsg_GetDataLength(msg) == 0)
        return same(header(msg, "KV-Operation"), "DEL");
    return json_is_string(json_object_get(root, "lsn")) &&
           json_is_string(json_object_get(root, "system_id")) &&
           same(json_string_value(json_object_get(root, "slot")), "headwater");
}

struct loading {
    struct checker *checker; /* NULL: only the checkpoint matters */
    int store;
    hw_lsn checkpoint; /* the newest one that the reconciler wrote */
    hw_lsn standing;   /* the one that the key has now; 0 when a stranger wrote over it */
    uint64_t copied;   /* up to this sequence the storage is a copy of an earlier one */
    hw_lsn struck;     /* as in struct store */
};

static void load_message(struct loading *l, natsMsg *msg, uint64_t seq)
{
    const char *subject = natsMsg_GetSubject(msg), *name = name_of(msg);

    if (strcmp(subject, CHECKPOINT) == 0) {
        if (l->checker != NULL && header(msg, CHECKER_FOREIGN) == NULL && !is_checkpoint(msg))
            checker_problem(l->checker, subject,
                            "storage %d, sequence %" PRIu64 ": no reconciler wrote %.*s", l->store,
                            seq, natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
        const hw_lsn lsn = header(msg, CHECKER_FOREIGN) == NULL ? checkpoint_of(msg, NULL) : 0;
        if (lsn != 0)
            l->checkpoint = l->standing = lsn;
        else if (header(msg, CHECKER_FOREIGN) != NULL) {
            if (seq > l->copied && l->standing != 0 && (l->struck == 0 || l->standing < l->struck))
                l->struck = l->standing;
            l->standing = 0;
        }
        return;
    }
    if (l->checker == NULL)
        return;
    if (name == NULL) {
        if (header(msg, CHECKER_FOREIGN) == NULL)
            checker_problem(l->checker, subject, "storage %d, sequence %" PRIu64 ": what is this?",
                            l->store, seq);
        return;
    }
    struct key *key = key_of(l->checker, name);
    key->entries = hw_realloc(key->entries, (key->entry_count + 1) * sizeof(*key->entries));
    struct entry *entry = &key->entries[key->entry_count++];
    read_message(msg, name, seq, entry);
    entry->store = l->store;
    entry->checkpoint = l->standing;
    l->checker->entries += !entry->foreign;
}

static void collect(void *arg, natsMsg **msg, uint64_t seq)
{
    followed_add(arg, seq, HW_TAKE(*msg));
}

/* What a storage holds, by a server that is started for it. */
static struct followed read_storage(const struct checker *c, const char *dir)
{
    struct followed found = {0};
    struct test_nats server;

    bus_start_another(&server, c->nats, dir);
    stream_read(server.url, false, collect, &found);
    test_nats_remove(&server);
    return found;
}

static struct loading checkpoints_in(const struct checker *c, const char *dir)
{
    struct followed found = read_storage(c, dir);
    struct loading l = {0};

    for (size_t i = 0; i < found.count; i++)
        load_message(&l, found.list[i].msg, found.list[i].seq);
    followed_free(&found);
    return l;
}

/* Merges two lists by sequence; what is in both comes from a. The messages stay where they are. */
static struct followed merge(const struct followed *a, const struct followed *b, uint64_t b_upto)
{
    struct followed merged = {0};
    size_t i = 0, j = 0;

    for (;;) {
        const bool more_b = j < b->count && b->list[j].seq <= b_upto;

        if (i >= a->count && !more_b)
            return merged;
        if (i < a->count && (!more_b || a->list[i].seq <= b->list[j].seq)) {
            j += more_b && b->list[j].seq == a->list[i].seq;
            followed_add(&merged, a->list[i].seq, a->list[i].msg);
            i++;
        } else {
            followed_add(&merged, b->list[j].seq, b->list[j].msg);
            j++;
        }
    }
}

/*
 * All that ever was in a storage: what was seen while it lived, what it holds, and, where it began
 * as a copy of an earlier one, what that one had had up to then.
 */
static void load_store(struct checker *c, int number, struct followed whole[])
{
    struct store *store = &c->stores[number];
    struct loading l = {.checker = c, .store = number};
    const bool lives = number + 1 == c->store_count;
    struct followed held = {0};

    if (lives)
        stream_read(c->nats->url, false, collect, &held);
    else
        held = read_storage(c, store->dir);
    const struct followed *const seen = lives ? follower_lock(c->follower) : &store->followed;
    whole[number] = merge(seen, &held, UINT64_MAX);
    if (store->copy != NULL) {
        struct followed copied = read_storage(c, store->copy), own = whole[number];
        const uint64_t upto = copied.count > 0 ? copied.list[copied.count - 1].seq : 0;

        l.copied = upto;
        whole[number] = merge(&own, &whole[store->copy_of], upto);
        free(own.list);
        followed_free(&copied);
    }
    for (size_t i = 0; i < whole[number].count; i++)
        load_message(&l, whole[number].list[i].msg, whole[number].list[i].seq);
    store->checkpoint = l.checkpoint;
    store->struck = l.struck;
    if (lives)
        follower_unlock(c->follower);
    /* They are borrowed by the lists of later storages: kept with those that were seen. */
    if (!lives) {
        struct followed all = merge(&store->followed, &held, UINT64_MAX), spare = {0};

        for (size_t i = 0, j = 0; i < held.count; i++) {
            while (j < all.count && all.list[j].seq < held.list[i].seq)
                j++;
            if (j == all.count || all.list[j].msg != held.list[i].msg)
                followed_add(&spare, held.list[i].seq, held.list[i].msg);
        }
        free(store->followed.list);
        free(held.list);
        store->followed = all;
        followed_free(&spare);
    } else {
        followed_free(&held);
    }
}

/* ---- judging ---- */

static void write_history(struct checker *c, const struct key *key)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/key-%s", c->failure_dir, key->name);
    FILE *file = fopen(path, "we");

    if (file == NULL)
        test_fail("cannot write %s: %s", path, strerror(errno));
    fprintf(file, "what was committed: position, rev, revision digest type sources\n");
    for (size_t i = 0; i < key->outcome_count; i++)
        fprintf(file, "%s\t%" PRId64 "\t%s\n", HW_LSN(key->outcomes[i].lsn), key->outcomes[i].rev,
                key->outcomes[i].text != NULL ? key->outcomes[i].text : "removed");
    fprintf(file, "what was published: storage, sequence, fence, checkpoint before it, entry\n");
    for (size_t i = 0; i < key->entry_count; i++) {
        const struct entry *e = &key->entries[i];
        fprintf(file, "%d\t%" PRIu64 "\t%" PRIu64 " %s\t%s\t%s%s\n", e->store, e->seq,
                e->fence.epoch, HW_LSN(e->fence.lsn), HW_LSN(e->checkpoint),
                e->foreign ? "FOREIGN " : "", e->text != NULL ? e->text : "removed");
    }
    fclose(file);
}

/* The last outcome of the node at or before lsn; NULL where there is none. */
static struct outcome *outcome_at(const struct key *key, hw_lsn lsn)
{
    size_t low = 0, high = key->outcome_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (key->outcomes[middle].lsn <= lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &key->outcomes[low - 1] : NULL;
}

static void judge_entries(struct checker *c, struct key *key)
{
    struct hw_fence last = {0};
    int store = -1;

    for (size_t i = 0; i < key->entry_count; i++) {
        const struct entry *e = &key->entries[i];

        if (e->store != store) {
            store = e->store;
            last = (struct hw_fence){0};
        }
        if (e->foreign)
            continue;
        if (!e->fenced || (e->text != NULL && e->text[0] == '?')) {
            problem(c, key, "storage %d, sequence %" PRIu64 ": not a proper entry: %s", e->store,
                    e->seq, e->text != NULL ? e->text : "removed");
            continue;
        }
        if (hw_fence_compare(e->fence, last) <= 0)
            problem(c, key,
                    "storage %d, sequence %" PRIu64 ": fence %" PRIu64 " %s behind %" PRIu64 " %s",
                    e->store, e->seq, e->fence.epoch, HW_LSN(e->fence.lsn), last.epoch,
                    HW_LSN(last.lsn));
        last = e->fence;
        struct outcome *o = outcome_at(key, e->fence.lsn);
        if (!same(o != NULL ? o->text : NULL, e->text))
            problem(c, key,
                    "storage %d, sequence %" PRIu64 ", fence %s: published %s, committed %s",
                    e->store, e->seq, HW_LSN(e->fence.lsn), e->text != NULL ? e->text : "removed",
                    o == NULL         ? "nothing yet"
                    : o->text != NULL ? o->text
                                      : "removed");
        if (o != NULL && o->lsn == e->fence.lsn)
            o->seen[e->store]++;
        else
            c->repairs++;
    }
}

static bool excused(const struct outcome *o, const struct excuse *excuses, int count)
{
    for (int i = 0; i < count; i++)
        if (o->lsn > excuses[i].after && o->lsn <= excuses[i].upto &&
            (excuses[i].unless_in < 0 || o->seen[excuses[i].unless_in] > 0))
            return true;
    return false;
}

/* Every transaction must be in every storage that NATS had long enough for a checkpoint to cover
 * the transaction. A confirmed slot alone proves nothing: an earlier storage may have earned it. */
static void judge_missing(struct checker *c, struct key *key, int number,
                          const struct excuse *excuses, int excuse_count)
{
    const struct store *store = &c->stores[number];
    hw_lsn upto = ~(hw_lsn)0;

    if (number + 1 < c->store_count)
        upto = store->checkpoint < store->confirmed ? store->checkpoint : store->confirmed;
    for (size_t i = 0; i < key->outcome_count; i++) {
        const struct outcome *o = &key->outcomes[i];
        if (o->lsn > upto || o->seen[number] > 0 || excused(o, excuses, excuse_count))
            continue;
        if (o->text == NULL && (i == 0 || key->outcomes[i - 1].text == NULL))
            continue; /* the row came and went in one transaction, so it needs no entry */
        problem(c, key, "storage %d: nothing carries fence %s (rev %" PRId64 ": %s)", number,
                HW_LSN(o->lsn), o->rev, o->text != NULL ? o->text : "removed");
    }
}

static void judge(struct checker *c, const struct checker_options *options)
{
    struct excuse excuses[EXCUSES_MOST];
    int excuse_count = 0;
    struct key *key;

    for (size_t at = 0; (key = hw_map_next(&c->keys, &at)) != NULL;)
        judge_entries(c, key);
    for (int number = 0; number < c->store_count; number++) {
        if (number > 0) {
            const struct store *lost = &c->stores[number - 1];
            const hw_lsn covered =
                lost->checkpoint > lost->confirmed ? lost->checkpoint : lost->confirmed;
            /* After an older storage with a checkpoint was put back, the log is replayed; unless a
             * stranger wrote over the checkpoint, in the copy or on the way, by which it is known.
             */
            struct loading copied = {0};
            const hw_lsn struck = c->stores[number].struck;

            if (c->stores[number].copy != NULL)
                copied = checkpoints_in(c, c->stores[number].copy);
            hw_lsn from = copied.checkpoint;
            if (copied.standing != 0 && options->strict_replay)
                from = struck != 0 && struck < covered ? struck : covered;
            if (excuse_count + 2 > EXCUSES_MOST)
                test_fail("too many storages");
            excuses[excuse_count++] =
                (struct excuse){.after = from, .upto = lost->confirmed, .unless_in = -1};
            excuses[excuse_count++] =
                (struct excuse){.after = lost->confirmed, .upto = covered, .unless_in = number - 1};
        }
        for (size_t at = 0; (key = hw_map_next(&c->keys, &at)) != NULL;)
            judge_missing(c, key, number, excuses, excuse_count);
    }
}

struct checker_result checker_check(struct checker *c, const struct checker_options *options)
{
    struct followed whole[STORES_MOST + 1] = {0};
    struct key *key;

    forget(c);
    c->failure_dir = options->failure_dir;
    c->proposals = options->proposals;
    read_database(c);
    for (int i = 0; i < c->store_count; i++)
        load_store(c, i, whole);
    for (int i = 0; i < c->store_count; i++)
        free(whole[i].list);
    judge(c, options);
    hostile_judge(c, c->pg);
    doubled_judge(c, c->pg, options->doubled);
    if (c->proposals != NULL)
        proposals_judge(c->proposals, c, c->pg);
    int kept = 0;
    for (size_t at = 0;
         c->problems > 0 && c->failure_dir != NULL && (key = hw_map_next(&c->keys, &at)) != NULL;)
        if (key->bad && kept++ < HISTORIES_KEPT)
            write_history(c, key);
    return (struct checker_result){.transactions = c->transactions,
                                   .entries = c->entries,
                                   .repairs = c->repairs,
                                   .problems = c->problems};
}

/* ---- is it quiet? ---- */

struct standing {
    struct hw_map entries; /* of struct entry, by node; keys are node names in names */
    char *names[65536];
    size_t count;
    int64_t rev;
};

static void keep_standing(void *arg, natsMsg **taken, uint64_t seq)
{
    struct standing *s = arg;
    natsMsg *const msg = *taken;
    const char *name = name_of(msg);

    if (strcmp(natsMsg_GetSubject(msg), CHECKPOINT) == 0)
        checkpoint_of(msg, &s->rev);
    if (name == NULL)
        return;
    struct entry *entry = hw_map_get(&s->entries, name);
    if (entry == NULL) {
        if (s->count == HW_COUNT(s->names))
            test_fail("more keys than expected");
        entry = hw_alloc(sizeof(*entry));
        s->names[s->count] = hw_strdup(name);
        hw_map_add(&s->entries, s->names[s->count++], entry);
    }
    free(entry->text);
    read_message(msg, name, seq, entry);
}

/* A row: the name of a key, revision, digest, media type, and the list. */
static char *text_of_wanted(PGresult *rows, int i)
{
    HW_AUTO_JSON json_t *list = json_loads(PQgetvalue(rows, i, 4), 0, NULL);

    if (kind_of(PQgetvalue(rows, i, 0)) == KEY_DECIDED)
        return text_of_list(list);
    return text_of(strtoll(PQgetvalue(rows, i, 1), NULL, 10), PQgetvalue(rows, i, 2),
                   PQgetvalue(rows, i, 3), list);
}

static char *compare_standing(struct standing *s, PGconn *conn, int64_t rev)
{
    PGresult *rows =
        fleet_query(conn, "SELECT 'desired.' || node, revision, digest, media_type, sources"
                          " FROM headwater.desired"
                          " UNION ALL SELECT 'decided.' || node, NULL, NULL, NULL, decisions"
                          " FROM headwater.decided");
    struct entry *entry;
    char *why = NULL;
    size_t live = 0;

    if (s->rev != rev)
        why = hw_sprintf("the checkpoint has rev %" PRId64 ", the database %" PRId64, s->rev, rev);
    for (int i = 0; i < PQntuples(rows) && why == NULL; i++) {
        const char *name = PQgetvalue(rows, i, 0);
        HW_AUTO_FREE char *text = text_of_wanted(rows, i);

        entry = hw_map_get(&s->entries, name);
        if (entry == NULL || !entry->fenced || entry->foreign || !same(entry->text, text))
            why = hw_sprintf("%s: NATS has %s where the database has %s", name,
                             entry == NULL         ? "nothing"
                             : entry->text != NULL ? entry->text
                                                   : "a deletion",
                             text);
    }
    for (size_t at = 0; (entry = hw_map_next(&s->entries, &at)) != NULL;)
        live += entry->text != NULL;
    if (why == NULL && live != (size_t)PQntuples(rows))
        why = hw_sprintf("NATS has %zu entries, the database %d", live, PQntuples(rows));
    PQclear(rows);
    return why;
}

char *checker_unsettled(struct checker *c, hw_lsn position, const char *const outputs[],
                        bool with_reports)
{
    PGconn *conn = PQconnectdb(c->pg->url);
    PGresult *row =
        fleet_query(conn, "SELECT coalesce(max(s.confirmed_flush_lsn), '0/0'),"
                          " (SELECT max(rev) FROM headwater.changelog)"
                          " FROM pg_replication_slots s WHERE s.slot_name = 'headwater'");
    const hw_lsn confirmed = parse_lsn(PQgetvalue(row, 0, 0));
    const int64_t rev = strtoll(PQgetvalue(row, 0, 1), NULL, 10);
    char *why = NULL;

    PQclear(row);
    if (confirmed < position)
        why = hw_sprintf("the slot is confirmed up to %s, not %s", HW_LSN(confirmed),
                         HW_LSN(position));
    if (why == NULL) {
        struct standing *s = hw_alloc(sizeof(*s));
        struct entry *entry;

        stream_read(c->nats->url, true, keep_standing, s);
        why = compare_standing(s, conn, rev);
        for (size_t at = 0; (entry = hw_map_next(&s->entries, &at)) != NULL;) {
            free(entry->text);
            free(entry);
        }
        hw_map_clear(&s->entries);
        for (size_t i = 0; i < s->count; i++)
            free(s->names[i]);
        free(s);
    }
    if (why == NULL)
        why = fleet_objects_differ(conn, c->nats->url);
    if (why == NULL)
        why = fleet_nodes_differ(conn, outputs, with_reports);
    PQfinish(conn);
    return why;
}

/* ---- beginning and end ---- */

struct checker *checker_start(const struct test_postgres *pg, const struct test_nats *nats)
{
    struct checker *c = hw_alloc(sizeof(*c));

    c->pg = pg;
    c->nats = nats;
    c->store_count = 1;
    wal_start(pg);
    c->follower = follower_start(nats->url);
    return c;
}

void checker_storage_lost(struct checker *c, const char *store, hw_lsn confirmed, const char *copy)
{
    if (c->store_count == STORES_MOST)
        test_fail("too many storages");
    c->stores[c->store_count - 1].dir = hw_strdup(store);
    c->stores[c->store_count - 1].confirmed = confirmed;
    c->stores[c->store_count - 1].followed = follower_take(c->follower);
    c->stores[c->store_count].copy = copy != NULL ? hw_strdup(copy) : NULL;
    c->stores[c->store_count++].copy_of = c->copied;
}

void checker_storage_copied(struct checker *c)
{
    c->copied = c->store_count - 1;
}

uint64_t checker_newest(struct checker *c)
{
    const struct followed *seen = follower_lock(c->follower);
    const uint64_t newest = seen->count > 0 ? seen->list[seen->count - 1].seq : 0;

    follower_unlock(c->follower);
    return newest;
}

void checker_forget(struct checker *c, const char *subject)
{
    follower_forget(c->follower, subject);
}

void checker_free(struct checker *c)
{
    forget(c);
    follower_stop(c->follower);
    for (int i = 0; i < c->store_count; i++) {
        followed_free(&c->stores[i].followed);
        free(c->stores[i].dir);
        free(c->stores[i].copy);
    }
    free(c);
}
