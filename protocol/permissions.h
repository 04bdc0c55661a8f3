/*
 * Least privilege in nats-server, by accounts. The reconciler's account has JetStream, and exports
 * what nodes need. Each node has an account of its own, which imports the node's own keys and hints
 * and the objects, and nothing else. The account of the API imports the questions who leads and how
 * the streams stand.
 *
 * Why accounts and not lists of allowed subjects: a request names a subject for its answer, which
 * such a list does not check, so that a node could have the server publish anywhere. In an account
 * of its own, a subject that is not imported leads nowhere, also as the subject of an answer.
 * Nodes and the API have such a list all the same, since nats-server itself listens to some
 * subjects in every account.
 */
#ifndef HW_PROTOCOL_PERMISSIONS_H
#define HW_PROTOCOL_PERMISSIONS_H

#include "base/status.h"
#include "nats/tls.h"

/* Each prints one entry of "accounts" in the server's configuration to standard output. With
 * files->nkey, the public key of that seed becomes the account's user. prefix: as in struct
 * hw_nats_options, for a node behind a leaf node; NULL or "": none. */
enum hw_status hw_permissions_reconciler(const char *bucket, const struct hw_nats_files *files,
                                         struct hw_error *err) HW_CHECKED;
enum hw_status hw_permissions_api(const char *bucket, const struct hw_nats_files *files,
                                  struct hw_error *err) HW_CHECKED;
enum hw_status hw_permissions_node(const char *bucket, const char *node, const char *prefix,
                                   const struct hw_nats_files *files,
                                   struct hw_error *err) HW_CHECKED;

#endif
