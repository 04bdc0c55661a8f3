/*
 * Why a NATS server cannot be reached. A probe takes the steps by which a client connects (name,
 * connection, greeting, TLS), and puts the first step that fails into words, together with what to
 * do about it; libnats calls most of these failures "no server". A probe runs on a thread of its
 * own, since looking a name up may take long. It gives the connection up before it sends anything
 * that identifies a user.
 */
#ifndef HW_NATS_PROBE_H
#define HW_NATS_PROBE_H

#include "nats/tls.h"

#define HW_NATS_WHY_MAX 512

struct hw_nats_probe;

/* Tries the servers of url. url and files are copied. done is called once, on the probe's thread,
 * and not after hw_nats_probe_free has begun. */
struct hw_nats_probe *hw_nats_probe_start(const char *url, const struct hw_nats_files *files,
                                          void (*done)(void *arg), void *arg);
/* After done was called: what is wrong with the servers, or "" when one of them passed every step.
 */
const char *hw_nats_probe_why(const struct hw_nats_probe *probe);
/* Ends the probe at once. NULL is fine. */
void hw_nats_probe_free(struct hw_nats_probe *probe);

/* The servers without users and passwords: "nats://a:4222,tls://b:4222"; malloc'ed. */
char *hw_nats_url_shown(const char *url);

#endif
