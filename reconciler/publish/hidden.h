/*
 * Hidden keys (nats/hidden.h), looked for while a reconciler leads.
 *
 * A write to an entry of ours finds out by itself. But a key that nobody writes stays hidden from
 * the agent that looks for it by its name; and agents write their reports without an expectation,
 * so that these vanish. So all keys are asked for once, in the background, by whoever begins to
 * lead, which it does after each restart of the server. Entries are told of. Keys of reports and
 * proposals, of which the bucket keeps a single message, are purged: an agent looks now and then
 * whether its report is there, and sends it again.
 */
#ifndef RECONCILER_PUBLISH_HIDDEN_H
#define RECONCILER_PUBLISH_HIDDEN_H

#include "nats/hidden.h"
#include "reconciler/publish/sink.h"

/*
 * Makes a hidden key writable, before anything is written to it. Its entries are still there, and
 * so are their fences, but the server expects nothing of it and would drop what is written. The
 * newest entry, with that sequence number, stays until the next one is stored and was seen, so that
 * no fence is lost on the way. Only where that entry carries the fence of the next one already, the
 * key is emptied as a whole: it is not to stand beside its second copy. Whoever finds the key empty
 * after a crash just then compares it with the database, and writes a newer fence. Blocks.
 */
enum hw_status rec_hidden_free_key(struct hw_nats *nats, const char *bucket,
                                   struct rec_entry *entry, uint64_t newest, bool whole,
                                   struct hw_error *err) HW_CHECKED;

/* A search found this key of an entry hidden: makes it writable, and has the next comparison write
 * it anew. Blocks. */
enum hw_status rec_hidden_free_entry(struct hw_nats *nats, const char *bucket,
                                     struct rec_sink *sink, const char *key,
                                     struct hw_error *err) HW_CHECKED;

/* A write to a hidden key was acknowledged with this number. Was it kept? Where not, the key is
 * emptied, so that it can be written once more; HW_ECORRUPT where that was done before. Blocks. */
enum hw_status rec_hidden_check_kept(struct hw_nats *nats, const char *bucket,
                                     struct rec_entry *entry, uint64_t seq, bool *kept,
                                     struct hw_error *err) HW_CHECKED;

/* The search for hidden keys. */
struct rec_hidden;

struct rec_hidden_events {
    void (*found)(void *arg, const char *key); /* of an entry; it is not to be stopped here */
    void (*done)(void *arg, size_t found);     /* entries that were found; nor here */
    void *arg;
};

/* bucket: of the entries; reports: of what nodes send. Both live as long as this. */
enum hw_status rec_hidden_start(struct hw_nats *nats, const struct rec_sink *sink,
                                const char *bucket, const char *reports,
                                const struct rec_hidden_events *events, struct rec_hidden **out,
                                struct hw_error *err) HW_CHECKED;
void rec_hidden_stop(struct rec_hidden *hidden); /* NULL is fine */

#endif
