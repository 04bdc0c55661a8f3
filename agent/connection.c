#include "agent/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/confirmation.h"
#include "agent/entry.h"
#include "agent/instance.h"
#include "agent/target.h"
#include "agent/trust.h"
#include "base/memory.h"
#include "common/backoff.h"
#include "protocol/keys.h"
#include "protocol/subjects.h"

/* When NATS comes back, or a hall gets power again, all agents of a fleet notice in one moment.
 * Each waits a random part of these times before it asks or connects. */
#define REJOIN_MS    1000
#define RECONNECT_MS 10000
#define FIRST_MS     5000 /* before the first connection, on a machine … */
#define BOOTING_S    120  /* … that was switched on so short ago */

/* ---- what is heard ---- */

static void on_entry(void *arg, const struct hw_entry *entry)
{
    agent_entry_take(arg, entry);
}

static void on_none(void *arg)
{
    agent_entry_none(arg);
}

static void on_watch_trouble(void *arg, const struct hw_error *why)
{
    agent_core_tell(arg, HW_LOG_WARN, "cannot read the desired entry; trying again until it works",
                    NULL, why->message);
    agent_core_changed(arg);
}

/* Both looks at NATS block: the second one gets a turn of the loop of its own. */
static void on_looked(void *arg)
{
    struct agent *a = arg;

    if (a->check_report)
        agent_reporter_check(a->reporter);
    a->check_report = false;
    agent_core_changed(a);
}

static void on_report_trouble(void *arg, const struct hw_error *why)
{
    agent_core_tell(arg, HW_LOG_WARN, "cannot report; trying again until it works", NULL,
                    why->message);
}

/* NATS has the report of what runs: the node can be reached with it. */
static void on_agreed(void *arg)
{
    struct agent *a = arg;

    agent_core_tell(a, HW_LOG_DEBUG, "reported", NULL, NULL);
    agent_confirmation_reached(a);
}

/* Both agents of one name say so, each in its own log. That NATS answered is all that counts for
 * what was applied. */
static void on_twin(void *arg, const char *instance)
{
    struct agent *a = arg;

    if (instance == NULL)
        agent_core_tell(a, HW_LOG_INFO, "no other agent reports under this node's name any more",
                        NULL, a->twin);
    else if (strcmp(instance, a->twin) != 0)
        agent_core_tell(a, HW_LOG_ERROR,
                        "another agent reports under this node's name; stop one of the two, or "
                        "give it another name",
                        NULL, instance);
    snprintf(a->twin, sizeof(a->twin), "%s", instance != NULL ? instance : "");
    if (instance != NULL)
        agent_confirmation_reached(a);
    agent_core_changed(a);
}

/* The machine was copied while it ran. */
static void on_copied(void *arg)
{
    struct agent *a = arg;

    agent_core_tell(a, HW_LOG_WARN,
                    "another agent goes on as this one: was the machine copied while it ran?", NULL,
                    a->instance);
    agent_instance_draw(a->instance);
    agent_core_report(a);
}

static void on_decided(void *arg, const struct agent_decision *decision)
{
    struct agent *a = arg;
    HW_AUTO_FREE char *detail =
        hw_sprintf("%s, config %s: %s%s%s", decision->ref, decision->config, decision->state,
                   decision->reason[0] != '\0' ? ": " : "", decision->reason);

    agent_core_tell(a, HW_LOG_INFO, "a proposal was decided on", NULL, detail);
    if (a->hooks.decided != NULL)
        a->hooks.decided(a->hooks.arg, decision);
    else
        agent_proposer_forget(a->proposer, decision->ref);
}

static void on_proposer_trouble(void *arg, const char *what, const char *why)
{
    agent_core_tell(arg, HW_LOG_WARN, what, NULL, why);
}

/* ---- up and down ---- */

/* A sign of life comes from the loop, so an agent whose loop is stuck gives none. */
static void beat(void *arg)
{
    struct agent *a = arg;

    hw_nats_signal(a->nats, a->alive, a->instance);
    hw_timer_start(a->loop, &a->heartbeat, hw_jitter_ms(a->options.heartbeat_ms), beat, a);
}

/* What was missed meanwhile is made up for here: the entry is read, the report compared, the
 * proposal sent again. After the first connection of a process this happens at once, because
 * nobody else was interrupted; after a reconnect it happens at a random moment, because all
 * agents were. */
static void on_up(void *arg)
{
    struct agent *a = arg;
    const int64_t beat_ms = a->options.heartbeat_ms;

    agent_core_tell(a, HW_LOG_INFO, "connected to NATS", NULL, hw_nats_url(a->nats));
    agent_trust_reload(a);
    a->check_report = true;
    agent_watch_rejoin(a->watch, a->counts.connected++ > 0 ? hw_random_ms(REJOIN_MS) : 0);
    agent_proposer_look(a->proposer, hw_random_ms(REJOIN_MS), true);
    if (beat_ms > 0)
        hw_timer_start(a->loop, &a->heartbeat,
                       hw_random_ms(beat_ms < REJOIN_MS ? beat_ms : REJOIN_MS), beat, a);
    agent_core_changed(a);
    /* A target that waited for NATS is due; one that waits for its splay goes on waiting. */
    if (a->target.set && (a->failures > 0 || !hw_timer_running(&a->due)))
        agent_target_due_in(a, 0);
}

