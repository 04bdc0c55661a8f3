/* The bucket KV_headwater as a stream: made as the reconciler makes it, and read to its end. An
 * error ends the test. */
#ifndef RECOVERY_STREAM_H
#define RECOVERY_STREAM_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

/* Connects, and waits long enough for a loaded server. */
void stream_connect(const char *url, natsConnection **nc, jsCtx **js);

void stream_make(const char *url);

/* Calls each for every message of the bucket, or for the last message of every key. */
typedef void message_fn(void *arg, natsMsg **msg, uint64_t seq); /* *msg may be taken */
void stream_read(const char *url, bool last_only, message_fn *each, void *arg);

#endif
