#include "reconciler/proposals.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/json.h"
#include "common/log.h"
#include "common/map.h"
#include "common/memory.h"
#include "common/points.h"

#define PREFIX "cfg.proposed."

enum {
    BATCH_MOST = 100,
    BATCH_BYTES = 4 << 20,
    WAITING_BYTES = 32 << 20, /* beyond it they are left in the bucket until there is room */
    RETRY_MS = 1000,
    VALUE_MOST = 1 << 20, /* bytes of one proposal: the content in base64, and the rest */
    REF_MOST = 64,
    MEDIA_TYPE_MOST = 255,
};

struct proposal {
    char *node;
    char *item; /* JSON text; NULL: nothing waits */
    size_t size;
    uint64_t seq;   /* of what waits … */
    uint64_t taken; /* … and of what the database answered about */
    bool queued;
    struct proposal *next_queued;
};

struct rec_proposals {
    struct hw_loop *loop;
    struct hw_nats *nats;
    char *bucket;
    struct hw_pg *pg;
    struct hw_kv_watch *watch;
    int64_t created_ns;            /* of the stream that sequences count in */
    struct hw_map nodes;           /* struct proposal by node */
    struct proposal *first, *last; /* waiting, in order of arrival */
    struct proposal *batch[BATCH_MOST];
    uint64_t batch_seq[BATCH_MOST]; /* that were sent */
    size_t batch_count;
    size_t waiting; /* bytes */
    bool left;      /* some were left in the bucket */
    bool one_by_one;
    struct hw_timer retry;
};

static void write_batch(void *arg);

/* ---- reading ---- */

static bool ref_valid(const char *ref)
{
    return *ref != '\0' && strlen(ref) <= REF_MOST && strchr(ref, '.') == NULL &&
           hw_kv_key_valid(ref);
}

static enum hw_status check(const char *node, json_t *root, struct hw_error *err)
{
    const char *name, *ref, *config, *content, *encoding = "utf-8";
    const char *media_type = NULL, *message = NULL;
    json_int_t base;

    if (hw_json_unpack(root, err, "{s:s, s:s, s:s, s:I, s:s, s?s, s?s, s?s}", "node", &name, "ref",
                       &ref, "config", &config, "base_revision", &base, "content", &content,
                       "encoding", &encoding, "media_type", &media_type, "message",
                       &message) != HW_OK)
        return err->status;
    if (strcmp(name, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is of node \"%.130s\"", name);
    if (!ref_valid(ref))
        return hw_fail(err, HW_EINVAL, "ref is not 1 to %d letters, digits, - and _", REF_MOST);
    if (!hw_kv_name_valid(config))
        return hw_fail(err, HW_EINVAL, "config is not a name");
    if (base < 1 || base > INT_MAX)
        return hw_fail(err, HW_EINVAL, "base_revision is not a revision");
    if (media_type != NULL && strlen(media_type) > MEDIA_TYPE_MOST)
        return hw_fail(err, HW_EINVAL, "media_type is longer than %d characters", MEDIA_TYPE_MOST);
    if (strcmp(encoding, "utf-8") != 0 && strcmp(encoding, "base64") != 0)
        return hw_fail(err, HW_EINVAL, "encoding is neither utf-8 nor base64");
    return HW_OK;
}

/* The same bytes have the same word, so that they are refused once. */
static char *problem_of(const char *node, const char *ref, const char *value, size_t size,
                        const struct hw_error *why)
{
    const struct {
        const char *name, *value;
    } members[] = {{"{\"node\":", node}, {",\"ref\":", ref}, {",\"problem\":", why->message}};
    char own[] = "unreadable-0123456789abcdef";
    char hex[HW_DIGEST_HEX_MAX];
    struct hw_digest digest;
    struct hw_buf text = {0};

    hw_digest_of(value, size, &digest);
    memcpy(strchr(own, '-') + 1, hw_digest_hex(&digest, hex), 16);
    for (size_t i = 0; i < HW_COUNT(members); i++) {
        const char *member = members[i].value != NULL ? members[i].value : own;

        hw_buf_puts(&text, members[i].name);
        hw_buf_json_string(&text, member, strlen(member));
    }
    hw_buf_putc(&text, '}');
    return text.data;
}

char *rec_proposal_read(const char *node, const char *value, size_t size)
{
    static const char *const members[] = {"node",    "ref",      "config",     "base_revision",
                                          "content", "encoding", "media_type", "message"};
    HW_AUTO_JSON json_t *root = NULL;
    HW_AUTO_JSON json_t *item = NULL;
    struct hw_error err;
    enum hw_status status;

    if (size > VALUE_MOST)
        status = hw_fail(&err, HW_ELIMIT, "%zu bytes, more than the %d a proposal may have", size,
                         VALUE_MOST);
    else
        status = hw_json_parse_object(value, size, &root, &err);
    if (status == HW_OK)
        status = check(node, root, &err);
    if (status != HW_OK) {
        const char *ref = json_string_value(json_object_get(root, "ref"));

        return problem_of(node, ref != NULL && ref_valid(ref) ? ref : NULL, value, size, &err);
    }
    item = json_pack("{s:s}", "encoding", "utf-8");
    for (size_t i = 0; i < HW_COUNT(members); i++)
        if (json_object_get(root, members[i]) != NULL)
            json_object_set(item, members[i], json_object_get(root, members[i]));
    return hw_json_dump(item);
}

/* ---- what waits ---- */

static struct proposal *proposal_of(struct rec_proposals *proposals, const char *node)
{
    struct proposal *proposal = hw_map_get(&proposals->nodes, node);

