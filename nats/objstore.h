/*
 * Object buckets over JetStream, laid out as NATS ADR-20 says, so that every NATS client reads what
 * we wrote and the reverse: stream OBJ_<bucket>, chunks on $O.<bucket>.C.<nuid>, one metadata
 * message on $O.<bucket>.M.<base64url(name)>. libnats has no object store before 3.11; this module
 * is the place where it would go.
 *
 * Objects are named by the hex of their digest and are never overwritten.
 */
#ifndef HW_NATS_OBJSTORE_H
#define HW_NATS_OBJSTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/digest.h"
#include "nats/connection.h"

/* What a bucket's stream is called: this, and the bucket's name. */
#define HW_OBJ_STREAM "OBJ_"

/* Makes the bucket where it is missing. Blocks. */
enum hw_status hw_obj_ensure(struct hw_nats *nats, const char *bucket, int replicas,
                             struct hw_error *err) HW_CHECKED;

/* HW_OK and *size when the object is there, HW_ENOENT when not. Blocks. */
enum hw_status hw_obj_stat(struct hw_nats *nats, const char *bucket, const char *name, size_t *size,
                           struct hw_error *err) HW_CHECKED;

/*
 * Puts an object without waiting: chunks first, metadata last, and only when every chunk is
 * acknowledged. done is called once, from the loop, with HW_OK when the object is there, by us or
 * by someone before us; metadata that is damaged, or of other bytes, is written over. data is
 * copied piece by piece into messages while this call runs, no longer. Returns HW_EUNAVAIL while a
 * publish cannot be made at all; done is not called then.
 */
enum hw_status hw_obj_put(struct hw_nats *nats, const char *bucket, const char *name,
                          const void *data, size_t size, hw_ack_fn *done, void *arg,
                          struct hw_error *err) HW_CHECKED;

/*
 * Fetches a whole object of at most max bytes and verifies size and digest against its metadata:
 * HW_ENOENT, HW_ELIMIT, HW_ECORRUPT. *data is malloc'ed with a NUL behind; the caller frees it.
 * Reads objects that other clients wrote, of any chunk size. *digest (unless NULL) is that of the
 * bytes handed out. Blocks, at most timeout a chunk.
 */
enum hw_status hw_obj_get(struct hw_nats *nats, const char *bucket, const char *name, size_t max,
                          unsigned char **data, size_t *size, struct hw_digest *digest,
                          struct hw_error *err) HW_CHECKED;

/*
 * Deletes an object: metadata that says so, then its chunks. done is called once, from the loop;
 * HW_OK also when there is none. Others see what is left of a crash in between as a deleted object.
 */
enum hw_status hw_obj_delete(struct hw_nats *nats, const char *bucket, const char *name,
                             hw_ack_fn *done, void *arg, struct hw_error *err) HW_CHECKED;

/*
 * Removes chunks that no object has, as a crash between chunks and metadata leaves them: those
 * whose nuid described does not know, and whose newest is older than older_ms; at most `most`
 * objects' worth. *removed: of how many. Blocks.
 */
typedef bool hw_obj_described_fn(void *arg, const char *nuid);
enum hw_status hw_obj_remove_orphans(struct hw_nats *nats, const char *bucket, int64_t older_ms,
                                     int most, hw_obj_described_fn *described, void *arg,
                                     int *removed, struct hw_error *err) HW_CHECKED;

/*
 * Watches the objects of a bucket, as hw_watch does: entry for each that is there or was deleted,
 * then done once, then entry for every change. there is false for one that is deleted, or whose
 * metadata is damaged or of other bytes than its name says; nuid is that of its chunks, "" when it
 * has none. entry may come again for what is known.
 */
struct hw_obj_watch;
struct hw_obj_watch_events {
    void (*entry)(void *arg, const char *name, const char *nuid, bool there);
    void (*done)(void *arg);
    void (*lost)(void *arg, const struct hw_error *why); /* it could not begin (again): the bucket
                                                            is gone, say. May stop it */
    void *arg;
};
struct hw_obj_watch *hw_obj_watch_start(struct hw_nats *nats, const char *bucket,
                                        const struct hw_obj_watch_events *events);
void hw_obj_watch_stop(struct hw_obj_watch *watch); /* from done too; NULL is fine */

#endif
