/*
 * Follows the stream KV_headwater while things break, and keeps every message that it sees: the
 * bucket keeps 16 of each key, as the product makes it, and whoever judges a run wants them all.
 * It reads on a thread of its own, from behind the last message on, and connects again at once.
 */
#ifndef RECOVERY_FOLLOWER_H
#define RECOVERY_FOLLOWER_H

#include <nats/nats.h>
#include <stddef.h>
#include <stdint.h>

struct followed {
    struct followed_message {
        uint64_t seq;
        natsMsg *msg;
    } * list; /* by sequence */
    size_t count, cap;
};
void followed_add(struct followed *followed, uint64_t seq, natsMsg *msg); /* takes msg */
void followed_free(struct followed *followed);

struct follower;
struct follower *follower_start(const char *url);
void follower_stop(struct follower *follower);

/* NATS is down, and comes back with another storage: what was seen of this one, the caller's. */
struct followed follower_take(struct follower *follower);

/* What was seen so far; valid until follower_unlock, and nothing is read meanwhile. */
const struct followed *follower_lock(struct follower *follower);
void follower_unlock(struct follower *follower);

/* Forgets the messages of a subject, as if they had never been. */
void follower_forget(struct follower *follower, const char *subject);

#endif
