#include "agent/report.h"

#include "common/version.h"
#include "protocol/report.h"

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

static struct hw_report_document of(const struct agent_document *d)
{
    return (struct hw_report_document){
        .revision = d->revision, .digest = d->digest, .fence = d->fence};
}

json_t *agent_report_build(const struct agent_state *state, const char *node, const char *boot_id,
                           const char *instance, int64_t heartbeat_ms)
{
    const struct hw_report_document running = of(&state->running);
    const struct hw_report_document failed = of(&state->failed.document);
    struct hw_report report = {
        .node = node,
        .state = agent_report_state(state),
        .running = state->running.set ? &running : NULL,
        .applied_at = state->running.applied_at,
        .desired_revision = state->desired_revision,
        .agent = "headwater-agent/" HW_VERSION,
        .boot_id = boot_id,
        .instance = instance,
        .heartbeat_s = (double)heartbeat_ms / 1000,
        .held = {state->hold.set, state->hold.since, state->hold.reason, state->hold.waiting},
        .drift = {state->drift.set, state->drift.at, state->drift.error, state->drift.healed},
    };

    if (state->fence.epoch == 0 && !state->refused.set && !state->hold.set)
        return NULL;
    report.failed.set = state->refused.set || state->failed.set;
    if (state->refused.set) {
        /* Nothing of an entry that is refused as a whole can be believed, its revision included. */
        report.failed.stage = agent_stage_name(AGENT_STAGE_VERIFY);
        report.failed.error = state->refused.error;
        report.failed.at = state->refused.at;
    } else if (state->failed.set) {
        report.failed.document = state->failed.document.set ? &failed : NULL;
        report.failed.stage = agent_stage_name(state->failed.stage);
        report.failed.error = state->failed.error;
        report.failed.at = state->failed.at;
    }
    return hw_report_json(&report);
}

char *agent_report_text(const json_t *report)
{
    char now[AGENT_TIME_MAX];

    return hw_report_write(report, agent_time_now(now));
}
