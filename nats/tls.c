#include "nats/tls.h"

#include <malloc.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/certificate.h"
#include "base/file.h"
#include "base/memory.h"
#include "common/clock.h"
#include "nats/error.h"
#include "nats/nkey.h"

#define FILE_MOST ((size_t)16 << 20)

static bool is_given(const char *path)
{
    return path != NULL && *path != '\0';
}

/* ---- the paths ---- */

const char *hw_nats_exposed(const struct hw_nats_files *files)
{
    const char *const secrets[] = {files->key, files->creds, files->nkey};
    struct stat st;

    for (size_t i = 0; i < HW_COUNT(secrets); i++)
        if (is_given(secrets[i]) && stat(secrets[i], &st) == 0 && (st.st_mode & S_IROTH) != 0)
            return secrets[i];
    return NULL;
}

static const char *copy_of(const char *path)
{
    return is_given(path) ? hw_strdup(path) : NULL;
}

void hw_nats_files_copy(struct hw_nats_files *copy, const struct hw_nats_files *files)
{
    *copy = (struct hw_nats_files){
        .ca = copy_of(files->ca),
        .cert = copy_of(files->cert),
        .key = copy_of(files->key),
        .creds = copy_of(files->creds),
        .nkey = copy_of(files->nkey),
    };
}

void hw_nats_files_free(struct hw_nats_files *copy)
{
    const char *const paths[] = {copy->ca, copy->cert, copy->key, copy->creds, copy->nkey};

    for (size_t i = 0; i < HW_COUNT(paths); i++)
        free((void *)(uintptr_t)paths[i]);
    *copy = (struct hw_nats_files){0};
}

void hw_nats_files_digest(const struct hw_nats_files *files, struct hw_digest *digest)
{
    const char *const paths[] = {files->ca, files->cert, files->key, files->creds, files->nkey};
    struct hw_digester *digester = hw_digester_new();

    for (size_t i = 0; i < HW_COUNT(paths); i++) {
        char *text = NULL;
        size_t size = 0;

        /* One that cannot be read has no bytes; the lengths keep the files apart. */
        if (is_given(paths[i]))
            (void)!hw_file_read(paths[i], FILE_MOST, &text, &size, NULL);
        hw_digester_add(digester, &size, sizeof(size));
        if (text != NULL) {
            hw_digester_add(digester, text, size);
            OPENSSL_cleanse(text, size);
        }
        free(text);
    }
    hw_digester_finish(digester, digest);
    hw_digester_free(digester);
}

/* ---- how long they last ---- */

static bool is_ageing(const char *option, const char *path, enum hw_certificate_kind kind,
                      bool over, char *text, size_t size)
{
    char when[HW_CERTIFICATE_TEXT_MAX];
    enum hw_validity validity;

    if (!is_given(path) || hw_certificate_look(path, kind, hw_clock_now() / 1000000000, &validity,
                                               when, NULL) != HW_OK)
        return false;
    if (validity == HW_VALID || (over && validity == HW_EXPIRES_SOON))
        return false;
    snprintf(text, size, "%s %s %s", option, path, when);
    return true;
}

bool hw_nats_files_ageing(const struct hw_nats_files *files, bool own, char *text, size_t size)
{
    const bool cert = is_ageing("--nats-cert", files->cert, HW_CERTIFICATE_CHAIN, own, text, size);
    const size_t used = cert ? strlen(text) : 0;

    if (own || !is_ageing(cert ? "; --nats-ca" : "--nats-ca", files->ca, HW_AUTHORITIES, false,
                          text + used, size - used))
        return cert;
    return true;
}

static enum hw_status check_files(const struct hw_nats_files *files, struct hw_error *err)
{
    const struct {
        const char *option, *path;
    } all[] = {{"--nats-ca", files->ca},
               {"--nats-cert", files->cert},
               {"--nats-key", files->key},
               {"--nats-creds", files->creds},
               {"--nats-nkey", files->nkey}};

