/*
 * The files by which a server is checked and this client proves who it is: certificates for TLS,
 * and credentials or an nkey for NATS itself.
 */
#ifndef HW_NATS_TLS_H
#define HW_NATS_TLS_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/digest.h"
#include "base/status.h"

/* Paths. NULL or "": the file is not used. */
struct hw_nats_files {
    const char *ca;    /* PEM: authorities that may vouch for the server, instead of the system's;
                          asks for TLS */
    const char *cert;  /* PEM: certificate of this client, with key */
    const char *key;   /* PEM: its private key */
    const char *creds; /* JWT and seed, as a credentials file has them; or */
    const char *nkey;  /* seed of a user */
};

/* A digest of what is in the files: another one says that some file has changed. */
void hw_nats_files_digest(const struct hw_nats_files *files, struct hw_digest *digest);

/* Says which certificate is to be renewed and why: "--nats-cert /etc/node.pem expires on …"; false:
 * none has to be. own: this client's certificate only, once it is not valid. */
bool hw_nats_files_ageing(const struct hw_nats_files *files, bool own, char *text, size_t size);

/* The first file with a secret in it that others than its owner and group may read; or NULL. */
const char *hw_nats_exposed(const struct hw_nats_files *files);

/* Copies the paths, of which "" becomes NULL; hw_nats_files_free frees the copies. */
void hw_nats_files_copy(struct hw_nats_files *copy, const struct hw_nats_files *files);
void hw_nats_files_free(struct hw_nats_files *copy);

/* Has connections to url use the files. HW_EINVAL, with the option's name, for a file that cannot
 * be used. */
enum hw_status hw_nats_files_apply(const struct hw_nats_files *files, const char *url,
                                   natsOptions *options, struct hw_error *err) HW_CHECKED;

#endif
