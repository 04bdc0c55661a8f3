/*
 * A fenced entry: a value under a key, with two headers that say which state of the database it
 * comes from, and perhaps a third with a signature.
 *
 * The fence. NATS keeps whatever is written last, and a writer may be late: a reconciler that stood
 * still while another took over, or one whose database was put back to an older copy. So every
 * entry carries a fence, and readers take no entry whose fence is older than one that they have
 * seen. A fence has two parts. The LSN is the position in PostgreSQL's log of the transaction that
 * the entry comes from, which orders what one history of the database wrote. The epoch counts the
 * histories: after a restore from a backup the log goes on from an older position, so that LSNs of
 * before and after cannot be compared, and the reconciler begins a new epoch. Fences are compared
 * by epoch, then by LSN (base/lsn.h). The fences of one key only grow.
 *
 * The fence is in headers so that a program can read it without knowing the form of the value, and
 * so that a deletion, which has no value, carries one as well. The value repeats the fence for
 * readers to whom headers are not shown.
 */
#ifndef HW_PROTOCOL_ENTRY_H
#define HW_PROTOCOL_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lsn.h"
#include "base/status.h"
#include "nats/kv.h"

/* The third is HW_HEADER_SIGNATURE (protocol/statement.h). */
#define HW_HEADER_EPOCH "Headwater-Epoch"
#define HW_HEADER_LSN   "Headwater-LSN"

/* An entry as it stands under its key. Borrows everything from what it was read from. */
struct hw_entry {
    uint64_t seq; /* the entry's revision: its sequence in the stream */
    bool deleted; /* a DEL or PURGE marker */
    bool fenced;  /* both fence headers are there and valid */
    struct hw_fence fence;
    const char *key;
    const char *value; /* with a NUL behind */
    size_t size;
    const char *signature; /* as of protocol/statement.h, unchecked; or NULL */
};

/* Reads the headers of what was found under a key; the result lives as long as stored does. */
struct hw_entry hw_entry_of(const struct hw_kv_entry *stored);

/* HW_EINVAL and the names of the headers when the entry has no fence. */
enum hw_status hw_entry_check_fenced(const struct hw_entry *entry, struct hw_error *err) HW_CHECKED;

/* The message that puts value under key, or deletes key where value is NULL, with its headers.
 * fence, signature: NULL for none. Give it to hw_nats_publish. */
enum hw_status hw_entry_message(const char *bucket, const char *key, const void *value, size_t size,
                                const struct hw_fence *fence, const char *signature, natsMsg **msg,
                                struct hw_error *err) HW_CHECKED;

/* The newest fence in what is kept of a key, for an entry that carries none: zero where none does.
 * Blocks. */
enum hw_status hw_entry_newest_fence(struct hw_nats *nats, const char *bucket, const char *key,
                                     struct hw_fence *fence, struct hw_error *err) HW_CHECKED;

#endif
