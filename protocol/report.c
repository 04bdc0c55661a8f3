#include "protocol/report.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/names.h"
#include "common/clock.h"

enum {
    VALUE_MOST = 64 << 10, /* bytes of one report */
    HEARTBEAT_MOST_S = 86400,
};
#define HEARTBEAT_LEAST_S 0.001 /* the database cannot hold just any small number */

/* ---- writing ---- */

/* The members that running and failed have in common. NULL: of none that is known. */
static json_t *document_json(const struct hw_report_document *d)
{
    char digest[HW_DIGEST_STR_MAX];

    if (d == NULL)
        return json_pack("{sn sn sn sn}", "revision", "digest", "epoch", "lsn");
    return json_pack("{sI ss sI ss}", "revision", (json_int_t)d->revision, "digest",
                     hw_digest_format(&d->digest, digest), "epoch", (json_int_t)d->fence.epoch,
                     "lsn", HW_LSN(d->fence.lsn));
}

static json_t *revision_json(int64_t revision)
{
    return revision > 0 ? json_integer(revision) : json_null();
}

static json_t *running_json(const struct hw_report *r)
{
    if (r->running == NULL)
        return json_null();
    json_t *running = document_json(r->running);

    json_object_set_new(running, "applied_at", json_string(r->applied_at));
    return running;
}

static json_t *failed_json(const struct hw_report *r)
{
    if (!r->failed.set)
        return json_null();
    json_t *failed = document_json(r->failed.document);

    json_object_set_new(failed, "stage", json_string(r->failed.stage));
    json_object_set_new(failed, "error", json_string(r->failed.error));
    json_object_set_new(failed, "at", json_string(r->failed.at));
    return failed;
}

json_t *hw_report_json(const struct hw_report *r)
{
    json_t *report =
        json_pack("{ss ss so so so ss ss}", "node", r->node, "state", r->state, "running",
                  running_json(r), "failed", failed_json(r), "desired_revision",
                  revision_json(r->desired_revision), "agent", r->agent, "boot_id", r->boot_id);

    if (r->instance != NULL)
        json_object_set_new(report, "instance", json_string(r->instance));
    if (r->heartbeat_s > 0)
        json_object_set_new(report, "heartbeat", json_real(r->heartbeat_s));
    if (r->held.set)
        json_object_set_new(report, "held",
                            json_pack("{ss ss so}", "since", r->held.since, "reason",
                                      r->held.reason, "waiting", revision_json(r->held.waiting)));
    if (r->drift.set)
        json_object_set_new(report, "drift",
                            json_pack("{ss sb ss}", "at", r->drift.at, "healed", r->drift.healed,
                                      "error", r->drift.error));
    return report;
}

char *hw_report_write(const json_t *report, const char *reported_at)
{
    HW_AUTO_JSON json_t *value = json_copy((json_t *)(uintptr_t)report);

    json_object_set_new(value, "reported_at", json_string(reported_at));
    return hw_json_dump(value);
}

bool hw_report_matches(const json_t *report, const char *value, size_t size)
{
    HW_AUTO_JSON json_t *published = NULL;
    HW_AUTO_JSON json_t *wanted = json_copy((json_t *)(uintptr_t)report);

    if (hw_json_parse_object(value, size, &published, NULL) != HW_OK)
        return false;
    json_object_del(published, "reported_at");
    json_object_del(published, "instance");
    json_object_del(wanted, "instance");
    return json_equal(wanted, published) == 1;
}

void hw_report_instance(const char *value, size_t size, char instance[static HW_NAME_MOST + 1])
{
    HW_AUTO_JSON json_t *published = NULL;
    const char *name = NULL;

    *instance = '\0';
    if (hw_json_parse_object(value, size, &published, NULL) == HW_OK)
        name = json_string_value(json_object_get(published, "instance"));
    if (name != NULL && hw_name_valid(name))
        snprintf(instance, HW_NAME_MOST + 1, "%s", name);
}

/* ---- reading ---- */

/*
 * The members that a report may have. What is read holds these and no others, each of the type and
 * of at most the size that stands here, so that nothing which a node may write takes more room in
 * the database than is meant for it, or makes the database refuse the reports that came with it.
 */
enum kind {
    WORD,  /* text that is compared: a longer one is no report */
    WORDS, /* text for people: the end of a longer one is left out */
    TIME,
    DIGEST,
    POSITION,
    NUMBER,
    SECONDS,
    TRUTH,
    OBJECT,
};

