/*
 * Least privilege in nats-server: accounts. The reconciler's has JetStream, and exports what nodes
 * need. Each node has an account of its own that imports its own keys and hints, the objects, and
 * nothing else. The API's imports the questions who leads and how the streams stand. A subject that
 * is not imported leads nowhere, as a reply subject too, which a list of allowed subjects does not
 * check.
 */
#ifndef HW_PROTOCOL_PERMISSIONS_H
#define HW_PROTOCOL_PERMISSIONS_H

#include "common/status.h"
#include "nats/tls.h"

/* Print one entry of "accounts" to standard output. With files->nkey its public key is the user.
 * prefix: as of hw_nats_options, for a node behind a leaf node; NULL or "": none. */
enum hw_status hw_nats_permissions_reconciler(const char *bucket, const struct hw_nats_files *files,
                                              struct hw_error *err) HW_CHECKED;
enum hw_status hw_nats_permissions_api(const char *bucket, const struct hw_nats_files *files,
                                       struct hw_error *err) HW_CHECKED;
enum hw_status hw_nats_permissions_node(const char *bucket, const char *node, const char *prefix,
                                        const struct hw_nats_files *files,
                                        struct hw_error *err) HW_CHECKED;

#endif
