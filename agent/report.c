#include "agent/report.h"

#include "common/version.h"

static json_t *digest_json(const struct hw_digest *digest)
{
    char text[HW_DIGEST_STR_MAX];

    return json_string(hw_digest_format(digest, text));
}

/* The members that running and failed have in common. */
static json_t *document_json(const struct agent_document *d)
{
    if (!d->set)
        return json_pack("{sn sn sn sn}", "revision", "digest", "epoch", "lsn");
    return json_pack("{sI so sI ss}", "revision", (json_int_t)d->revision, "digest",
                     digest_json(&d->digest), "epoch", (json_int_t)d->fence.epoch, "lsn",
                     HW_LSN(d->fence.lsn));
}

static json_t *running_json(const struct agent_state *state)
{
    json_t *running;

    if (!state->running.set)
        return json_null();
    running = document_json(&state->running);
    json_object_set_new(running, "applied_at", json_string(state->running.applied_at));
    return running;
}

static json_t *failed_json(const struct agent_state *state)
{
    /* Nothing in an entry that is refused as a whole can be believed, its revision included. */
    const struct agent_document nothing = {.set = false};
    const struct agent_failure *f = &state->failed;
    const bool refused = state->refused.set;
    json_t *failed;

    if (!refused && !f->set)
        return json_null();
    failed = document_json(refused ? &nothing : &f->document);
    json_object_set_new(failed, "stage",
                        json_string(agent_stage_name(refused ? AGENT_STAGE_VERIFY : f->stage)));
    json_object_set_new(failed, "error", json_string(refused ? state->refused.error : f->error));
    json_object_set_new(failed, "at", json_string(refused ? state->refused.at : f->at));
    return failed;
}

/* "rejected" means that the node was not touched; "failed" means that it was tried. */
const char *agent_report_state(const struct agent_state *state)
{
    if (state->refused.set)
        return "rejected";
    if (!state->failed.set)
        return "applied";
    return state->failed.stage == AGENT_STAGE_VERIFY || state->failed.stage == AGENT_STAGE_VALIDATE
               ? "rejected"
               : "failed";
}

json_t *agent_report_build(const struct agent_state *state, const char *node, const char *boot_id,
                           int64_t heartbeat_ms)
{
    json_t *report;

    if (state->fence.epoch == 0 && !state->refused.set && !state->hold.set)
        return NULL;
    report =
        json_pack("{ss ss so so so ss ss}", "node", node, "state", agent_report_state(state),
                  "running", running_json(state), "failed", failed_json(state), "desired_revision",
                  state->desired_revision > 0 ? json_integer(state->desired_revision) : json_null(),
                  "agent", "headwater-agent/" HW_VERSION, "boot_id", boot_id);
    if (heartbeat_ms > 0)
        json_object_set_new(report, "heartbeat", json_real((double)heartbeat_ms / 1000));
    if (state->hold.set)
        json_object_set_new(
            report, "held",
            json_pack("{ss ss so}", "since", state->hold.since, "reason", state->hold.reason,
                      "waiting",
                      state->hold.waiting > 0 ? json_integer(state->hold.waiting) : json_null()));
    if (state->drift.set)
        json_object_set_new(report, "drift",
                            json_pack("{ss sb ss}", "at", state->drift.at, "healed",
                                      state->drift.healed, "error", state->drift.error));
    return report;
}

char *agent_report_text(const json_t *report)
{
    HW_AUTO_JSON json_t *value = json_copy((json_t *)(uintptr_t)report);
    char now[AGENT_TIME_MAX];

    json_object_set_new(value, "reported_at", json_string(agent_time_now(now)));
    return hw_json_dump(value);
}

bool agent_report_matches(const json_t *report, const char *value, size_t size)
{
    HW_AUTO_JSON json_t *published = NULL;

    if (hw_json_parse_object(value, size, &published, NULL) != HW_OK)
        return false;
    json_object_del(published, "reported_at");
    return json_equal(report, published) == 1;
}
