/*
 * Key-value buckets over JetStream, laid out as every NATS client expects (NATS ADR-8): stream
 * KV_<bucket>, subjects $KV.<bucket>.<key>, deletions as messages with KV-Operation: DEL. What the
 * library's own calls do not show is what Headwater lives on: headers, error codes, expectations.
 */
#ifndef HW_NATS_KV_H
#define HW_NATS_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "common/lsn.h"
#include "nats/connection.h"
#include "nats/consumer.h"

#define HW_HEADER_EPOCH "Headwater-Epoch"
#define HW_HEADER_LSN   "Headwater-LSN"

struct hw_kv_config {
    const char *bucket;
    const char *description;
    int history; /* revisions kept a key, 1 to 64 */
    int replicas;
    bool allow_rollup;                         /* Nats-Rollup accepted */
    const char *republish_from, *republish_to; /* subjects, or NULL */
};

struct hw_kv_stream {
    int64_t created_ns; /* creation time of the stream, Unix nanoseconds: its identity */
    uint64_t last_seq;
    uint64_t messages;
};

/* Makes the bucket where it is missing; otherwise leaves it as it is. Reports what there is.
 * Blocks. */
enum hw_status hw_kv_ensure(struct hw_nats *nats, const struct hw_kv_config *config,
                            struct hw_kv_stream *stream, struct hw_error *err) HW_CHECKED;
/* HW_ENOENT where there is no such bucket. Blocks. */
enum hw_status hw_kv_stat(struct hw_nats *nats, const char *bucket, struct hw_kv_stream *stream,
                          struct hw_error *err) HW_CHECKED;

struct hw_kv_entry {
    uint64_t seq; /* the entry's revision: its sequence in the stream */
    bool deleted; /* a DEL or PURGE marker */
    bool fenced;  /* both fence headers are there and valid */
    struct hw_fence fence;
    const char *key; /* these four live as long as msg */
    const char *value;
    size_t size;
    const char *signature; /* as of protocol/statement.h, unchecked; or NULL */
    natsMsg *msg;          /* owned by whoever got the entry: hw_kv_entry_clear */
};
void hw_kv_entry_clear(struct hw_kv_entry *entry);

/* The last entry of a key, a deletion marker included; HW_ENOENT where there never was one. Blocks.
 */
enum hw_status hw_kv_get(struct hw_nats *nats, const char *bucket, const char *key,
                         struct hw_kv_entry *entry, struct hw_error *err) HW_CHECKED;

/* The message with this sequence number, whatever its key; HW_ENOENT where there is none. Blocks.
 */
enum hw_status hw_kv_get_at(struct hw_nats *nats, const char *bucket, uint64_t seq,
                            struct hw_kv_entry *entry, struct hw_error *err) HW_CHECKED;

/* The newest fence in what is kept of a key, for an entry that carries none: zero where none does.
 * Blocks. */
enum hw_status hw_kv_newest_fence(struct hw_nats *nats, const char *bucket, const char *key,
                                  struct hw_fence *fence, struct hw_error *err) HW_CHECKED;

/*
 * Builds the message that puts value under key, or deletes key where value is NULL. fence may be
 * NULL. Give it to hw_nats_publish with the sequence that the key is expected to have. Bytes are
 * copied once.
 */
enum hw_status hw_kv_message(const char *bucket, const char *key, const void *value, size_t size,
                             const struct hw_fence *fence, natsMsg **msg,
                             struct hw_error *err) HW_CHECKED;

/* hw_kv_message and hw_nats_publish_wait in one. Blocks. */
enum hw_status hw_kv_put(struct hw_nats *nats, const char *bucket, const char *key,
                         const void *value, size_t size, uint64_t expected_seq, uint64_t *seq,
                         struct hw_error *err) HW_CHECKED;

/*
 * Watches the keys that match filter ("cfg.reported.>"), as hw_watch does: first the last entry of
 * every key, or all that is kept of each; entry is borrowed: copy what you keep.
 */
struct hw_kv_watch;
struct hw_kv_watch_events {
    enum hw_status (*starting)(void *arg, struct hw_error *err); /* as in hw_watch; may be NULL */
    void (*entry)(void *arg, struct hw_kv_entry *entry);
    void (*caught_up)(void *arg);
    void (*restarting)(void *arg, const struct hw_error *why);  /* may be NULL */
    void (*lost)(void *arg, const char *why, int64_t pause_ms); /* as in hw_watch; may be NULL */
    void *arg;
};
enum hw_status hw_kv_watch_start(struct hw_nats *nats, const char *bucket, const char *filter,
                                 enum hw_deliver deliver, const struct hw_kv_watch_events *events,
                                 struct hw_kv_watch **watch, struct hw_error *err) HW_CHECKED;
void hw_kv_watch_restart(struct hw_kv_watch *watch);
void hw_kv_watch_stop(struct hw_kv_watch *watch); /* NULL is fine */

/*
 * Asks for the bucket's last sequence number again and again, without blocking. told is called from
 * the loop: with HW_OK and the number, with HW_ENOENT when there is no such bucket any more; and
 * with what *mark was when that was asked: acknowledgements may overtake an answer. No answer, no
 * call.
 */
struct hw_kv_probe;
typedef void hw_kv_probe_fn(void *arg, enum hw_status status, uint64_t last_seq, uint64_t mark);
enum hw_status hw_kv_probe_start(struct hw_nats *nats, const char *bucket, int64_t every_ms,
                                 const uint64_t *mark, hw_kv_probe_fn *told, void *arg,
                                 struct hw_kv_probe **probe, struct hw_error *err) HW_CHECKED;
void hw_kv_probe_stop(struct hw_kv_probe *probe); /* not from told; NULL is fine */

/* May key be used as a key? [A-Za-z0-9_-]+ parts joined by single dots. */
bool hw_kv_key_valid(const char *key);

/* May it be the name of a node or of a config? A key of at most so many characters. */
#define HW_NAME_MOST 128
bool hw_kv_name_valid(const char *name);

#endif
