/*
 * Key-value buckets over JetStream, laid out as every NATS client expects (NATS ADR-8): stream
 * KV_<bucket>, subjects $KV.<bucket>.<key>, deletions as messages with KV-Operation: DEL. What the
 * library's own calls do not show is needed here: headers, error codes, and the sequence that a key
 * is expected to have.
 *
 * A key is read by direct get (stored.h), which any replica answers and which costs the server no
 * consumer. What is stored is data, whatever it says, and the entry has the whole message, so that
 * whoever knows its headers can read them.
 */
#ifndef HW_NATS_KV_H
#define HW_NATS_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "nats/connection.h"
#include "nats/consumer.h"

struct hw_kv_config {
    const char *bucket;
    const char *description;
    int history; /* revisions kept a key, 1 to 64 */
    int replicas;
    int32_t value_most; /* bytes of a value and its headers; 0: as many as the server takes */
    bool allow_rollup;  /* Nats-Rollup accepted */
    const char *republish_from, *republish_to; /* subjects, or NULL */
};

struct hw_kv_stream {
    int64_t created_ns; /* creation time of the stream, Unix nanoseconds: its identity */
    uint64_t last_seq;
    uint64_t messages;
};

/* What a bucket's stream is called: this, and the bucket's name. */
#define HW_KV_STREAM "KV_"

/* Makes the bucket where it is missing, and otherwise leaves it as it is. *stream: how it stands.
 * Blocks. */
enum hw_status hw_kv_ensure(struct hw_nats *nats, const struct hw_kv_config *config,
                            struct hw_kv_stream *stream, struct hw_error *err) HW_CHECKED;
/* HW_ENOENT where there is no such bucket. Blocks. */
enum hw_status hw_kv_stat(struct hw_nats *nats, const char *bucket, struct hw_kv_stream *stream,
                          struct hw_error *err) HW_CHECKED;

struct hw_kv_entry {
    uint64_t seq;    /* the entry's revision: its sequence in the stream */
    bool deleted;    /* a DEL or PURGE marker */
    const char *key; /* key and value live as long as msg */
    const char *value;
    size_t size;
    natsMsg *msg; /* owned by whoever got the entry: hw_kv_entry_clear */
};
void hw_kv_entry_clear(struct hw_kv_entry *entry);

/* The last entry of a key, which may be a deletion marker; HW_ENOENT where there never was one.
 * Blocks. */
enum hw_status hw_kv_get(struct hw_nats *nats, const char *bucket, const char *key,
                         struct hw_kv_entry *entry, struct hw_error *err) HW_CHECKED;

/* The message with this sequence number, whatever its key; HW_ENOENT where there is none. Blocks.
 */
enum hw_status hw_kv_get_at(struct hw_nats *nats, const char *bucket, uint64_t seq,
                            struct hw_kv_entry *entry, struct hw_error *err) HW_CHECKED;

/* The first entry of a key from a sequence number on, of those that are kept; HW_ENOENT where there
 * is none. Blocks. */
enum hw_status hw_kv_get_next(struct hw_nats *nats, const char *bucket, const char *key,
                              uint64_t seq, struct hw_kv_entry *entry,
                              struct hw_error *err) HW_CHECKED;

/* Removes the messages of a key in front of a sequence number; 0: all. Unlike a deletion it leaves
 * no marker, and nobody who watches learns of it. Blocks. */
enum hw_status hw_kv_purge(struct hw_nats *nats, const char *bucket, const char *key,
                           uint64_t before, struct hw_error *err) HW_CHECKED;

/*
 * Builds the message that puts value under key, or deletes key where value is NULL. Give it to
 * hw_nats_publish with the sequence that the key is expected to have. Bytes are copied once.
 */
enum hw_status hw_kv_message(const char *bucket, const char *key, const void *value, size_t size,
                             natsMsg **msg, struct hw_error *err) HW_CHECKED;

/* hw_kv_message and hw_nats_publish_wait in one. Blocks. */
enum hw_status hw_kv_put(struct hw_nats *nats, const char *bucket, const char *key,
                         const void *value, size_t size, uint64_t expected_seq, uint64_t *seq,
                         struct hw_error *err) HW_CHECKED;

/*
 * Watches the keys that match filter ("a.b.>") in the way of watch.h: first the last entry of every
 * key, or all entries that are kept of each. An entry is borrowed; copy what you keep.
 */
struct hw_kv_watch;
struct hw_kv_watch_events {
    enum hw_status (*starting)(void *arg, struct hw_error *err); /* as in hw_watch; may be NULL */
    void (*entry)(void *arg, struct hw_kv_entry *entry);
    void (*caught_up)(void *arg);
    void (*restarting)(void *arg, const struct hw_error *why); /* as in hw_watch; may be NULL */
    void *arg;
    const char *of; /* what is read, in a word for logs and metrics; NULL: the bucket's name */
};
enum hw_status hw_kv_watch_start(struct hw_nats *nats, const char *bucket, const char *filter,
                                 enum hw_deliver deliver, const struct hw_kv_watch_events *events,
                                 struct hw_kv_watch **watch, struct hw_error *err) HW_CHECKED;
void hw_kv_watch_restart(struct hw_kv_watch *watch);
void hw_kv_watch_stop(struct hw_kv_watch *watch); /* NULL is fine */

/*
 * Asks for the bucket's last sequence number every every_ms, without blocking. told is called from
 * the loop for each answer: with HW_OK and the number, or with HW_ENOENT when there is no such
 * bucket any more. Acknowledgements of publishes may overtake an answer, so the caller keeps a
 * number of its own in *mark, and told gets the one that stood there when the question was sent.
 */
struct hw_kv_probe;
typedef void hw_kv_probe_fn(void *arg, enum hw_status status, uint64_t last_seq, uint64_t mark);
enum hw_status hw_kv_probe_start(struct hw_nats *nats, const char *bucket, int64_t every_ms,
                                 const uint64_t *mark, hw_kv_probe_fn *told, void *arg,
                                 struct hw_kv_probe **probe, struct hw_error *err) HW_CHECKED;
void hw_kv_probe_stop(struct hw_kv_probe *probe); /* not from told; NULL is fine */

/* May key be used as a key? The rule of base/names.h: fewer characters than ADR-8 allows. */
bool hw_kv_key_valid(const char *key);
/* May it be the name of a bucket? A key of one part, without a dot. */
bool hw_kv_bucket_valid(const char *bucket);

#endif
