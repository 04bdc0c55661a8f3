/*
 * The database's side of verify: all rows of desired and decided at one moment, from one read-only
 * transaction, and which object each of them needs. The NATS side is put into the same structures:
 * into keys by keys.c, into objects by documents.c.
 */
#ifndef RECONCILER_COMPARE_SNAPSHOT_H
#define RECONCILER_COMPARE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/lsn.h"
#include "base/map.h"
#include "reconciler/compare/session.h"

struct rec_snapshot_object {
    int64_t size;
    const char *node; /* one of the nodes that need it */
    char *says;       /* what is wrong with it in NATS, or NULL */
    bool wanted;      /* a node still needed it when it was asked again */
    char digest[HW_DIGEST_STR_MAX];
};

/* What both sides say of one key of a node. 100,000 of them take about 20 MB. */
struct rec_snapshot_key {
    struct hw_digest wanted; /* rec_content_… of the row, where there is one … */
    struct hw_digest found;  /* … and of the key's value, where it is an entry of ours */
    bool has_row, is_entry;
    bool present;   /* the key has a value */
    bool decided;   /* what the node is told about its proposals, not what it is to run */
    bool misfenced; /* the headers have no fence, or another one than the value */
    bool missigned;
    bool hidden;   /* nats-server does not find it by its name (nats/hidden.h) */
    bool is_newer; /* its fence is newer than the snapshot */
    bool is_later; /* what stands in NATS is what a change after the snapshot made of it */
    int64_t revision;
    struct rec_snapshot_object *object;
    const char *name; /* of the node: the end of the key */
    char *says;       /* the key's entry in words, where it is not what the row says */
    char key[];
};

struct rec_snapshot {
    int64_t rev; /* of the newest change that it has */
    hw_lsn lsn;  /* everything behind it is newer */
    uint64_t system_id;
    uint32_t timeline;
    struct hw_map keys;    /* struct rec_snapshot_key by key */
    struct hw_map objects; /* struct rec_snapshot_object by digest */
    size_t desired;        /* nodes with a row */
};

enum hw_status rec_snapshot_read(struct rec_snapshot *snapshot, struct rec_session *session,
                                 struct hw_error *err) HW_CHECKED;
void rec_snapshot_clear(struct rec_snapshot *snapshot);

/* Adds a key that the sink has (rec_sink_has_key), and that is not there yet. */
struct rec_snapshot_key *rec_snapshot_add(struct rec_snapshot *snapshot, const char *key);

/* Adds a name that needs no escapes to the text of an SQL array. */
void rec_snapshot_add_name(struct hw_buf *array, const char *name);

#endif
