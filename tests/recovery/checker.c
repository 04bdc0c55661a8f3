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
#include "base/digest.h"
#include "base/map.h"
#include "base/memory.h"
#include "nats/objstore.h"
#include "protocol/entry.h"
#include "tests/recovery/bus.h"
#include "tests/recovery/follower.h"
#include "tests/support/process.h"

#define SLOT           "recovery_checker"
#define STREAM         "KV_headwater"
#define DESIRED_PREFIX "$KV.headwater.cfg.desired."
#define CHECKPOINT     "$KV.headwater.cfg.checkpoint"

enum {
    STORES_MOST = 16,
    EXCUSES_MOST = 32,
    PROBLEMS_SHOWN = 20,
    HISTORIES_KEPT = 8,
    WAIT_MS = 5000,
    PATIENCE_MS = 30000
};

/* What a transaction left of a node. text has revision, digest, media type and sources; NULL means
 * that the transaction removed the row. */
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

struct node {
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
    struct hw_map nodes;
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

static struct node *node_of(struct checker *c, const char *name)
{
    struct node *node = hw_map_get(&c->nodes, name);

    if (node == NULL) {
        node = hw_alloc(sizeof(*node));
        node->name = hw_strdup(name);
        hw_map_add(&c->nodes, node->name, node);
    }
    return node;
}

static void forget(struct checker *c)
{
    struct node *node;

    for (size_t at = 0; (node = hw_map_next(&c->nodes, &at)) != NULL;) {
        for (size_t i = 0; i < node->outcome_count; i++)
            free(node->outcomes[i].text);
        for (size_t i = 0; i < node->entry_count; i++)
            free(node->entries[i].text);
        free(node->outcomes);
        free(node->entries);
        free(node->name);
        free(node);
    }
    hw_map_clear(&c->nodes);
    c->transactions = c->entries = c->repairs = c->problems = 0;
}

static char *text_of(int64_t revision, const char *digest, const char *media_type,
                     const json_t *sources)
{
    char *dumped = json_dumps(sources, JSON_COMPACT | JSON_SORT_KEYS);
    char *text = hw_sprintf("%" PRId64 " %s %s %s", revision, digest, media_type,
                            dumped != NULL ? dumped : "?");

    free(dumped);
    return text;
}

/* ---- the database's side ---- */

static json_t *column(const json_t *change, const char *list, const char *name)
{
    size_t i;
    json_t *item;

    json_array_foreach(json_object_get(change, list), i, item) {
        const char *found = json_string_value(json_object_get(item, "name"));
        if (found != NULL && strcmp(found, name) == 0)
            return json_object_get(item, "value");
    }
    return NULL;
}

/* The transaction that is being read: its rev, and what it left of each node. */
struct reading {
    int64_t rev;
    struct node **nodes;
    size_t count;
};

/* The outcome of node in the transaction that is being read; its position is set at its end. */
static void set_outcome(struct reading *r, struct node *node, char *text)
{
    struct outcome *last =
        node->outcome_count > 0 ? &node->outcomes[node->outcome_count - 1] : NULL;

    if (last == NULL || last->lsn != 0) {
        node->outcomes =
            hw_realloc(node->outcomes, (node->outcome_count + 1) * sizeof(*node->outcomes));
        last = &node->outcomes[node->outcome_count++];
        *last = (struct outcome){0};
        r->nodes = hw_realloc(r->nodes, (r->count + 1) * sizeof(struct node *));
        r->nodes[r->count++] = node;
    }
    free(last->text);
    last->text = text;
}

static void read_change(struct checker *c, struct reading *r, const json_t *change,
                        const char *action)
{
    const char *table = json_string_value(json_object_get(change, "table"));
    const bool deleted = action[0] == 'D';

    if (strcmp(action, "I") != 0 && strcmp(action, "U") != 0 && !deleted)
        test_fail("the log holds a change of kind %s", action);
    if (strcmp(table, "changelog") == 0) {
        r->rev = json_integer_value(column(change, "columns", "rev"));
        return;
    }
    const char *name = json_string_value(column(change, deleted ? "identity" : "columns", "node"));
    if (name == NULL)
        test_fail("a change of headwater.desired names no node");
    if (deleted) {
        set_outcome(r, node_of(c, name), NULL);
        return;
    }
    const char *digest = json_string_value(column(change, "columns", "digest"));
    const char *media_type = json_string_value(column(change, "columns", "media_type"));
    const char *sources = json_string_value(column(change, "columns", "sources"));
    json_t *parsed = sources != NULL ? json_loads(sources, 0, NULL) : NULL;
    if (digest == NULL || media_type == NULL || parsed == NULL)
        test_fail("a change of headwater.desired is incomplete: node %s", name);
    set_outcome(r, node_of(c, name),
                text_of(json_integer_value(column(change, "columns", "revision")), digest,
                        media_type, parsed));
    json_decref(parsed);
}

static void read_database(struct checker *c)
{
    PGconn *conn = PQconnectdb(c->pg->url);
    PGresult *result =
        PQexec(conn, "SELECT data FROM pg_logical_slot_peek_changes('" SLOT "', NULL, NULL,"
                     " 'format-version', '2', 'include-transaction', 'on', 'include-lsn', 'on',"
                     " 'include-types', 'off',"
                     " 'add-tables', 'headwater.desired,headwater.changelog',"
                     " 'add-msg-prefixes', 'recovery-none')");
    struct reading r = {0};

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        test_fail("reading the log: %s", PQerrorMessage(conn));
    for (int i = 0; i < PQntuples(result); i++) {
        json_error_t error;
        json_t *change = json_loads(PQgetvalue(result, i, 0), 0, &error);
        const char *action = json_string_value(json_object_get(change, "action"));

        if (action == NULL)
            test_fail("reading the log: %s: %s", error.text, PQgetvalue(result, i, 0));
        if (strcmp(action, "B") == 0) {
            r.rev = 0;
        } else if (strcmp(action, "C") == 0) {
            const hw_lsn lsn = parse_lsn(json_string_value(json_object_get(change, "nextlsn")));

            for (size_t n = 0; n < r.count; n++) {
                struct outcome *o = &r.nodes[n]->outcomes[r.nodes[n]->outcome_count - 1];
                o->lsn = lsn;
                o->rev = r.rev;
            }
            c->transactions += r.rev != 0;
            r.count = 0;
        } else {
            read_change(c, &r, change, action);
        }
        json_decref(change);
    }
    free(r.nodes);
    PQclear(result);
    PQfinish(conn);
}

/* ---- NATS's side ---- */

void checker_connect(const char *url, natsConnection **nc, jsCtx **js)
{
    test_nats_connect(url, test_patient_ms(PATIENCE_MS), nc, js);
}

void checker_make_stream(const char *url)
{
    const char *subjects[] = {"$KV.headwater.>"};
    jsRePublish republish = {.Source = "$KV.headwater.cfg.>", .Destination = "headwater.>"};
    jsStreamConfig config;
    natsConnection *nc;
    jsCtx *js;

    checker_connect(url, &nc, &js);
    jsStreamConfig_Init(&config);
    config.Name = STREAM;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.MaxMsgsPerSubject = 16; /* as the reconciler makes it */
    config.Discard = js_DiscardNew;
    config.Storage = js_FileStorage;
    config.Replicas = 1;
    config.AllowRollup = true;
    config.DenyDelete = true;
    config.AllowDirect = true;
    config.RePublish = &republish;
    const natsStatus s = js_AddStream(NULL, js, &config, NULL, NULL);
    if (s != NATS_OK)
        test_fail("making the stream: %s", natsStatus_GetText(s));
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}

static const char *header(natsMsg *msg, const char *name)
{
    const char *value = NULL;

    return natsMsgHeader_Get(msg, name, &value) == NATS_OK ? value : NULL;
}

/* Reads an entry, whose value must be complete and agree with its headers. */
static char *text_of_value(natsMsg *msg, const char *node, const struct hw_fence *fence)
{
    json_t *root = json_loadb(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), 0, NULL);
    const char *named, *digest, *media_type, *object, *lsn;
    json_int_t revision, epoch;
    json_t *sources;
    char *text = NULL;
    hw_lsn position;

