#include "reconciler/intake/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"

enum { IDS = 4 };

/* GONE: the node was deleted, or is in a state that this version does not know. */
enum state { IN_SYNC, PENDING, FAILED, UNASSIGNED, CONFLICT, UNKNOWN, GONE };
static const char *const names[] = {"in_sync",    "pending",  "failed",
                                    "unassigned", "conflict", "unknown"};

struct node {
    char *name;
    enum state state;
    double changed_at;         /* when its desired state changed, Unix seconds; 0: it has none */
    struct node *next, **link; /* among those that are pending */
};

struct rec_fleet {
    struct hw_map nodes;
    struct node *pending;
    size_t counts[GONE + 1];
    bool loaded;
    char ids[IDS][24]; /* the last ids of the histories that were read */
    const char *values[IDS];
};

#define COLUMNS                                                                                    \
    "extract(epoch FROM clock_timestamp()), i.desired_id, i.reported_id, i.audit_id,"              \
    " i.liveness_id, u.names, u.is_full::int, f.node, f.state,"                                    \
    " coalesce(extract(epoch FROM f.desired_changed_at), 0)"                                       \
    " FROM headwater.fleet_ids() AS i CROSS JOIN headwater.unknown_count() AS u LEFT JOIN "
enum { NOW, FIRST_ID, STRANGERS = FIRST_ID + IDS, FULL, NODE, STATE, CHANGED_AT };

static const char all_sql[] = "SELECT " COLUMNS "headwater.fleet AS f ON true";
static const char changes_sql[] =
    "SELECT " COLUMNS "headwater.fleet_changes($1, $2, $3, $4) AS f ON true";

struct rec_fleet *rec_fleet_new(void)
{
    return hw_alloc(sizeof(struct rec_fleet));
}

void rec_fleet_clear(struct rec_fleet *fleet)
{
    size_t at = 0;
    struct node *node;

    while ((node = hw_map_next(&fleet->nodes, &at)) != NULL) {
        free(node->name);
        free(node);
    }
    hw_map_clear(&fleet->nodes);
    *fleet = (struct rec_fleet){0};
}

void rec_fleet_free(struct rec_fleet *fleet)
{
    if (fleet == NULL)
        return;
    rec_fleet_clear(fleet);
    free(fleet);
}

struct hw_db_query rec_fleet_query(struct rec_fleet *fleet)
{
    if (!fleet->loaded)
        return (struct hw_db_query){.sql = all_sql};
    for (size_t i = 0; i < IDS; i++)
        fleet->values[i] = fleet->ids[i];
    return (struct hw_db_query){.sql = changes_sql, .count = IDS, .values = fleet->values};
}

static enum state state_of(const char *name)
{
    enum state state = IN_SYNC;

    while (state < GONE && strcmp(names[state], name) != 0)
        state++;
    return state;
}

static struct node *node_of(struct rec_fleet *fleet, const char *name)
{
    struct node *node = hw_map_get(&fleet->nodes, name);

    if (node == NULL) {
        node = hw_alloc(sizeof(*node));
        node->name = hw_strdup(name);
        node->state = GONE;
        fleet->counts[GONE]++;
        hw_map_add(&fleet->nodes, node->name, node);
    }
    return node;
}

static void move(struct rec_fleet *fleet, struct node *node, enum state state)
{
    if (node->state == state)
        return;
    if (node->state == PENDING) {
        *node->link = node->next;
        if (node->next != NULL)
            node->next->link = node->link;
    }
    if (state == PENDING) {
        node->next = fleet->pending;
        node->link = &fleet->pending;
        if (node->next != NULL)
            node->next->link = &node->next;
        fleet->pending = node;
    }
    fleet->counts[node->state]--;
    fleet->counts[state]++;
    node->state = state;
}

void rec_fleet_take(struct rec_fleet *fleet, const PGresult *result, struct rec_counts *counts)
{
    const double now = strtod(PQgetvalue(result, 0, NOW), NULL);
    double oldest = now;

    for (int i = 0; i < IDS; i++)
        snprintf(fleet->ids[i], sizeof(fleet->ids[i]), "%s", PQgetvalue(result, 0, FIRST_ID + i));
    fleet->loaded = true;
    for (int row = 0; row < PQntuples(result) && !PQgetisnull(result, row, NODE); row++) {
        struct node *node = node_of(fleet, PQgetvalue(result, row, NODE));

        node->changed_at = strtod(PQgetvalue(result, row, CHANGED_AT), NULL);
        move(fleet, node, state_of(PQgetvalue(result, row, STATE)));
    }
    for (const struct node *node = fleet->pending; node != NULL; node = node->next)
        if (node->changed_at < oldest)
            oldest = node->changed_at;
    counts->in_sync = (double)fleet->counts[IN_SYNC];
    counts->pending = (double)fleet->counts[PENDING];
    counts->failed = (double)fleet->counts[FAILED];
    counts->unassigned = (double)fleet->counts[UNASSIGNED];
    counts->conflict = (double)fleet->counts[CONFLICT];
    counts->unknown = (double)fleet->counts[UNKNOWN];
    counts->pending_seconds = now - oldest;
    counts->unknown_nodes = strtod(PQgetvalue(result, 0, STRANGERS), NULL);
    counts->unknown_nodes_full = strtod(PQgetvalue(result, 0, FULL), NULL);
}