struct member {
    const char *name;
    enum kind kind;
    bool needed;
    size_t most;                  /* bytes */
    const struct member *members; /* of an object; ends with a NULL name */
};

#define OF(member_name, member_kind, ...)                                                          \
    {                                                                                              \
        .name = (member_name), .kind = (member_kind), ##__VA_ARGS__                                \
    }

static const struct member running_members[] = {
    OF("revision", NUMBER, .needed = true), OF("digest", DIGEST, .needed = true),
    OF("epoch", NUMBER, .needed = true),    OF("lsn", POSITION, .needed = true),
    OF("applied_at", TIME, .needed = true), {0},
};
/* Of an entry that the node could not read, the first four are not known: see check_failed. */
static const struct member failed_members[] = {
    OF("revision", NUMBER),
    OF("digest", DIGEST),
    OF("epoch", NUMBER),
    OF("lsn", POSITION),
    OF("stage", WORD, .needed = true, .most = 32),
    OF("error", WORDS, .needed = true, .most = HW_REPORT_WORDS_MOST),
    OF("at", TIME, .needed = true),
    {0},
};
static const struct member held_members[] = {
    OF("since", WORDS, .most = 64),
    OF("reason", WORDS, .most = HW_REPORT_WORDS_MOST),
    OF("waiting", NUMBER),
    {0},
};
static const struct member drift_members[] = {
    OF("at", WORDS, .most = 64),
    OF("healed", TRUTH),
    OF("error", WORDS, .most = HW_REPORT_WORDS_MOST),
    {0},
};
static const struct member report_members[] = {
    OF("node", WORD, .needed = true, .most = HW_NAME_MOST),
    OF("state", WORD, .needed = true, .most = 16),
    OF("running", OBJECT, .members = running_members),
    OF("failed", OBJECT, .members = failed_members),
    OF("desired_revision", NUMBER),
    OF("agent", WORDS, .most = 200),
    OF("boot_id", WORDS, .most = 64),
    OF("instance", WORD, .most = HW_NAME_MOST),
    OF("reported_at", TIME),
    OF("held", OBJECT, .members = held_members),
    OF("heartbeat", SECONDS),
    OF("drift", OBJECT, .members = drift_members),
    {0},
};

static enum hw_status take_members(const json_t *from, const struct member *members, json_t **out,
                                   struct hw_error *err);

/* As much of it as there is room for, in whole characters. */
static json_t *cut(const json_t *words, size_t most)
{
    const char *const text = json_string_value(words);
    size_t len = json_string_length(words);

    if (len > most)
        for (len = most; len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80;)
            len--;
    return json_stringn(text, len);
}

static const char *const kind_names[] = {
    "text",       "text",           "a time (RFC 3339, in UTC)", "a digest",
    "a position", "a whole number", "a number of seconds",       "true or false",
    "an object"};

static enum hw_status take_member(json_t *value, const struct member *member, json_t **out,
                                  struct hw_error *err)
{
    const char *const text = json_string_value(value);
    struct hw_digest digest;
    bool well = text != NULL;
    struct hw_error why;
    hw_lsn lsn;

    switch (member->kind) {
    case WORD:
        well = well && json_string_length(value) <= member->most;
        break;
    case WORDS:
        if (!well)
            break;
        *out = cut(value, member->most);
        return HW_OK;
    case TIME:
        well = well && hw_clock_is_time(text);
        break;
    case DIGEST:
        well = well && hw_digest_parse(text, &digest, &why) == HW_OK;
        break;
    case POSITION:
        well = well && hw_lsn_parse(text, &lsn, &why) == HW_OK;
        break;
    case NUMBER:
        well = json_is_integer(value) && json_integer_value(value) >= 0;
        break;
    case SECONDS:
        well = json_number_value(value) >= HEARTBEAT_LEAST_S &&
               json_number_value(value) <= HEARTBEAT_MOST_S;
        break;
    case TRUTH:
        well = json_is_boolean(value);
        break;
    case OBJECT:
        if (!json_is_object(value))
            break;
        if (take_members(value, member->members, out, err) != HW_OK)
            return hw_fail_in(err, "member \"%s\"", member->name);
        return HW_OK;
    }
    if (!well)
        return hw_fail(err, HW_EINVAL, "member \"%s\" is not %s, or too long", member->name,
                       kind_names[member->kind]);
    *out = json_incref(value);
    return HW_OK;
}

