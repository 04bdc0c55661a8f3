#include "agent/proposer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/backoff.h"
#include "protocol/keys.h"
#include "protocol/subjects.h"

#define RETRY_LIMIT_MS 60000

struct agent_proposer {
    struct agent_proposer_config config;
    struct agent_proposer_events events;
    char *reports, *proposed_key, *decided_key;
    struct hw_timer timer;
    char sent[AGENT_REF_MAX]; /* the proposal in the key, as far as is known; "": nothing is known …
                               */
    int64_t sent_at;          /* … and since when, hw_loop_now() */
    char told[AGENT_PROPOSALS_MAX]
             [AGENT_REF_MAX]; /* decisions that were told and are not forgotten yet */
    size_t told_count;
    int failures; /* in a row */
};

static void look(void *arg);

static void look_in(struct agent_proposer *p, int64_t ms)
{
    hw_timer_start(hw_nats_loop(p->config.nats), &p->timer, ms, look, p);
}

static void failed(struct agent_proposer *p, const char *what, const struct hw_error *why)
{
    if (p->failures++ == 0)
        p->events.trouble(p->events.arg, what, why->message);
    look_in(p, hw_backoff_ms(p->failures, RETRY_LIMIT_MS));
}

/* ---- decisions ---- */

static bool was_told(const struct agent_proposer *p, const char *ref)
{
    for (size_t i = 0; i < p->told_count; i++)
        if (strcmp(p->told[i], ref) == 0)
            return true;
    return false;
}

static void tell(struct agent_proposer *p, const struct agent_decision *decision)
{
    if (was_told(p, decision->ref) || p->told_count == AGENT_PROPOSALS_MAX)
        return;
    memcpy(p->told[p->told_count++], decision->ref, AGENT_REF_MAX);
    p->events.decided(p->events.arg, decision);
}

void agent_proposer_forget(struct agent_proposer *p, const char *ref)
{
    struct hw_error err;

    if (agent_proposal_forget(p->config.state_dir, ref, &err) != HW_OK) {
        failed(p, "cannot forget a proposal that was decided on", &err);
        return; /* the decision is told again after a restart */
    }
    for (size_t i = 0; i < p->told_count; i++)
        if (strcmp(p->told[i], ref) == 0)
            memcpy(p->told[i], p->told[--p->told_count], AGENT_REF_MAX);
}

/* The decision is kept on disk before it is told, because it must be told until it is forgotten. */
static bool settle(struct agent_proposer *p, const struct agent_decision *decision)
{
    struct hw_error err;

    if (agent_decision_put(p->config.state_dir, decision, &err) != HW_OK) {
        failed(p, "cannot keep what was decided on a proposal", &err);
        return false;
    }
    tell(p, decision);
    return true;
}

/* ---- sending ---- */

/* A proposal that is in the key is written again only after half the time between looks, because
 * the hint of its decision usually comes before that. */
static bool was_sent(const struct agent_proposer *p, const char *ref)
{
    return strcmp(p->sent, ref) == 0 && hw_loop_now() - p->sent_at < p->config.poll_ms / 2;
}

/* Sends one proposal. False: it cannot be sent now. */
static bool send(struct agent_proposer *p, const char ref[static AGENT_REF_MAX])
{
    struct agent_decision decision = {.state = "refused"};
    HW_AUTO_FREE char *text = NULL;
    struct hw_error err;
    enum hw_status status;
    size_t len = 0;

    status = agent_proposal_get(p->config.state_dir, ref, &text, &len, &err);
    if (status == HW_OK)
        status = hw_kv_put(p->config.nats, p->reports, p->proposed_key, text, len, HW_SEQ_ANY, NULL,
                           &err);
    if (status == HW_OK) {
        memcpy(p->sent, ref, sizeof(p->sent));
        p->sent_at = hw_loop_now();
        return true;
    }
    if (status != HW_ELIMIT) {
        failed(p, "cannot send a proposal; trying again until it works", &err);
        return false;
    }
    /* Trying again is of no use: the server takes no message of that size, or the file is no
     * proposal. */
    memcpy(decision.ref, ref, sizeof(decision.ref));
    snprintf(decision.reason, sizeof(decision.reason), "%s", err.message);
    if (!settle(p, &decision))
        return false;
    look_in(p, 0); /* so that the next proposal is sent */
    return true;
}

