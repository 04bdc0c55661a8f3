/*
 * Hidden keys: keys about which a nats-server contradicts itself.
 *
 * nats-server 2.9 keeps, for each subject of a stream, how many messages it has and in which of
 * the stream's files the first and the last of them are. After SIGKILL it makes this index anew,
 * and errs in two ways (read in 2.9.10 and 2.9.25, reproduced with both). Removals that were not
 * yet written down are forgotten, so that a key has more messages than the bucket keeps. And the
 * files are read in the order of their names, "10.blk" before "2.blk", and the first file that is
 * met is taken for the one with the first message. To get down to the limit the server then
 * removes the newest messages of the key, and what is left of it lies in front of where it looks:
 *
 *   - asked for the last message of the key, and when it checks the sequence that a write expects,
 *     it finds none;
 *   - a consumer of many keys, and a search from a sequence number on, find the older messages;
 *   - a new message is acknowledged, counts as one too many, is the first that is met, and is
 *     removed at once.
 *
 * The way out, found by trying: a purge of all but the newest message of the key makes its count
 * small again, so that new messages stay, and nothing is lost by it. The key is found again from
 * the next write on. Where a bucket keeps a single message of each key even that one must go.
 */
#ifndef HW_NATS_HIDDEN_H
#define HW_NATS_HIDDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nats/connection.h"

/*
 * Has the key, which the server does not find by its name, messages nevertheless? HW_OK, with the
 * sequence number of the newest; HW_ENOENT: it has none. Asks about forty times. Blocks.
 */
enum hw_status hw_hidden_find(struct hw_nats *nats, const char *bucket, const char *key,
                              uint64_t *seq, struct hw_error *err) HW_CHECKED;

/* Removes the key's messages in front of a sequence number; 0: all. Fails with HW_ECORRUPT, which
 * says what is wrong with the key and what to do, where the server does not let us. Blocks. */
enum hw_status hw_hidden_purge(struct hw_nats *nats, const char *bucket, const char *key,
                               uint64_t before, struct hw_error *err) HW_CHECKED;

/* A write to such a key was acknowledged with this sequence number: is it there? Blocks. */
enum hw_status hw_hidden_kept(struct hw_nats *nats, const char *bucket, const char *key,
                              uint64_t seq, bool *kept, struct hw_error *err) HW_CHECKED;

/* The error for a key whose writes vanish whatever was done: HW_ECORRUPT. */
enum hw_status hw_hidden_fail(struct hw_error *err, const char *bucket, const char *key,
                              const char *what);

/*
 * Looks for hidden keys among many, a few requests at a time, without blocking. found is called
 * for each, and then done. A question that is not answered is passed over, and so is a loss of the
 * connection: done comes in every case, unless the search is stopped before.
 */
struct hw_hidden_search;
struct hw_hidden_events {
    void (*found)(void *arg, const char *key); /* borrowed; the search is not to be stopped here */
    void (*done)(void *arg);                   /* it may be stopped here */
    void *arg;
};
/* keys: malloc'ed strings in a malloc'ed list, both taken in every case. */
enum hw_status hw_hidden_search(struct hw_nats *nats, const char *bucket, char **keys, size_t count,
                                const struct hw_hidden_events *events,
                                struct hw_hidden_search **search, struct hw_error *err) HW_CHECKED;
void hw_hidden_stop(struct hw_hidden_search *search); /* NULL is fine */

#endif