    if (proposal == NULL) {
        proposal = hw_alloc(sizeof(*proposal));
        proposal->node = hw_strdup(node);
        hw_map_add(&proposals->nodes, proposal->node, proposal);
    }
    return proposal;
}

static void enqueue(struct rec_proposals *proposals, struct proposal *proposal)
{
    if (proposal->queued)
        return;
    proposal->queued = true;
    proposal->next_queued = NULL;
    if (proposals->last != NULL)
        proposals->last->next_queued = proposal;
    else
        proposals->first = proposal;
    proposals->last = proposal;
}

static void drop_item(struct rec_proposals *proposals, struct proposal *proposal)
{
    proposals->waiting -= proposal->size;
    proposal->size = 0;
    free(HW_TAKE(proposal->item));
}

static void on_entry(void *arg, struct hw_kv_entry *entry)
{
    struct rec_proposals *proposals = arg;
    const char *node = entry->key + strlen(PREFIX);
    struct proposal *proposal;

    if (entry->deleted || strncmp(entry->key, PREFIX, strlen(PREFIX)) != 0)
        return;
    if (!hw_kv_name_valid(node)) {
        hw_log_warn("passing over a proposal under a key that is no node's name",
                    HW_S("key", entry->key), HW_I("revision", (int64_t)entry->seq));
        return;
    }
    proposal = proposal_of(proposals, node);
    if (entry->seq <= proposal->taken)
        return; /* the watch began again */
    if (proposals->waiting > WAITING_BYTES) {
        proposals->left = true;
        return;
    }
    drop_item(proposals, proposal);
    proposal->item = rec_proposal_read(node, entry->value, entry->size);
    proposal->size = strlen(proposal->item);
    proposal->seq = entry->seq;
    proposals->waiting += proposal->size;
    enqueue(proposals, proposal);
    hw_timer_start(proposals->loop, &proposals->retry, 0, write_batch, proposals);
}

/* ---- writing ---- */

static void put_back(struct rec_proposals *proposals)
{
    for (size_t i = 0; i < proposals->batch_count; i++)
        enqueue(proposals, proposals->batch[i]);
    proposals->batch_count = 0;
}

/* What came meanwhile stays. */
static void forget_batch(struct rec_proposals *proposals)
{
    for (size_t i = 0; i < proposals->batch_count; i++) {
        struct proposal *proposal = proposals->batch[i];

        proposal->taken = proposals->batch_seq[i];
        if (!proposal->queued)
            drop_item(proposals, proposal);
    }
    proposals->batch_count = 0;
}

static void take_answers(const PGresult *result)
{
    for (int i = 0; i < PQntuples(result); i++) {
        const char *node = PQgetvalue(result, i, 0), *ref = PQgetvalue(result, i, 1);
        const char *state = PQgetvalue(result, i, 3);

        if (PQgetisnull(result, i, 2))
            hw_log_warn("passing over a proposal", HW_S("node", node), HW_S("ref", ref),
                        HW_S("why", strcmp(state, "unknown") == 0 ? "there is no such node"
                                                                  : "the node sends too many"));
        else
            hw_log_debug("proposal", HW_S("node", node), HW_S("ref", ref),
                         HW_S("id", PQgetvalue(result, i, 2)), HW_S("state", state));
    }
}

static void on_written(void *arg, const struct hw_pg_outcome *outcome)
{
    struct rec_proposals *proposals = arg;

    /* Class 22, data exception: no attempt will ever succeed. */
    if (outcome->status != HW_OK && strncmp(outcome->sqlstate, "22", 2) == 0) {
        proposals->one_by_one = true;
        if (proposals->batch_count == 1) {
            hw_log_warn("the database cannot read a proposal",
                        HW_S("node", proposals->batch[0]->node), HW_E(&outcome->err));
            forget_batch(proposals);
        } else {
            put_back(proposals);
        }
        write_batch(proposals);
        return;
    }
    if (outcome->status != HW_OK) {
        hw_log_warn("proposals could not be written, trying again",
                    HW_I("proposals", (int64_t)proposals->batch_count), HW_E(&outcome->err));
        put_back(proposals);
        hw_timer_start(proposals->loop, &proposals->retry, RETRY_MS, write_batch, proposals);
        return;
    }
    HW_POINT("proposals-written");
    take_answers(outcome->results[0]);
    forget_batch(proposals);
    write_batch(proposals);
}

static void write_batch(void *arg)
{
    struct rec_proposals *proposals = arg;
    const size_t most = proposals->one_by_one ? 1 : BATCH_MOST;
    struct hw_buf text = {0};

    if (proposals->batch_count > 0 || !hw_pg_idle(proposals->pg))
        return;
    if (proposals->first == NULL) {
        proposals->one_by_one = false;
        if (proposals->left)
            hw_kv_watch_restart(proposals->watch);
        proposals->left = false;
        return;
    }
    while (proposals->first != NULL && proposals->batch_count < most && text.len < BATCH_BYTES) {
        struct proposal *proposal = proposals->first;

        proposals->first = proposal->next_queued;
        if (proposals->first == NULL)
            proposals->last = NULL;
        proposal->queued = false;
        hw_buf_putc(&text, text.len == 0 ? '[' : ',');
        hw_buf_add(&text, proposal->item, proposal->size);
        proposals->batch_seq[proposals->batch_count] = proposal->seq;
        proposals->batch[proposals->batch_count++] = proposal;
    }
    hw_buf_putc(&text, ']');
    const char *const values[] = {hw_buf_str(&text)};
    const struct hw_pg_query query = {
        .sql = "SELECT node, ref, id, state FROM headwater.propose($1::jsonb)",
        .count = 1,
        .values = values,
    };
    if (hw_pg_run(proposals->pg, HW_PG_ATOMIC, &query, 1, NULL, on_written, proposals, NULL) !=
        HW_OK)
        put_back(proposals);
    hw_buf_free(&text);
}

/* ---- life ---- */

/* A stream that was made anew, or put back, counts anew. */
static enum hw_status identify_stream(void *arg, struct hw_error *err)
{
    struct rec_proposals *proposals = arg;
    struct hw_kv_stream stream;
    struct proposal *proposal;
    size_t at = 0;