static enum hw_status take_members(const json_t *from, const struct member *members, json_t **out,
                                   struct hw_error *err)
{
    HW_AUTO_JSON json_t *taken = json_object();

    for (const struct member *m = members; m->name != NULL; m++) {
        json_t *value = json_object_get(from, m->name), *own = NULL;

        if (value == NULL || json_is_null(value)) {
            if (m->needed)
                return hw_fail(err, HW_EINVAL, "member \"%s\" is missing", m->name);
            continue;
        }
        if (take_member(value, m, &own, err) != HW_OK)
            return err->status;
        json_object_set_new(taken, m->name, own);
    }
    *out = HW_TAKE(taken);
    return HW_OK;
}

/* Keeps the newest. A report without a fence has none that counts. */
static void heed_fence(const json_t *document, struct hw_fence *newest)
{
    const json_int_t epoch = json_integer_value(json_object_get(document, "epoch"));
    const char *const lsn = json_string_value(json_object_get(document, "lsn"));
    struct hw_fence fence = {.epoch = epoch > 0 ? (uint64_t)epoch : 0};
    struct hw_error err;

    if (lsn != NULL && hw_lsn_parse(lsn, &fence.lsn, &err) == HW_OK &&
        hw_fence_compare(fence, *newest) > 0)
        *newest = fence;
}

/* When the node could not read the entry, it knows nothing of the document: all of it or nothing.
 */
static enum hw_status check_failed(const json_t *failed, struct hw_error *err)
{
    size_t known = 0;

    for (int i = 0; i < 4; i++)
        known += json_object_get(failed, failed_members[i].name) != NULL;
    if (known == 0 || known == 4)
        return HW_OK;
    return hw_fail(err, HW_EINVAL, "member \"failed\": of its document some is said, not all");
}

enum hw_status hw_report_read(const char *node, const char *value, size_t size, json_t **report,
                              struct hw_fence *newest, struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    HW_AUTO_JSON json_t *taken = NULL;
    enum hw_status status;

    if (size > VALUE_MOST)
        return hw_fail(err, HW_ELIMIT, "%zu bytes, more than the %d a report may have", size,
                       VALUE_MOST);
    status = hw_json_parse_object(value, size, &root, err);
    if (status == HW_OK)
        status = take_members(root, report_members, &taken, err);
    if (status == HW_OK)
        status = check_failed(json_object_get(taken, "failed"), err);
    if (status != HW_OK)
        return status;
    const char *const name = json_string_value(json_object_get(taken, "node"));
    const char *const state = json_string_value(json_object_get(taken, "state"));
    if (strcmp(name, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is about node \"%.130s\"", name);
    if (strcmp(state, "applied") != 0 && strcmp(state, "failed") != 0 &&
        strcmp(state, "rejected") != 0)
        return hw_fail(err, HW_EINVAL, "state \"%.40s\" is not applied, failed or rejected", state);
    const char *const instance = json_string_value(json_object_get(taken, "instance"));
    if (instance != NULL && !hw_name_valid(instance))
        return hw_fail(err, HW_EINVAL, "instance \"%.130s\" is not a name", instance);
    *newest = (struct hw_fence){0};
    heed_fence(json_object_get(taken, "running"), newest);
    heed_fence(json_object_get(taken, "failed"), newest);
    *report = HW_TAKE(taken);
    return HW_OK;
}

/* ---- comparing ---- */

void hw_report_standing(const json_t *report, struct hw_digest *standing)
{
    struct hw_buf text = {0};

    hw_buf_puts(&text, json_string_value(json_object_get(report, "state")));
    for (int i = 0; i < 2; i++) {
        const json_t *document = json_object_get(report, i == 0 ? "running" : "failed");
        const json_t *revision = json_object_get(document, "revision");

        /* What failed without a revision is something else than nothing that failed. */
        hw_buf_printf(&text, "\n%d %lld %s", document != NULL,
                      revision != NULL ? (long long)json_integer_value(revision) : -1,
                      revision != NULL ? json_string_value(json_object_get(document, "digest"))
                                       : "");
    }
    hw_digest_of(text.data, text.len, standing);
    hw_buf_free(&text);
}
