/*
 * Looks after the object bucket while a reconciler leads: notes in the sink which objects are
 * there, checks that the bytes of each have the digest that is its name, and removes objects that
 * nobody needs any more.
 */
#ifndef RECONCILER_PUBLISH_OBJECTS_H
#define RECONCILER_PUBLISH_OBJECTS_H

#include "nats/objstore.h"
#include "reconciler/counts/counts.h"
#include "reconciler/publish/sink.h"

struct rec_objects;

struct rec_objects_config {
    struct hw_loop *loop;
    struct hw_nats *nats;
    const char *bucket;
    struct rec_sink *sink;
    struct rec_counts *counts; /* drift and collected */
    int64_t grace_ms;          /* how long an object without use stays; 0: for ever */
};

struct rec_objects_events {
    void (*loaded)(void *arg); /* the sink knows all that is there */
    void (*drift)(void *arg);  /* an object is gone or damaged: a comparison writes it again */
    void (*lost)(void *arg, const struct hw_error *why); /* the bucket cannot be watched any more */
    void *arg;
};

/* Starts watching. */
struct rec_objects *rec_objects_start(const struct rec_objects_config *config,
                                      const struct rec_objects_events *events);
/* A comparison is through: removes objects that had no use for the time of grace, and begins to
 * read the others, one every 5 ms between all other work. */
void rec_objects_compared(struct rec_objects *objects);
void rec_objects_stop(struct rec_objects *objects); /* from its events too; NULL is fine */

#endif