    if (hw_kv_stat(proposals->nats, proposals->bucket, &stream, err) != HW_OK)
        return err->status;
    while ((proposal = hw_map_next(&proposals->nodes, &at)) != NULL)
        if (stream.created_ns != proposals->created_ns || proposal->taken > stream.last_seq)
            proposal->taken = 0;
    /* The answer about these says nothing of the sequences to come. */
    for (size_t i = 0; i < proposals->batch_count; i++)
        if (stream.created_ns != proposals->created_ns || proposals->batch_seq[i] > stream.last_seq)
            proposals->batch_seq[i] = 0;
    proposals->created_ns = stream.created_ns;
    return HW_OK;
}

static void on_caught_up(void *arg)
{
    struct rec_proposals *proposals = arg;

    hw_log_debug("caught up with proposals", HW_S("bucket", proposals->bucket),
                 HW_I("nodes", (int64_t)proposals->nodes.count));
}

static void on_restarting(void *arg, const struct hw_error *why)
{
    struct rec_proposals *proposals = arg;

    hw_log_warn("watching proposals failed, trying again", HW_S("bucket", proposals->bucket),
                HW_E(why));
}

static void on_pg_up(void *arg)
{
    write_batch(arg);
}

enum hw_status rec_proposals_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                   const char *bucket, struct rec_proposals **out,
                                   struct hw_error *err)
{
    struct rec_proposals *proposals = hw_alloc(sizeof(*proposals));
    const struct hw_pg_events pg_events = {.up = on_pg_up, .arg = proposals};
    const struct hw_kv_watch_events watch_events = {.starting = identify_stream,
                                                    .entry = on_entry,
                                                    .caught_up = on_caught_up,
                                                    .restarting = on_restarting,
                                                    .arg = proposals};
    enum hw_status status;

    proposals->loop = loop;
    proposals->nats = nats;
    proposals->bucket = hw_strdup(bucket);
    status = hw_pg_open(loop, conninfo, "headwater-reconciler: proposals", &pg_events,
                        &proposals->pg, err);
    if (status == HW_OK)
        status = hw_kv_watch_start(nats, bucket, PREFIX ">", HW_DELIVER_LAST, &watch_events,
                                   &proposals->watch, err);
    if (status != HW_OK) {
        rec_proposals_stop(proposals);
        return status;
    }
    *out = proposals;
    return HW_OK;
}

void rec_proposals_stop(struct rec_proposals *proposals)
{
    struct proposal *proposal;
    size_t at = 0;

    if (proposals == NULL)
        return;
    hw_kv_watch_stop(proposals->watch);
    hw_pg_close(proposals->pg);
    hw_timer_stop(&proposals->retry);
    while ((proposal = hw_map_next(&proposals->nodes, &at)) != NULL) {
        free(proposal->node);
        free(proposal->item);
        free(proposal);
    }
    hw_map_clear(&proposals->nodes);
    free(proposals->bucket);
    free(proposals);
}
