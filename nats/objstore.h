/*
 * Object buckets over JetStream, laid out as NATS ADR-20 says, so that every NATS client reads
 * objects that are written here, and the reverse: stream OBJ_<bucket>, chunks on
 * $O.<bucket>.C.<nuid>, and one metadata message on $O.<bucket>.M.<base64url(name)>. libnats has no
 * object store before 3.11; this module is the place where it would go.
 *
 * Objects are named by the hex of their digest and are never overwritten.
 */
#ifndef HW_NATS_OBJSTORE_H
#define HW_NATS_OBJSTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
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
 * Puts an object without waiting. The metadata are written last, when every chunk is acknowledged,
 * so that whoever finds metadata finds all chunks as well. done is called once, from the loop, with
 * HW_OK when the object is there, whether this call or someone before put it there; metadata that
 * are damaged, or of other bytes, are written over. data is copied into messages during this call
 * and not needed afterwards. HW_EUNAVAIL while nothing can be published; done is not called then.
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
 * Deletes an object: first new metadata say that it is deleted, then its chunks go. After a crash
 * in between, others see a deleted object. done is called once, from the loop, with HW_OK also when
 * there is no such object.
 */
enum hw_status hw_obj_delete(struct hw_nats *nats, const char *bucket, const char *name,
                             hw_ack_fn *done, void *arg, struct hw_error *err) HW_CHECKED;

/*
 * Removes orphans: chunks that no metadata describe, as a crash between chunks and metadata leaves
 * them. They are the chunks whose nuid `described` does not know, and of which the newest is older
 * than older_ms. At most those of `most` objects are removed; *removed says of how many. Blocks.
 */
typedef bool hw_obj_described_fn(void *arg, const char *nuid);
enum hw_status hw_obj_remove_orphans(struct hw_nats *nats, const char *bucket, int64_t older_ms,
                                     int most, hw_obj_described_fn *described, void *arg,
                                     int *removed, struct hw_error *err) HW_CHECKED;

/*
 * Watches the objects of a bucket in the way of watch.h: entry is called for each object that is
 * there or was deleted, then done once, then entry for every change. there is false for an object
 * that is deleted, and for one whose metadata are damaged or of other bytes than its name says.
 * nuid is that of its chunks, or "". entry may be called again for an object that has not changed.
 */
struct hw_obj_watch;
struct hw_obj_watch_events {
    void (*entry)(void *arg, const char *name, const char *nuid, bool there);
    void (*done)(void *arg);
    /* The watch could not begin, or not begin anew, because the bucket is gone, for example. It may
     * be stopped from here. */
    void (*lost)(void *arg, const struct hw_error *why);
    void *arg;
};
struct hw_obj_watch *hw_obj_watch_start(struct hw_nats *nats, const char *bucket,
                                        const struct hw_obj_watch_events *events);
void hw_obj_watch_stop(struct hw_obj_watch *watch); /* from done too; NULL is fine */

#endif
