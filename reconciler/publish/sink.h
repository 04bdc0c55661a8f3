/*
 * What stands in the sink, as far as we know: one entry for each key that a node has, or had, in KV
 * (what it should run, what it is told about its proposals), with the sequence that the next write
 * to it must expect, and the objects that are there. Filled from
 * NATS when a reconciler begins to lead, kept up to date by its own acknowledged writes.
 */
#ifndef RECONCILER_PUBLISH_SINK_H
#define RECONCILER_PUBLISH_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/digest.h"
#include "common/lsn.h"
#include "nats/kv.h"
#include "reconciler/publish/decided.h"
#include "reconciler/publish/desired.h"

struct rec_change;

struct rec_entry {
    char *key;
    uint64_t seq;          /* 0: the key was never written */
    struct hw_fence fence; /* of what stands there; zero where it carries none */
    uint64_t hash;         /* rec_…_hash of what a comparison read there; 0: deleted or none */
    uint64_t comparison;   /* number of the comparison that read the key last … */
    uint64_t seen;         /* … and of the one whose snapshot had its row last */
    bool deleted;          /* a delete marker, or nothing */
    bool missigned;        /* a comparison did not find our signature on it, where we sign */
    int64_t rev;           /* of the newest streamed transaction that touched it; 0: none yet */
    struct rec_change *in_flight;              /* being published */
    struct rec_change *waiting, *waiting_last; /* for the same key, in commit order */
    uint64_t last_tx;   /* serial of the last transaction that touched it … */
    size_t last_change; /* … and the place of its change there: for coalescing */
};

struct rec_object {
    char *name;     /* hex of the digest */
    char nuid[40];  /* of its chunks, as its metadata says; "" where there is none */
    bool there;     /* in the bucket, or on its way … */
    bool arriving;  /* … which it still is */
    uint64_t used;  /* number of the newest comparison during which a row referred to it */
    int64_t unused; /* hw_loop_now() when a comparison first found that none does; 0: in use */
};

struct rec_sink;
struct rec_sink *rec_sink_new(void);
void rec_sink_free(struct rec_sink *sink);
void rec_sink_clear(struct rec_sink *sink);

#define REC_SINK_KEYS "cfg.*.>"         /* a filter that every entry's key matches */
bool rec_sink_has_key(const char *key); /* is it the key of an entry? */
/* Of what the value of such an entry says: rec_desired_hash or rec_decided_hash; 0: nothing. */
uint64_t rec_sink_hash_of_entry(const struct hw_kv_entry *entry);

/* The rows that entries are made of: of headwater.desired, and of headwater.decided. */
#define REC_SINK_ROWS                                                                              \
    "SELECT " REC_DESIRED_COLUMNS ", false FROM headwater.desired"                                 \
    " UNION ALL SELECT " REC_DECIDED_COLUMNS ", true FROM headwater.decided"
bool rec_sink_is_decided(const PGresult *rows, int n); /* is row n of the latter? */

/* The entry of a key; made (as never written) where it is missing. Lives until clear. */
struct rec_entry *rec_sink_entry(struct rec_sink *sink, const char *key);
size_t rec_sink_nodes(const struct rec_sink *sink); /* entries of what a node should run */
/* Walks over the entries, in no order: start with *at = 0; NULL at the end. */
struct rec_entry *rec_sink_next(const struct rec_sink *sink, size_t *at);

/* Objects, by the hex of their digest; made (as missing) where none is known. */
struct rec_object *rec_sink_object(struct rec_sink *sink, const char *hex);
struct rec_object *rec_sink_next_object(const struct rec_sink *sink, size_t *at);
size_t rec_sink_objects(const struct rec_sink *sink); /* that are there */

/* Comparisons are numbered from 1. */
uint64_t rec_sink_comparison(const struct rec_sink *sink); /* the newest */
uint64_t rec_sink_begin_comparison(struct rec_sink *sink);

#endif
