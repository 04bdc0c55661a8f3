/*
 * The NATS of the harness: a server with the accounts that the programs print, one for the
 * reconciler, which the harness uses as well, and one for each node.
 */
#ifndef RECOVERY_BUS_H
#define RECOVERY_BUS_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/support/servers.h"

enum { BUS_URL_MOST = 64 };

/* Starts it, with a limit for what it stores. is_open: nodes may write to the bucket, which is a
 * mistake that the checker must find. */
void bus_start(struct test_nats *nats, const char *const nodes[], size_t count, bool is_open);
void bus_remove(struct test_nats *nats);

/* The URL of a user, "core" or a node, at a port of this server or of a proxy in front of it. */
void bus_url(char url[BUS_URL_MOST], const char *user, int port);

/* Another server of the same configuration, with a copy of the storage in the directory store, or,
 * where that is NULL, with none. Caller: test_nats_remove. */
void bus_start_another(struct test_nats *other, const struct test_nats *like, const char *store);

#endif