    if (json_unpack(root, "{s:s, s:I, s:s, s:s, s:s, s:I, s:s, s:o}", "node", &named, "revision",
                    &revision, "digest", &digest, "media_type", &media_type, "object", &object,
                    "epoch", &epoch, "lsn", &lsn, "sources", &sources) == 0 &&
        strcmp(named, node) == 0 && strncmp(digest, "sha256:", 7) == 0 &&
        strcmp(digest + 7, object) == 0 && (uint64_t)epoch == fence->epoch &&
        hw_lsn_parse(lsn, &position, NULL) == HW_OK && position == fence->lsn)
        text = text_of(revision, digest, media_type, sources);
    else
        text = hw_sprintf("? %.*s", natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
    json_decref(root);
    return text;
}

static void read_message(natsMsg *msg, uint64_t seq, struct entry *entry)
{
    const char *operation = header(msg, "KV-Operation"), *epoch = header(msg, HW_HEADER_EPOCH);
    const char *lsn = header(msg, HW_HEADER_LSN);

    *entry = (struct entry){.seq = seq, .foreign = header(msg, CHECKER_FOREIGN) != NULL};
    entry->fenced =
        epoch != NULL && lsn != NULL && hw_lsn_parse(lsn, &entry->fence.lsn, NULL) == HW_OK;
    if (entry->fenced)
        entry->fence.epoch = strtoull(epoch, NULL, 10);
    if (operation == NULL)
        entry->text =
            text_of_value(msg, natsMsg_GetSubject(msg) + strlen(DESIRED_PREFIX), &entry->fence);
}

/* Calls each for every message of the bucket, or for the last message of every key. The end is the
 * stream's last sequence: nats-server 2.9 counts wrong how many messages a consumer has yet to get.
 */
typedef void message_fn(void *arg, natsMsg **msg, uint64_t seq); /* *msg may be taken */
static void read_stream(const char *url, bool last_only, message_fn *each, void *arg)
{
    natsSubscription *sub = NULL;
    natsConnection *nc;
    jsStreamInfo *info = NULL;
    jsSubOptions options;
    uint64_t last = 0, seq = 0, pending = 1;
    int waits = 0; /* that brought nothing */
    jsCtx *js;

    checker_connect(url, &nc, &js);
    natsStatus s = js_GetStreamInfo(&info, js, STREAM, NULL, NULL);
    if (s == NATS_OK && info->State.Msgs > 0)
        last = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    jsSubOptions_Init(&options);
    options.Ordered = true;
    options.Stream = STREAM;
    options.Config.DeliverPolicy = last_only ? js_DeliverLastPerSubject : js_DeliverAll;
    if (s == NATS_OK)
        s = js_SubscribeSync(&sub, js, "$KV.headwater.>", NULL, &options, NULL);
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(sub, -1, -1);
    while (s == NATS_OK && seq < last) {
        jsMsgMetaData *meta = NULL;
        natsMsg *msg = NULL;

        s = natsSubscription_NextMsg(&msg, sub, WAIT_MS);
        if (s == NATS_TIMEOUT && pending == 0) { /* the last one was purged */
            s = NATS_OK;
            break;
        }
        if (s == NATS_TIMEOUT && ++waits * WAIT_MS < test_patient_ms(PATIENCE_MS)) {
            s = NATS_OK;
            continue;
        }
        if (s == NATS_OK)
            s = natsMsg_GetMetaData(&meta, msg);
        if (s == NATS_OK) {
            if (meta->NumPending == 0 && meta->Sequence.Stream < last)
                fprintf(stderr,
                        "note: a consumer says nothing is pending at %" PRIu64 " of %" PRIu64 "\n",
                        meta->Sequence.Stream, last);
            pending = meta->NumPending;
            seq = meta->Sequence.Stream;
            each(arg, &msg, seq);
        }
        jsMsgMetaData_Destroy(meta);
        natsMsg_Destroy(msg);
    }
    if (s != NATS_OK)
        test_fail("reading the stream: %s", natsStatus_GetText(s));
    /* More messages may come, so libnats' reading thread must end before the subscription that it
     * uses is freed. */
    natsConnection_Close(nc);
    natsSubscription_Destroy(sub);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
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

struct loading {
    struct checker *checker; /* NULL: only the checkpoint matters */
    int store;
    hw_lsn checkpoint; /* the newest one that the reconciler wrote */
    hw_lsn standing;   /* the one that the key has now; 0 when a stranger wrote over it */
};

static void load_message(struct loading *l, natsMsg *msg, uint64_t seq)
{
    const char *subject = natsMsg_GetSubject(msg);

    if (strcmp(subject, CHECKPOINT) == 0) {
        const hw_lsn lsn = header(msg, CHECKER_FOREIGN) == NULL ? checkpoint_of(msg, NULL) : 0;
        if (lsn != 0)
            l->checkpoint = l->standing = lsn;
        else if (header(msg, CHECKER_FOREIGN) != NULL)
            l->standing = 0;
        return;
    }
    if (l->checker == NULL || strncmp(subject, DESIRED_PREFIX, strlen(DESIRED_PREFIX)) != 0)
        return;
    struct node *node = node_of(l->checker, subject + strlen(DESIRED_PREFIX));
    node->entries = hw_realloc(node->entries, (node->entry_count + 1) * sizeof(*node->entries));
    struct entry *entry = &node->entries[node->entry_count++];
    read_message(msg, seq, entry);
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
    read_stream(server.url, false, collect, &found);
    test_nats_remove(&server);
    return found;
}

static hw_lsn checkpoint_in(const struct checker *c, const char *dir)
{
    struct followed found = read_storage(c, dir);
    struct loading l = {0};

    for (size_t i = 0; i < found.count; i++)
        load_message(&l, found.list[i].msg, found.list[i].seq);
    followed_free(&found);
    return l.checkpoint;
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
        read_stream(c->nats->url, false, collect, &held);
    else
        held = read_storage(c, store->dir);
    const struct followed *const seen = lives ? follower_lock(c->follower) : &store->followed;
    whole[number] = merge(seen, &held, UINT64_MAX);
    if (store->copy != NULL) {
        struct followed copied = read_storage(c, store->copy), own = whole[number];
        const uint64_t upto = copied.count > 0 ? copied.list[copied.count - 1].seq : 0;

        whole[number] = merge(&own, &whole[store->copy_of], upto);
        free(own.list);
        followed_free(&copied);
    }
    for (size_t i = 0; i < whole[number].count; i++)
        load_message(&l, whole[number].list[i].msg, whole[number].list[i].seq);
    store->checkpoint = l.checkpoint;
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

static void problem(struct checker *c, struct node *node, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void problem(struct checker *c, struct node *node, const char *fmt, ...)
{
    va_list args;

    node->bad = true;
    if (++c->problems > PROBLEMS_SHOWN || c->failure_dir == NULL)
        return;
    HW_AUTO_FREE char *path = hw_sprintf("%s/problems", c->failure_dir);
    mkdir(c->failure_dir, 0755);
    FILE *file = fopen(path, "ae");
    for (int i = 0; i < 2; i++) {
        FILE *out = i == 0 ? stderr : file;
        if (out == NULL)
            continue;
        fprintf(out, "problem: node %s: ", node->name);
        va_start(args, fmt);
        vfprintf(out, fmt, args);
        va_end(args);
        fputc('\n', out);
    }
    if (file != NULL)
        fclose(file);
}

static void write_history(struct checker *c, const struct node *node)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/key-%s", c->failure_dir, node->name);
    FILE *file = fopen(path, "we");

    if (file == NULL)
        test_fail("cannot write %s: %s", path, strerror(errno));
    fprintf(file, "what was committed: position, rev, revision digest type sources\n");
    for (size_t i = 0; i < node->outcome_count; i++)
        fprintf(file, "%s\t%" PRId64 "\t%s\n", HW_LSN(node->outcomes[i].lsn), node->outcomes[i].rev,
                node->outcomes[i].text != NULL ? node->outcomes[i].text : "removed");
    fprintf(file, "what was published: storage, sequence, fence, checkpoint before it, entry\n");
    for (size_t i = 0; i < node->entry_count; i++) {
        const struct entry *e = &node->entries[i];
        fprintf(file, "%d\t%" PRIu64 "\t%" PRIu64 " %s\t%s\t%s%s\n", e->store, e->seq,
                e->fence.epoch, HW_LSN(e->fence.lsn), HW_LSN(e->checkpoint),
                e->foreign ? "FOREIGN " : "", e->text != NULL ? e->text : "removed");
    }
    fclose(file);
}

/* The last outcome of the node at or before lsn; NULL where there is none. */
static struct outcome *outcome_at(const struct node *node, hw_lsn lsn)
{
    size_t low = 0, high = node->outcome_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (node->outcomes[middle].lsn <= lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &node->outcomes[low - 1] : NULL;
}

static void judge_entries(struct checker *c, struct node *node)
{
    struct hw_fence last = {0};
    int store = -1;

    for (size_t i = 0; i < node->entry_count; i++) {
        const struct entry *e = &node->entries[i];

        if (e->store != store) {
            store = e->store;
            last = (struct hw_fence){0};
        }
        if (e->foreign)
            continue;
        if (!e->fenced || (e->text != NULL && e->text[0] == '?')) {
            problem(c, node, "storage %d, sequence %" PRIu64 ": not a proper entry: %s", e->store,
                    e->seq, e->text != NULL ? e->text : "removed");
            continue;
        }
        if (hw_fence_compare(e->fence, last) <= 0)
            problem(c, node,
                    "storage %d, sequence %" PRIu64 ": fence %" PRIu64 " %s behind %" PRIu64 " %s",
                    e->store, e->seq, e->fence.epoch, HW_LSN(e->fence.lsn), last.epoch,
                    HW_LSN(last.lsn));
        last = e->fence;
        struct outcome *o = outcome_at(node, e->fence.lsn);
        if (!same(o != NULL ? o->text : NULL, e->text))
            problem(c, node,
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
static void judge_missing(struct checker *c, struct node *node, int number,
                          const struct excuse *excuses, int excuse_count)
{
    const struct store *store = &c->stores[number];
    hw_lsn upto = ~(hw_lsn)0;

    if (number + 1 < c->store_count)
        upto = store->checkpoint < store->confirmed ? store->checkpoint : store->confirmed;
    for (size_t i = 0; i < node->outcome_count; i++) {
        const struct outcome *o = &node->outcomes[i];
        if (o->lsn > upto || o->seen[number] > 0 || excused(o, excuses, excuse_count))
            continue;
        if (o->text == NULL && (i == 0 || node->outcomes[i - 1].text == NULL))
            continue; /* the node came and went in one transaction, so it needs no entry */
        problem(c, node, "storage %d: nothing carries fence %s (rev %" PRId64 ": %s)", number,
                HW_LSN(o->lsn), o->rev, o->text != NULL ? o->text : "removed");
    }
}

static void judge(struct checker *c, const struct checker_options *options)
{
    struct excuse excuses[EXCUSES_MOST];
    int excuse_count = 0;
    struct node *node;

    for (size_t at = 0; (node = hw_map_next(&c->nodes, &at)) != NULL;)
        judge_entries(c, node);
    for (int number = 0; number < c->store_count; number++) {
        if (number > 0) {
            const struct store *lost = &c->stores[number - 1];
            const hw_lsn covered =
                lost->checkpoint > lost->confirmed ? lost->checkpoint : lost->confirmed;
            /* After an older storage with a checkpoint was put back, the log is replayed. */
            hw_lsn from =
                c->stores[number].copy != NULL ? checkpoint_in(c, c->stores[number].copy) : 0;

            if (from != 0 && options->strict_replay)
                from = covered;
            if (excuse_count + 2 > EXCUSES_MOST)
                test_fail("too many storages");
            excuses[excuse_count++] =
                (struct excuse){.after = from, .upto = lost->confirmed, .unless_in = -1};
            excuses[excuse_count++] =
                (struct excuse){.after = lost->confirmed, .upto = covered, .unless_in = number - 1};
        }
        for (size_t at = 0; (node = hw_map_next(&c->nodes, &at)) != NULL;)
            judge_missing(c, node, number, excuses, excuse_count);
    }
}

struct checker_result checker_check(struct checker *c, const struct checker_options *options)
{
    struct followed whole[STORES_MOST + 1] = {0};
    struct node *node;

    forget(c);
    c->failure_dir = options->failure_dir;
    read_database(c);
    for (int i = 0; i < c->store_count; i++)
        load_store(c, i, whole);
    for (int i = 0; i < c->store_count; i++)
        free(whole[i].list);
    judge(c, options);
    int kept = 0;
    for (size_t at = 0;
         c->problems > 0 && c->failure_dir != NULL && (node = hw_map_next(&c->nodes, &at)) != NULL;)
        if (node->bad && kept++ < HISTORIES_KEPT)
            write_history(c, node);
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
    const char *subject = natsMsg_GetSubject(msg);

    if (strcmp(subject, CHECKPOINT) == 0)
        checkpoint_of(msg, &s->rev);
    if (strncmp(subject, DESIRED_PREFIX, strlen(DESIRED_PREFIX)) != 0)
        return;
    struct entry *entry = hw_map_get(&s->entries, subject + strlen(DESIRED_PREFIX));
    if (entry == NULL) {
        if (s->count == HW_COUNT(s->names))
            test_fail("more keys than expected");
        entry = hw_alloc(sizeof(*entry));
        s->names[s->count] = hw_strdup(subject + strlen(DESIRED_PREFIX));
        hw_map_add(&s->entries, s->names[s->count++], entry);
    }
    free(entry->text);
    read_message(msg, seq, entry);
}

static PGresult *query(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        test_fail("%s%s", PQerrorMessage(conn), sql);
    return result;
}

static char *compare_standing(struct standing *s, PGconn *conn, int64_t rev)
{
    PGresult *rows =
        query(conn, "SELECT node, revision, digest, media_type, sources FROM headwater.desired");
    struct entry *entry;
    char *why = NULL;
    size_t live = 0;

    if (s->rev != rev)
        why = hw_sprintf("the checkpoint has rev %" PRId64 ", the database %" PRId64, s->rev, rev);
    for (int i = 0; i < PQntuples(rows) && why == NULL; i++) {
        json_t *sources = json_loads(PQgetvalue(rows, i, 4), 0, NULL);
        HW_AUTO_FREE char *text = text_of(strtoll(PQgetvalue(rows, i, 1), NULL, 10),
                                          PQgetvalue(rows, i, 2), PQgetvalue(rows, i, 3), sources);

        json_decref(sources);
        entry = hw_map_get(&s->entries, PQgetvalue(rows, i, 0));
        if (entry == NULL || !entry->fenced || entry->foreign || !same(entry->text, text))
            why = hw_sprintf("node %s: NATS has %s where %s is desired", PQgetvalue(rows, i, 0),
                             entry == NULL         ? "nothing"
                             : entry->text != NULL ? entry->text
                                                   : "a deletion",
                             text);
    }
    for (size_t at = 0; (entry = hw_map_next(&s->entries, &at)) != NULL;)
        live += entry->text != NULL;
    if (why == NULL && live != (size_t)PQntuples(rows))
        why =
            hw_sprintf("NATS has entries of %zu nodes, the database of %d", live, PQntuples(rows));
    PQclear(rows);
    return why;
}

static void on_up(void *arg)
{
    *(bool *)arg = true;
}

static char *compare_objects(struct checker *c, PGconn *conn)
{
    PGresult *rows = query(conn, "SELECT DISTINCT digest, size FROM headwater.desired");
    const struct hw_nats_options options = {.url = c->nats->url,
                                            .timeout_ms = test_patient_ms(PATIENCE_MS)};
    struct hw_nats *nats = NULL;
    struct hw_loop *loop = NULL;
    struct hw_error err;
    bool up = false;
    const struct hw_nats_events events = {.up = on_up, .arg = &up};
    char *why = NULL;

    if (hw_loop_new(&loop, &err) != HW_OK ||
        hw_nats_open(loop, &options, &events, &nats, &err) != HW_OK)
        test_fail("connecting to NATS: %s", err.message);
    if (!hw_loop_run_until(loop, &up, test_patient_ms(PATIENCE_MS)))
        test_fail("connecting to NATS: no answer");
    for (int i = 0; i < PQntuples(rows) && why == NULL; i++) {
        const char *expected = PQgetvalue(rows, i, 0);
        char text[HW_DIGEST_STR_MAX];
        unsigned char *data = NULL;
        struct hw_digest digest;
        size_t size = 0;

        if (hw_obj_get(nats, "headwater", expected + strlen("sha256:"), 16 << 20, &data, &size,
                       NULL, &err) != HW_OK) {
            why = hw_sprintf("object %s: %s", expected, err.message);
            break;
        }
        hw_digest_of(data, size, &digest);
        if (strcmp(hw_digest_format(&digest, text), expected) != 0 ||
            size != strtoull(PQgetvalue(rows, i, 1), NULL, 10))
            why = hw_sprintf("object %s: its %zu bytes are %s", expected, size, text);
        free(data);
    }
    hw_nats_close(nats);
    hw_loop_free(loop);
    PQclear(rows);
    return why;
}

static char *compare_agents(PGconn *conn, const char *const outputs[], bool with_reports)
{
    char *why = NULL;

    for (int i = 0; outputs[i] != NULL && why == NULL; i++) {
        HW_AUTO_FREE char *sql = hw_sprintf(
            "SELECT d.digest, coalesce(r.state, ''),"
            " coalesce(r.running_digest, ''), coalesce(r.running_revision = d.revision, false)"
            " FROM headwater.desired d LEFT JOIN headwater.reported r USING (node) WHERE node = "
            "'n%d'",
            i);
        PGresult *row = query(conn, sql);
        char text[HW_DIGEST_STR_MAX], *data = NULL;
        struct hw_digest digest;
        size_t size = 0;
        FILE *copy = open_memstream(&data, &size), *file = fopen(outputs[i], "re");

        for (int byte; file != NULL && (byte = getc(file)) != EOF;)
            putc(byte, copy);
        if (file != NULL)
            fclose(file);
        fclose(copy);
        hw_digest_of(data, size, &digest);
        free(data);
        hw_digest_format(&digest, text);
        if (PQntuples(row) != 1)
            why = hw_sprintf("nothing is desired of n%d", i);
        else if (strcmp(text, PQgetvalue(row, 0, 0)) != 0)
            why = hw_sprintf("the file of n%d is %s where %s is desired", i, text,
                             PQgetvalue(row, 0, 0));
        else if (with_reports && (strcmp(PQgetvalue(row, 0, 1), "applied") != 0 ||
                                  strcmp(PQgetvalue(row, 0, 2), text) != 0 ||
                                  strcmp(PQgetvalue(row, 0, 3), "t") != 0))
            why = hw_sprintf("n%d runs %s, and is reported as %s with %s", i, text,
                             PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2));
        PQclear(row);
    }
    return why;
}

char *checker_unsettled(struct checker *c, hw_lsn position, const char *const outputs[],
                        bool with_reports)
{
    PGconn *conn = PQconnectdb(c->pg->url);
    PGresult *row = query(conn, "SELECT coalesce(max(s.confirmed_flush_lsn), '0/0'),"
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

        read_stream(c->nats->url, true, keep_standing, s);
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
        why = compare_objects(c, conn);
    if (why == NULL)
        why = compare_agents(conn, outputs, with_reports);
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
    free(test_sql(pg, "SELECT pg_create_logical_replication_slot('" SLOT "', 'wal2json')"));
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
