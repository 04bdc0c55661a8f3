#include "tests/recovery/proposals.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/disk/store.h"
#include "agent/proposal.h"
#include "base/json.h"
#include "base/map.h"
#include "base/memory.h"
#include "tests/recovery/fleet.h"
#include "tests/support/process.h"

enum {
    SENT_MOST = 3 * 12, /* an agent keeps 16 decisions, and the database takes 60 an hour */
    OF_A_NODE = 12,
    PAUSE_MS = 700, /* between two proposals, at most */
};

/* One that a node made. */
struct sent {
    char node[16], state_dir[192], ref[AGENT_REF_MAX];
};

/* One as the log has it. */
struct taken {
    char id[24];
    char *node, *ref, *state;
    bool is_deleted;
};

struct proposals {
    struct chance chance;
    double next_at;
    struct sent sent[SENT_MOST];
    int count;
    struct hw_map taken; /* of struct taken, by id */
};

struct proposals *proposals_new(uint64_t seed)
{
    struct proposals *p = hw_alloc(sizeof(*p));

    p->chance = chance_of(seed, 3);
    return p;
}

static void forget(struct proposals *p)
{
    struct taken *t;

    for (size_t at = 0; (t = hw_map_next(&p->taken, &at)) != NULL;) {
        free(t->node);
        free(t->ref);
        free(t->state);
        free(t);
    }
    hw_map_clear(&p->taken);
}

void proposals_free(struct proposals *p)
{
    forget(p);
    free(p);
}

int proposals_count(const struct proposals *p)
{
    return p->count;
}

/* ---- proposing ---- */

/* One of the configs that the running document is made of, malloc'ed; NULL while nothing runs. */
static char *a_source(struct proposals *p, const char *state_dir)
{
    HW_AUTO_FREE char *owner = NULL;
    struct agent_state state;
    struct hw_error err;
    bool alive;

    if (agent_store_peek(state_dir, NULL, &state, &owner, &alive, &err) != HW_OK ||
        !state.running.set)
        return NULL;
    HW_AUTO_FREE char *text = agent_store_sources(state_dir, &state.running);
    HW_AUTO_JSON json_t *sources = text != NULL ? json_loads(text, 0, NULL) : NULL;
    const char *name = NULL;
    json_t *source;
    size_t i;

    /* Mostly the one that nobody but nodes changes: other proposals are overtaken. */
    json_array_foreach(sources, i, source) {
        const char *config = json_string_value(json_object_get(source, "config"));

        if (name == NULL || chance_in(&p->chance, 3) || strcmp(config, "open") == 0)
            name = config;
    }
    return name != NULL ? hw_strdup(name) : NULL;
}

void proposals_tick(struct proposals *p, const char *node, const char *state_dir)
{
    HW_AUTO_FREE char *config = NULL;
    HW_AUTO_FREE char *content = NULL;
    struct sent *sent = &p->sent[p->count];
    struct hw_error err;
    int own = 0;

    for (int i = 0; i < p->count; i++)
        own += strcmp(p->sent[i].node, node) == 0;
    if (test_now() < p->next_at || own == OF_A_NODE || p->count == SENT_MOST)
        return;
    p->next_at = test_now() + chance_below(&p->chance, PAUSE_MS) / 1000.0;
    config = a_source(p, state_dir);
    if (config == NULL)
        return;
    content = hw_sprintf("{\"proposed\":%d}", chance_below(&p->chance, 5));
    snprintf(sent->node, sizeof(sent->node), "%s", node);
    snprintf(sent->state_dir, sizeof(sent->state_dir), "%s", state_dir);
    /* One in eight is about a config that it may not have, or an old revision. */
    const bool is_bad = chance_in(&p->chance, 8);
    const struct agent_proposal proposal = {.config = is_bad ? "c1" : config,
                                            .base_revision = is_bad ? 1 : 0,
                                            .data = content,
                                            .size = strlen(content),
                                            .message = "as measured"};
    /* What runs may have changed since. */
    if (agent_proposal_put(state_dir, node, &proposal, sent->ref, &err) == HW_OK)
        p->count++;
}

/* ---- is it quiet? ---- */

char *proposals_unsettled(struct proposals *p, const struct test_postgres *pg)
{
    struct agent_decision decision;
    struct hw_error err;

    free(test_sql(pg, "SELECT headwater.reject(id, 'the run ends') FROM headwater.proposal"
                      " WHERE state = 'pending'"));
    for (int i = 0; i < p->count; i++) {
        const struct sent *s = &p->sent[i];

        if (agent_decision_get(s->state_dir, s->ref, &decision, &err) != HW_OK)
            return hw_sprintf("%s does not know what became of its proposal %s: %s", s->node,
                              s->ref, err.message);
    }
    return NULL;
}

