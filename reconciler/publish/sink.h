/*
 * The sink: what stands in NATS, as far as we know. It is filled from NATS when a reconciler begins
 * to lead, and kept up to date by the reconciler's own acknowledged writes.
 *
 * It has one entry for each key that a node has or had (what the node should run, and what it is
 * told about its proposals), with the sequence number that the next write to the key must name, and
 * one object for each document that is in the object bucket.
 */
#ifndef RECONCILER_PUBLISH_SINK_H
#define RECONCILER_PUBLISH_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/lsn.h"
#include "protocol/entry.h"
#include "protocol/keys.h"
#include "reconciler/publish/decided.h"
#include "reconciler/publish/desired.h"
#include "reconciler/publish/signature.h"

/* A write to a key, as far as the key's entry is concerned: the head of what apply publishes. */
struct rec_write {
    struct rec_write *next; /* the next one that waits for the same key */
};

/* What is known of one key. Everyone reads it; only the functions rec_entry_… below change it. */
struct rec_entry {
    char *key;
    uint64_t seq;             /* 0: the key was never written */
    struct hw_fence fence;    /* of the entry that stands there; zero where it carries none */
    struct hw_digest content; /* rec_content_… of the entry that a comparison read */
    bool known;               /* content is set, and fits the fence of the entry's headers */
    bool deleted;             /* a delete marker, or nothing */
    bool hidden;              /* the server does not find the key by its name (nats/hidden.h) … */
    bool emptied;             /* … and nothing of it is left to be found */
    bool missigned;           /* we sign, and a comparison found that it lacks our signature */
    uint64_t listed;          /* number of the last comparison that read the key … */
    uint64_t seen;            /* … and of the last one whose snapshot had its row */
    int64_t rev;              /* of the newest streamed transaction that touched it; 0: none yet */
    struct rec_write *in_flight;              /* being published; NULL: the key is free */
    struct rec_write *waiting, *waiting_last; /* for the key, in commit order */
    uint64_t last_tx;   /* serial of the last transaction that touched it … */
    size_t last_change; /* … and the place of its change there, for coalescing */
};

struct rec_object {
    char *name;     /* hex of the digest */
    char nuid[40];  /* name of its chunks, as its metadata says; "" where there is none */
    bool there;     /* in the bucket, or on its way there … */
    bool arriving;  /* … and not acknowledged yet */
    uint64_t used;  /* number of the newest comparison during which a row referred to it */
    int64_t unused; /* when a comparison first found no such row, hw_loop_now(); 0: in use */
};

struct rec_sink;
struct rec_sink *rec_sink_new(void);
void rec_sink_free(struct rec_sink *sink);
void rec_sink_clear(struct rec_sink *sink);

bool rec_sink_has_key(const char *key); /* is it the key of an entry? */

/* The rows that entries are made of: of headwater.desired, and of headwater.decided. */
#define REC_SINK_ROWS                                                                              \
    "SELECT " REC_DESIRED_COLUMNS ", false FROM headwater.desired"                                 \
    " UNION ALL SELECT " REC_DECIDED_COLUMNS ", true FROM headwater.decided"
bool rec_sink_is_decided(const PGresult *rows, int n); /* is row n of the latter? */

/* The entry of a key, which lives until clear; NULL: nobody has asked for it yet. */
struct rec_entry *rec_sink_find(const struct rec_sink *sink, const char *key);
/* The same, but made (as never written) where it is missing. */
struct rec_entry *rec_sink_entry(struct rec_sink *sink, const char *key);
size_t rec_sink_nodes(const struct rec_sink *sink); /* entries of what a node should run */
/* Walks over the entries, in no order: start with *at = 0; NULL at the end. */
struct rec_entry *rec_sink_next(const struct rec_sink *sink, size_t *at);
/* The keys of all entries that were written, malloc'ed one by one, in a malloc'ed list. */
char **rec_sink_keys(const struct rec_sink *sink, size_t *count);

/* ---- how an entry changes ---- */

/* An entry was read from NATS when loading: its number, and its fence where it carries one. */
void rec_entry_read(struct rec_entry *entry, const struct hw_entry *found);
/* The same by a comparison, which also keeps what it says. signer: as of rec_signature_stands. */
void rec_entry_compare(struct rec_entry *entry, const struct hw_entry *found,
                       struct hw_signer *signer);
void rec_entry_listed(struct rec_entry *entry, uint64_t comparison); /* it read the key */
void rec_entry_seen(struct rec_entry *entry, uint64_t comparison);   /* its snapshot has the row */
void rec_entry_purged(struct rec_entry *entry); /* the key is gone altogether */

/* The transaction with this serial changes the key: its change number place. */
void rec_entry_touch(struct rec_entry *entry, uint64_t serial, size_t place);
/* The transaction that changes the key commits, as number rev of the changelog. */
void rec_entry_commit(struct rec_entry *entry, int64_t rev);

/* One write to a key is under way at a time; the others wait in their order. */
void rec_entry_begin(struct rec_entry *entry, struct rec_write *write);
void rec_entry_wait(struct rec_entry *entry, struct rec_write *write);
void rec_entry_end(struct rec_entry *entry);               /* of the write that was begun */
struct rec_write *rec_entry_next(struct rec_entry *entry); /* takes the first that waits, or NULL */

/* Our write stands there now. */
void rec_entry_written(struct rec_entry *entry, uint64_t seq, struct hw_fence fence, bool deleted);
/* Someone else's write stands there: the next one must name this number. */
void rec_entry_expect(struct rec_entry *entry, uint64_t seq);
/* The server does not find the key by its name. emptied: nothing of it is left, either. */
void rec_entry_hide(struct rec_entry *entry, bool emptied);
void rec_entry_show(struct rec_entry *entry); /* the server finds it again */

/* ---- objects ---- */

/* Objects, by the hex of their digest; made (as missing) where none is known. */
struct rec_object *rec_sink_object(struct rec_sink *sink, const char *hex);
struct rec_object *rec_sink_next_object(const struct rec_sink *sink, size_t *at);
size_t rec_sink_objects(const struct rec_sink *sink); /* that are there */

/* Comparisons are numbered from 1. */
uint64_t rec_sink_comparison(const struct rec_sink *sink); /* the newest */
uint64_t rec_sink_begin_comparison(struct rec_sink *sink);

#endif
