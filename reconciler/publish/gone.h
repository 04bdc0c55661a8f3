/*
 * Nodes that are gone. A node that was deleted leaves keys behind: the mark of its deletion, for
 * agents that are away just then, and what the node itself sent last. When it has been gone for a
 * time of grace, its keys are purged, so that whoever reads a bucket whole reads the fleet and not
 * its past.
 *
 * The table headwater.gone says which nodes are meant, and whether it was done; so a purge outlasts
 * whoever is killed. No fence is broken by it: an entry goes only when a stored checkpoint covers
 * it, so that no log that may be read again makes it; and a purge leaves what is newer than the
 * moment at which the database was asked, for the node may have been made again since. A purge
 * writes no message, so it wakes nobody.
 */
#ifndef RECONCILER_PUBLISH_GONE_H
#define RECONCILER_PUBLISH_GONE_H

#include <libpq-fe.h>

#include "pg/database.h"
#include "reconciler/counts/counts.h"
#include "reconciler/publish/apply.h"
#include "reconciler/publish/sink.h"

struct rec_gone;

struct rec_gone_config {
    struct hw_loop *loop;
    struct hw_nats *nats;
    const char *bucket, *reports;
    const struct rec_sink *sink;
    const struct rec_apply *apply; /* knows the stored checkpoint */
    struct rec_counts *counts;     /* purged */
    int64_t grace_ms;              /* 0: keys stay for ever */
    bool anew; /* NATS may hold keys again that were purged: it came back from a backup */
};

struct rec_gone *rec_gone_start(const struct rec_gone_config *config);
void rec_gone_stop(struct rec_gone *gone); /* NULL is fine */

/* The statement to ask with, valid until the next call; its result goes to rec_gone_take, which
 * begins to purge the keys of the nodes in it, one node every 5 ms between all other work. When the
 * statement fails, the next one tells and asks the same again. */
struct hw_db_query rec_gone_query(struct rec_gone *gone);
void rec_gone_take(struct rec_gone *gone, const PGresult *nodes);

#endif
