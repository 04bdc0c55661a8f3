/*
 * Why a NATS server cannot be reached. It is tried as a client would go in, step by step (name,
 * connection, greeting, TLS), and the first step that fails is put into words, with what to do:
 * libnats calls most of this "no server". It is done on a thread of its own, since looking a name
 * up may take long, and the connection is given up before anything that identifies a user is sent.
 */
#ifndef HW_NATS_PROBE_H
#define HW_NATS_PROBE_H

#include "nats/tls.h"

#define HW_NATS_WHY_MAX 512

struct hw_nats_probe;

/* Tries the servers of url, which and the files are copied. done is called on the probe's thread,
 * once, and not after hw_nats_probe_free has begun. */
struct hw_nats_probe *hw_nats_probe_start(const char *url, const struct hw_nats_files *files,
                                          void (*done)(void *arg), void *arg);
/* When done was called: what is wrong with the servers, or "" where one of them is fine so far. */
const char *hw_nats_probe_why(const struct hw_nats_probe *probe);
/* Ends it, at once; NULL is fine. */
void hw_nats_probe_free(struct hw_nats_probe *probe);

/* The servers without users and passwords: "nats://a:4222,tls://b:4222"; malloc'ed. */
char *hw_nats_url_shown(const char *url);

#endif