/* ---- the rules ---- */

static const struct taken *standing(const struct proposals *p, const char *node, const char *ref)
{
    struct taken *t;

    for (size_t at = 0; (t = hw_map_next(&p->taken, &at)) != NULL;)
        if (!t->is_deleted && strcmp(t->node, node) == 0 && strcmp(t->ref, ref) == 0)
            return t;
    return NULL;
}

static bool is_decision(const char *state)
{
    return strcmp(state, "approved") == 0 || strcmp(state, "rejected") == 0 ||
           strcmp(state, "conflict") == 0;
}

static void read_new(struct proposals *p, struct checker *c, const char *id,
                     const struct wal_change *change)
{
    const char *node = wal_text(change, "node"), *ref = wal_text(change, "ref");
    const struct taken *other = standing(p, node, ref);
    struct taken *t = hw_alloc(sizeof(*t));

    if (other != NULL)
        checker_problem(c, node, "its proposal %s was taken twice, as %s and %s", ref, other->id,
                        id);
    snprintf(t->id, sizeof(t->id), "%s", id);
    t->node = hw_strdup(node);
    t->ref = hw_strdup(ref);
    t->state = hw_strdup(wal_text(change, "state"));
    hw_map_add(&p->taken, t->id, t);
}

void proposals_read(struct proposals *p, struct checker *c, const struct wal_change *change)
{
    HW_AUTO_FREE char *id = hw_sprintf("%" PRId64, wal_number(change, "id"));
    struct taken *t = hw_map_get(&p->taken, id);

    if (change->action == 'I') {
        read_new(p, c, id, change);
    } else if (t == NULL) {
        checker_problem(c, "proposals", "%s changes, and never was", id);
    } else if (change->action == 'D') {
        t->is_deleted = true;
    } else {
        const char *state = wal_text(change, "state");

        if (strcmp(state, t->state) != 0 &&
            (strcmp(t->state, "pending") != 0 || !is_decision(state)))
            checker_problem(c, t->node, "its proposal %s (%s) was %s, and then %s", t->ref, id,
                            t->state, state);
        free(t->state);
        t->state = hw_strdup(state);
    }
}

/* The rules that the tables must keep: each query counts what breaks one. */
static const struct {
    const char *what, *sql;
} table_rules[] = {
    {"approvals whose revision has not what was proposed",
     "SELECT count(*) FROM headwater.proposal p LEFT JOIN headwater.config_revision r"
     " ON (r.config, r.revision) = (p.config, p.revision)"
     " WHERE p.state = 'approved' AND r.digest IS DISTINCT FROM p.digest"},
    /* What the config has already makes no revision. */
    {"approvals that did not make the next revision",
     "SELECT count(*) FROM headwater.proposal WHERE state = 'approved'"
     " AND revision NOT IN (base_revision, base_revision + 1)"},
    {"revisions that two approvals made",
     "SELECT count(*) - count(DISTINCT (config, revision)) FROM headwater.proposal"
     " WHERE state = 'approved' AND revision > base_revision"},
    {"nodes that are not told what their proposals say",
     "SELECT count(*) FROM (SELECT DISTINCT node FROM headwater.proposal) p"
     " FULL JOIN headwater.decided d USING (node)"
     " WHERE d.decisions IS DISTINCT FROM headwater.decisions_of(node)"},
};

static void judge_tables(struct checker *c, const struct test_postgres *pg)
{
    for (size_t i = 0; i < HW_COUNT(table_rules); i++) {
        HW_AUTO_FREE char *count = test_sql(pg, "%s", table_rules[i].sql);

        if (strcmp(count, "0") != 0)
            checker_problem(c, "proposals", "%s: %s", table_rules[i].what, count);
    }
}

void proposals_judge(struct proposals *p, struct checker *c, const struct test_postgres *pg)
{
    struct agent_decision d;
    struct hw_error err;

    judge_tables(c, pg);
    for (int i = 0; i < p->count; i++) {
        const struct sent *s = &p->sent[i];

        if (agent_decision_get(s->state_dir, s->ref, &d, &err) != HW_OK) {
            checker_problem(c, s->node, "it does not know what became of %s", s->ref);
            continue;
        }
        HW_AUTO_FREE char *id = hw_sprintf("%" PRId64, d.id);
        const struct taken *t = hw_map_get(&p->taken, id);
        if (t == NULL || strcmp(t->node, s->node) != 0 || strcmp(t->ref, s->ref) != 0 ||
            strcmp(t->state, d.state) != 0)
            checker_problem(c, s->node, "it was told that %s (%s) is %s, and the log has %s %s",
                            s->ref, id, d.state, t != NULL ? t->ref : "none",
                            t != NULL ? t->state : "");
    }
    forget(p);
}
