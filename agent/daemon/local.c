#include "agent/daemon/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/disk/store.h"
#include "agent/report.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "common/streams.h"

#define WAIT_PAUSE_US 100000

static void print_json(const struct agent_state *state, const char *node, bool alive)
{
    HW_AUTO_JSON json_t *value = agent_report_build(state, node, "", NULL, 0);
    HW_AUTO_FREE char *text = NULL;

    if (value == NULL)
        value = json_pack("{ss}", "node", node);
    json_object_del(value, "agent");
    json_object_del(value, "boot_id");
    json_object_set_new(value, "alive", json_boolean(alive));
    json_object_set_new(value, "unconfirmed", json_boolean(state->unconfirmed));
    json_object_set_new(value, "nothing_desired", json_boolean(state->nothing));
    text = hw_json_dump(value);
    puts(text);
}

static void print_text(const struct agent_state *s, const char *node, bool alive)
{
    char digest[HW_DIGEST_STR_MAX];

    printf("node         %s\nagent        %s\nstate        %s\n", node,
           alive ? "alive" : "not running",
           s->nothing && !s->refused.set ? AGENT_NOTHING_DESIRED : agent_report_state(s));
    if (s->running.set)
        printf("running      revision %lld, %s, applied %s%s\n", (long long)s->running.revision,
               hw_digest_format(&s->running.digest, digest), s->running.applied_at,
               s->unconfirmed ? ", not confirmed yet" : "");
    else
        puts("running      nothing");
    if (s->desired_revision > 0)
        printf("desired      revision %lld\n", (long long)s->desired_revision);
    if (s->refused.set)
        printf("refused      %s: %s\n", s->refused.at, s->refused.error);
    if (s->failed.set)
        printf("failed       revision %lld at %s, %s: %s\n", (long long)s->failed.document.revision,
               agent_stage_name(s->failed.stage), s->failed.at, s->failed.error);
    if (s->hold.set)
        printf("held         since %s: %s\n", s->hold.since, s->hold.reason);
    if (s->drift.set)
        printf("drift        %s\n", s->drift.error);
}

enum hw_status agent_local_status(const char *state_dir, const char *node,
                                  const struct agent_output *output, bool json,
                                  struct hw_error *err)
{
    HW_AUTO_FREE char *owner = NULL;
    struct agent_state state;
    enum hw_status status;
    bool alive;

    status = agent_store_peek(state_dir, node, &state, &owner, &alive, err);
    if (status == HW_ENOENT)
        return hw_fail(err, HW_ENOENT,
                       "nothing is known here: there is no %s/state.json. Either no agent ran with "
                       "this state directory, or it has not reached NATS yet: its log says why",
                       state_dir);
    if (status != HW_OK)
        return status;
    if (state.running.set && !agent_output_is(output, &state.running)) {
        state.drift.set = true;
        agent_time_now(state.drift.at);
        snprintf(state.drift.error, sizeof(state.drift.error),
                 "the output is missing, or has other content than what runs");
    }
    if (json)
        print_json(&state, owner, alive);
    else
        print_text(&state, owner, alive);
    return HW_OK;
}

enum hw_status agent_local_hold(const char *state_dir, const char *reason, struct hw_error *err)
{
    const enum hw_status status = hw_file_mkdirs(state_dir, 0755, err);

    return status == HW_OK ? agent_hold_set(state_dir, reason, err) : status;
}

static enum hw_status await_decision(const char *state_dir, const char *ref, struct hw_error *err)
{
    struct agent_decision decision;
    enum hw_status status;

    while ((status = agent_decision_get(state_dir, ref, &decision, err)) == HW_ENOENT)
        usleep(WAIT_PAUSE_US);
    if (status != HW_OK)
        return status;
    if (strcmp(decision.state, "approved") != 0)
        return hw_fail(err, HW_ECONFLICT, "%s%s%s", decision.state,
                       decision.reason[0] != '\0' ? ": " : "", decision.reason);
    printf("approved: config %s, revision %lld\n", decision.config, (long long)decision.revision);
    return HW_OK;
}

enum hw_status agent_local_propose(const char *state_dir, const char *node, const char *file,
                                   const struct agent_proposal *proposal, bool wait,
                                   struct hw_error *err)
{
    struct agent_proposal p = *proposal;
    HW_AUTO_FREE char *data = NULL;
    char ref[AGENT_REF_MAX];
    enum hw_status status;

    status = hw_file_read(file, AGENT_CONTENT_MAX, &data, &p.size, err);
    if (status != HW_OK)
        return status;
    p.data = data;
    status = agent_proposal_put(state_dir, node, &p, ref, err);
    if (status != HW_OK)
        return status;
    puts(ref);
    status = hw_stdout_flush(err);
    if (status != HW_OK)
        return hw_fail_in(err, "it is proposed as %s", ref);
    return wait ? await_decision(state_dir, ref, err) : HW_OK;
}

enum hw_status agent_local_release(const char *state_dir, struct hw_error *err)
{
    const enum hw_status status = agent_hold_end(state_dir, err);

    return status == HW_ENOENT ? HW_OK : status;
}
