#include "http/tls.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

enum { NAME_MAX_BYTES = 128 };

struct http_tls_credentials {
    gnutls_certificate_credentials_t x509;
    int users;
};

struct http_tls {
    struct http_tls_config config;
    struct http_tls_credentials *current;
};

static void release(struct http_tls_credentials *credentials)
{
    if (credentials == NULL || --credentials->users > 0)
        return;
    gnutls_certificate_free_credentials(credentials->x509);
    free(credentials);
}

static enum hw_status load(const struct http_tls_config *config,
                           struct http_tls_credentials *credentials, struct hw_error *err)
{
    int result = gnutls_certificate_set_x509_key_file2(credentials->x509, config->cert, config->key,
                                                       GNUTLS_X509_FMT_PEM, NULL, 0);

    if (result < 0)
        return hw_fail(err, HW_EINVAL, "--tls-cert %s and --tls-key %s (PEM): %s", config->cert,
                       config->key, gnutls_strerror(result));
    if (config->client_ca == NULL)
        return HW_OK;
    result = gnutls_certificate_set_x509_trust_file(credentials->x509, config->client_ca,
                                                    GNUTLS_X509_FMT_PEM);
    if (result <= 0)
        return hw_fail(err, HW_EINVAL, "--tls-client-ca %s (PEM): %s", config->client_ca,
                       result < 0 ? gnutls_strerror(result) : "holds no certificate");
    return HW_OK;
}

enum hw_status http_tls_reload(struct http_tls *tls, struct hw_error *err)
{
    struct http_tls_credentials *credentials = hw_alloc(sizeof(*credentials));
    enum hw_status status;

    credentials->users = 1;
    if (gnutls_certificate_allocate_credentials(&credentials->x509) != GNUTLS_E_SUCCESS)
        abort(); /* out of memory */
    status = load(&tls->config, credentials, err);
    if (status != HW_OK) {
        release(credentials);
        return status;
    }
    release(tls->current);
    tls->current = credentials;
    return HW_OK;
}

enum hw_status http_tls_open(const struct http_tls_config *config, struct http_tls **out,
                             struct hw_error *err)
{
    struct http_tls *tls = hw_alloc(sizeof(*tls));
    enum hw_status status;

    tls->config = *config;
    status = http_tls_reload(tls, err);
    if (status != HW_OK) {
        free(tls);
        return status;
    }
    *out = tls;
    return HW_OK;
}

void http_tls_free(struct http_tls *tls)
{
    if (tls == NULL)
        return;
    release(tls->current);
    free(tls);
}

static gnutls_session_t session_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);

    return info != NULL ? info->tls_session : NULL;
}

struct http_tls_credentials *http_tls_attach(struct http_tls *tls,
                                             struct MHD_Connection *connection)
{
    const gnutls_session_t session = session_of(connection);

    if (session == NULL || gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE,
                                                  tls->current->x509) != GNUTLS_E_SUCCESS)
        return NULL; /* the handshake fails: the library itself has no certificate */
    if (tls->config.client_ca != NULL) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(session, NULL, 0);
    }
    tls->current->users++;
    return tls->current;
}

void http_tls_detach(struct http_tls_credentials *credentials)
{
    release(credentials);
}

static bool is_name(const char *text, size_t len)
{
    if (len == 0 || !hw_utf8_valid(text, len, NULL))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == '\x7f')
            return false;
    return true;
}

char *http_tls_client_name(struct MHD_Connection *connection)
{
    const gnutls_session_t session = session_of(connection);
    const gnutls_datum_t *chain;
    unsigned count = 0;
    gnutls_x509_crt_t certificate;
    char name[NAME_MAX_BYTES + 1];
    size_t len = sizeof(name);
    bool found;

    chain = session != NULL ? gnutls_certificate_get_peers(session, &count) : NULL;
    if (chain == NULL || count == 0)
        return NULL;
    if (gnutls_x509_crt_init(&certificate) != GNUTLS_E_SUCCESS)
        abort(); /* out of memory */
    found =
        gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS &&
        gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &len) ==
            GNUTLS_E_SUCCESS;
    gnutls_x509_crt_deinit(certificate);
    return found && is_name(name, len) ? hw_strndup(name, len) : NULL;
}
