#include "protocol/report.h"

#include <string.h>

#include "common/json.h"

enum {
    VALUE_MOST = 64 << 10, /* bytes of one report */
    HEARTBEAT_MOST_S = 86400,
};

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

    if (hw_json_parse_object(value, size, &published, NULL) != HW_OK)
        return false;
    json_object_del(published, "reported_at");
    return json_equal(report, published) == 1;
}

/* ---- reading ---- */

/* Keeps the newest fence in *newest. */
static enum hw_status check_fence(const char *member, json_int_t epoch, const char *lsn,
                                  struct hw_fence *newest, struct hw_error *err)
{
    struct hw_fence fence = {.epoch = epoch > 0 ? (uint64_t)epoch : 0};

    if (hw_lsn_parse(lsn, &fence.lsn, err) != HW_OK)
        return hw_fail_in(err, "member \"%s\"", member);
    if (hw_fence_compare(fence, *newest) > 0)
        *newest = fence;
    return HW_OK;
}

static enum hw_status check_running(json_t *running, struct hw_fence *newest, struct hw_error *err)
{
    const char *digest, *lsn, *at;
    json_int_t revision, epoch;

    if (running == NULL || json_is_null(running))
        return HW_OK;
    if (hw_json_unpack(running, err, "{s:I, s:s, s:I, s:s, s:s}", "revision", &revision, "digest",
                       &digest, "epoch", &epoch, "lsn", &lsn, "applied_at", &at) != HW_OK)
        return hw_fail_in(err, "member \"running\"");
    return check_fence("running", epoch, lsn, newest, err);
}

/* When the node could not read the entry, all members but these three are null. */
static enum hw_status check_failed(json_t *failed, struct hw_fence *newest, struct hw_error *err)
{
    const char *digest, *lsn = NULL, *stage, *error, *at;
    json_int_t revision, epoch = 0;
    enum hw_status status;

    if (failed == NULL || json_is_null(failed))
        return HW_OK;
    status =
        hw_json_unpack(failed, err, "{s:s, s:s, s:s}", "stage", &stage, "error", &error, "at", &at);
    if (status == HW_OK && json_is_null(json_object_get(failed, "revision")))
        status = hw_json_unpack(failed, err, "{s:n, s:n, s:n}", "digest", "epoch", "lsn");
    else if (status == HW_OK)
        status = hw_json_unpack(failed, err, "{s:I, s:s, s:I, s:s}", "revision", &revision,
                                "digest", &digest, "epoch", &epoch, "lsn", &lsn);
    if (status != HW_OK)
        return hw_fail_in(err, "member \"failed\"");
    return lsn == NULL ? HW_OK : check_fence("failed", epoch, lsn, newest, err);
}

enum hw_status hw_report_check(const char *node, const char *value, size_t size,
                               struct hw_fence *newest, struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    json_t *running = NULL, *failed = NULL, *heartbeat = NULL;
    const char *name, *state;
    enum hw_status status;

    *newest = (struct hw_fence){0};
    if (size > VALUE_MOST)
        return hw_fail(err, HW_ELIMIT, "%zu bytes, more than the %d a report may have", size,
                       VALUE_MOST);
    status = hw_json_parse_object(value, size, &root, err);
    if (status == HW_OK)
        status =
            hw_json_unpack(root, err, "{s:s, s:s, s?o, s?o, s?o}", "node", &name, "state", &state,
                           "running", &running, "failed", &failed, "heartbeat", &heartbeat);
    if (status != HW_OK)
        return status;
    if (strcmp(name, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is about node \"%.130s\"", name);
    if (strcmp(state, "applied") != 0 && strcmp(state, "failed") != 0 &&
        strcmp(state, "rejected") != 0)
        return hw_fail(err, HW_EINVAL, "state \"%.40s\" is not applied, failed or rejected", state);
    if (heartbeat != NULL &&
        (!(json_number_value(heartbeat) > 0) || json_number_value(heartbeat) > HEARTBEAT_MOST_S))
        return hw_fail(err, HW_EINVAL, "member \"heartbeat\" is not a number of seconds");
    status = check_running(running, newest, err);
    return status == HW_OK ? check_failed(failed, newest, err) : status;
}