/* ---- looking ---- */

/* Hears what the entry says of the proposals in refs, which are not decided on. *next becomes the
 * first one that the entry does not name. */
static bool hear(struct agent_proposer *p, char refs[][AGENT_REF_MAX], size_t count,
                 const struct hw_entry *entry, const char **next)
{
    struct agent_decision decision;
    struct hw_error err;

    for (size_t i = 0; i < count; i++) {
        const enum hw_status status =
            entry == NULL ? HW_ENOENT
                          : agent_decision_find(entry, p->config.node, refs[i], &decision, &err);

        if (status == HW_ENOENT) {
            if (*next == NULL)
                *next = refs[i];
        } else if (status != HW_OK) {
            failed(p, "refused the entry with decisions", &err);
            return false;
        } else if (strcmp(decision.state, "pending") != 0 && !settle(p, &decision)) {
            return false;
        }
    }
    return true;
}

/* Reads the decisions, and sends the first proposal that is not decided on. */
static void ask(struct agent_proposer *p, char refs[][AGENT_REF_MAX], size_t count)
{
    struct hw_kv_entry found = {0};
    const char *next = NULL;
    struct hw_error err;
    enum hw_status status;
    bool good;

    status = hw_kv_get(p->config.nats, p->config.bucket, p->decided_key, &found, &err);
    if (status != HW_OK && status != HW_ENOENT) {
        failed(p, "cannot read what is decided on proposals; trying again until it works", &err);
        return;
    }
    const struct hw_entry entry = hw_entry_of(&found);
    good = hear(p, refs, count, status == HW_OK ? &entry : NULL, &next);
    if (status == HW_OK)
        hw_kv_entry_clear(&found);
    if (good && (next == NULL || was_sent(p, next) || send(p, next)))
        p->failures = 0;
}

static void look(void *arg)
{
    struct agent_proposer *p = arg;
    char refs[AGENT_PROPOSALS_MAX][AGENT_REF_MAX];
    struct agent_decision decision;
    const size_t all = agent_proposal_list(p->config.state_dir, refs);
    size_t count = 0;

    for (size_t i = 0; i < all; i++) {
        if (agent_decision_get(p->config.state_dir, refs[i], &decision, NULL) == HW_OK)
            tell(p, &decision);
        else
            memmove(refs[count++], refs[i], AGENT_REF_MAX);
    }
    if (count == 0)
        return;
    if (hw_nats_up(p->config.nats))
        ask(p, refs, count);
    if (!hw_timer_running(&p->timer))
        look_in(p, hw_jitter_ms(p->config.poll_ms));
}

void agent_proposer_look(struct agent_proposer *p, int64_t within_ms, bool again)
{
    if (again)
        p->sent[0] = '\0';
    if (!hw_timer_running(&p->timer) || p->timer.due > hw_loop_now() + within_ms)
        look_in(p, within_ms);
}

static void on_hint(void *arg, natsMsg *msg)
{
    (void)msg;
    agent_proposer_look(arg, 0, false);
}

/* ---- life ---- */

enum hw_status agent_proposer_start(const struct agent_proposer_config *config,
                                    const struct agent_proposer_events *events,
                                    struct agent_proposer **out, struct hw_error *err)
{
    HW_AUTO_FREE char *subject = hw_subject_hint(config->bucket, HW_HINT_DECIDED, config->node);
    struct agent_proposer *p = hw_alloc(sizeof(*p));
    struct hw_nats_sub *sub; /* closed with the connection */

    p->config = *config;
    p->events = *events;
    p->reports = hw_reports_bucket(config->bucket);
    p->proposed_key = hw_sprintf(HW_KEY_PROPOSED "%s", config->node);
    p->decided_key = hw_sprintf(HW_KEY_DECIDED "%s", config->node);
    if (hw_nats_subscribe(config->nats, subject, on_hint, p, &sub, err) != HW_OK) {
        agent_proposer_free(p);
        return err->status;
    }
    *out = p;
    return HW_OK;
}

void agent_proposer_free(struct agent_proposer *p)
{
    if (p == NULL)
        return;
    hw_timer_stop(&p->timer);
    free(p->reports);
    free(p->proposed_key);
    free(p->decided_key);
    free(p);
}
