/*
 * TLS of the HTTP server: GnuTLS below libmicrohttpd. Certificate, key and the authority of client
 * certificates are files, which can be read again at any time: new connections then use the new
 * ones, and those that are open keep theirs.
 */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include "base/status.h"

struct MHD_Connection;

struct http_tls_config {
    const char *cert, *key; /* PEM files: the chain, leaf first, and the key of the leaf */
    const char *client_ca;  /* PEM file, or NULL: clients need no certificate */
};

/* The versions of TLS that the server speaks, in GnuTLS's notation. */
#define HTTP_TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct http_tls;
enum hw_status http_tls_open(const struct http_tls_config *config, struct http_tls **tls,
                             struct hw_error *err) HW_CHECKED;
/* Reads the files again. When they are wrong, the certificates from before stay in use. */
enum hw_status http_tls_reload(struct http_tls *tls, struct hw_error *err) HW_CHECKED;
void http_tls_free(struct http_tls *tls); /* when no connection is left; NULL is fine */

/* Gives a new connection its credentials, which are detached when it is closed. Where an authority
 * is configured, a client without a certificate of that authority does not pass the handshake. */
struct http_tls_credentials;
struct http_tls_credentials *http_tls_attach(struct http_tls *tls,
                                             struct MHD_Connection *connection);
void http_tls_detach(struct http_tls_credentials *credentials); /* NULL is fine */

/* The common name in the client's certificate, malloc'ed; NULL when there is no certificate, or
 * when its name is not UTF-8 of 1 to 128 bytes. */
char *http_tls_client_name(struct MHD_Connection *connection);

#endif