static void on_down(void *arg, const char *why)
{
    (void)why; /* on_away says it when the cause was found out */
    agent_core_changed(arg);
}

static void on_away(void *arg, const struct hw_nats_away *away)
{
    struct agent *a = arg;
    HW_AUTO_FREE char *detail = away->for_ms > 0
                                    ? hw_sprintf("%s: %s (for %lld s)", away->url, away->why,
                                                 (long long)(away->for_ms / 1000))
                                    : hw_sprintf("%s: %s", away->url, away->why);

    agent_core_tell(a, HW_LOG_WARN,
                    a->counts.connected > 0 ? "lost NATS; going on with what is on disk"
                                            : "NATS cannot be reached; going on with what is on "
                                              "disk",
                    NULL, detail);
    agent_core_changed(a);
}

static void on_files(void *arg, bool warn, const char *what, const char *detail)
{
    agent_core_tell(arg, warn ? HW_LOG_WARN : HW_LOG_INFO, what, NULL, detail);
}

void agent_connection_reload(struct agent *a)
{
    if (a->options.nats == NULL)
        (void)hw_nats_reload(a->nats);
}

/* ---- opening and closing ---- */

static int64_t first_ms(void)
{
    struct timespec up;

    return clock_gettime(CLOCK_BOOTTIME, &up) == 0 && up.tv_sec < BOOTING_S ? FIRST_MS : 0;
}

static enum hw_status open_nats(struct agent *a, struct hw_error *err)
{
    HW_AUTO_FREE char *name = hw_sprintf("headwater-agent %s", a->options.node);
    const struct hw_nats_options options = {.url = a->options.url,
                                            .name = name,
                                            .max_pending = 16,
                                            .reconnect_ms = RECONNECT_MS,
                                            .first_ms = first_ms(),
                                            .files = a->options.nats_files,
                                            .prefix = a->options.nats_prefix};
    const char *const exposed = hw_nats_exposed(&options.files);
    const struct hw_nats_events events = {
        .up = on_up, .down = on_down, .away = on_away, .files = on_files, .arg = a};

    if (a->options.nats != NULL) {
        a->nats = a->options.nats;
        return HW_OK;
    }
    if (exposed != NULL)
        agent_core_tell(a, HW_LOG_WARN,
                        "every user of this machine can read a secret; take their permission away",
                        NULL, exposed);
    return hw_nats_open(a->loop, &options, &events, &a->nats, err);
}

enum hw_status agent_connection_open(struct agent *a, struct hw_error *err)
{
    HW_AUTO_FREE char *reports = hw_reports_bucket(a->options.bucket);
    const struct agent_reporter_events reporter_events = {.trouble = on_report_trouble,
                                                          .agreed = on_agreed,
                                                          .twin = on_twin,
                                                          .copied = on_copied,
                                                          .arg = a};
    const struct agent_watch_events watch_events = {.entry = on_entry,
                                                    .none = on_none,
                                                    .looked = on_looked,
                                                    .trouble = on_watch_trouble,
                                                    .arg = a};
    const struct agent_proposer_events proposer_events = {
        .decided = on_decided, .trouble = on_proposer_trouble, .arg = a};
    enum hw_status status = open_nats(a, err);

    if (status != HW_OK)
        return status;
    a->alive = hw_subject_alive(a->options.bucket, a->options.node);
    a->reporter =
        agent_reporter_new(a->nats, reports, a->options.node, a->options.poll_ms, &reporter_events);
    status = agent_watch_start(a->nats, a->options.bucket, a->options.node, a->options.poll_ms,
                               &watch_events, &a->watch, err);
    if (status != HW_OK)
        return status;
    return agent_proposer_start(&(struct agent_proposer_config){.nats = a->nats,
                                                                .bucket = a->options.bucket,
                                                                .node = a->options.node,
                                                                .state_dir = a->options.state_dir,
                                                                .poll_ms = a->options.poll_ms},
                                &proposer_events, &a->proposer, err);
}

void agent_connection_join(struct agent *a)
{
    if (a->options.nats == NULL)
        return;
    a->shared =
        (struct hw_nats_listener){.up = on_up, .arg = a}; /* its owner is told of its loss */
    hw_nats_listen(a->nats, &a->shared);
    if (hw_nats_up(a->nats))
        on_up(a);
}

void agent_connection_close(struct agent *a)
{
    hw_timer_stop(&a->heartbeat);
    if (a->options.nats == NULL)
        hw_nats_close(a->nats);
    agent_watch_free(a->watch);
    agent_reporter_free(a->reporter);
    agent_proposer_free(a->proposer);
    free(a->alive);
}