    for (size_t i = 0; i < HW_COUNT(all); i++)
        if (is_given(all[i].path) && access(all[i].path, R_OK) != 0) {
            hw_fail_errno(err, "%s: reading %s", all[i].option, all[i].path);
            return err->status;
        }
    if (is_given(files->cert) != is_given(files->key))
        return hw_fail(err, HW_EINVAL, "--nats-cert and --nats-key need each other");
    if (is_given(files->creds) && is_given(files->nkey))
        return hw_fail(err, HW_EINVAL, "--nats-creds and --nats-nkey: only one of them can be");
    return HW_OK;
}

/* ---- TLS ---- */

/*
 * libnats adds the system's authorities to its TLS context, and has no way to leave them out.
 * Whoever names authorities means those and no others, so the store of authorities in the context
 * is replaced by an empty one. libnats shows its context to nobody; OpenSSL, however, tells
 * whoever registered for it about each context that it makes, on the thread that makes it.
 */
static _Thread_local struct {
    bool wanted;
    SSL_CTX *context;
} made;

static void on_context_made(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long number,
                            void *arg)
{
    (void)value;
    (void)data;
    (void)index;
    (void)number;
    (void)arg;
    if (made.wanted)
        made.context = parent;
}

static bool set_secure(natsOptions *o, bool own_authorities)
{
    X509_STORE *store;
    int index;

    if (!own_authorities)
        return natsOptions_SetSecure(o, true) == NATS_OK;
    index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, NULL, on_context_made, NULL, NULL);
    made.context = NULL;
    made.wanted = true;
    const natsStatus s = natsOptions_SetSecure(o, true);
    made.wanted = false;
    CRYPTO_free_ex_index(CRYPTO_EX_INDEX_SSL_CTX, index);
    store = X509_STORE_new();
    if (s != NATS_OK || made.context == NULL || store == NULL) {
        X509_STORE_free(store);
        return false;
    }
    SSL_CTX_set_cert_store(made.context, store);
    malloc_trim(0); /* returns what the system's authorities took, which are many */
    return true;
}

static enum hw_status tls_failed(struct hw_error *err, const char *option, const char *path)
{
    return hw_fail(err, HW_EINVAL,
                   "%s %s cannot be used: it must be PEM, and a key that of its "
                   "certificate",
                   option, path);
}

enum hw_status hw_nats_files_apply(const struct hw_nats_files *files, const char *url,
                                   natsOptions *o, struct hw_error *err)
{
    char public_key[HW_NKEY_PUBLIC_MAX];
    enum hw_status status = check_files(files, err);
    natsStatus s = NATS_OK;

    if (status != HW_OK)
        return status;
    const bool tls = is_given(files->ca) || is_given(files->cert) || strstr(url, "tls://") != NULL;
    if (tls && !set_secure(o, is_given(files->ca)))
        return hw_fail(err, HW_EIO, "TLS cannot be set up");
    if (is_given(files->ca) && natsOptions_LoadCATrustedCertificates(o, files->ca) != NATS_OK)
        return tls_failed(err, "--nats-ca", files->ca);
    if (is_given(files->cert) &&
        natsOptions_LoadCertificatesChain(o, files->cert, files->key) != NATS_OK)
        return tls_failed(err, "--nats-cert", files->cert);
    if (is_given(files->creds))
        s = natsOptions_SetUserCredentialsFromFiles(o, files->creds, NULL);
    if (is_given(files->nkey)) {
        status = hw_nkey_public_of_file(files->nkey, public_key, err);
        if (status != HW_OK)
            return hw_fail_in(err, "--nats-nkey");
        s = natsOptions_SetNKeyFromSeed(o, public_key, files->nkey);
    }
    return s == NATS_OK ? HW_OK : hw_nats_fail(err, s, 0, "setting NATS credentials");
}
