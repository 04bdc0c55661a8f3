#include "protocol/statement.h"

#include <inttypes.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/memory.h"

#define SCHEME "ed25519:"

enum {
    ID_DIGITS = 16,
    BYTES = 64,
    BASE64 = 88, /* characters that BYTES become */
    TRUST_MOST = 65536,
};

char *hw_statement_text(const struct hw_statement *s)
{
    struct hw_buf text = {0};

    hw_buf_printf(&text, "headwater-desired-v1\nnode %s\nepoch %" PRIu64 "\nlsn %s\n", s->node,
                  s->fence.epoch, HW_LSN(s->fence.lsn));
    if (s->digest == NULL)
        hw_buf_puts(&text, "deleted\n");
    else
        hw_buf_printf(&text, "revision %" PRId64 "\ndigest %s\nsize %" PRId64 "\nmedia_type %s\n",
                      s->revision, s->digest, s->size, s->media_type);
    return text.data;
}

static void identify(const EVP_PKEY *key, char id[static ID_DIGITS + 1])
{
    unsigned char *der = NULL;
    const int size = i2d_PUBKEY(key, &der);
    char hex[HW_DIGEST_HEX_MAX];
    struct hw_digest digest;

    if (size <= 0)
        abort(); /* out of memory */
    hw_digest_of(der, (size_t)size, &digest);
    memcpy(id, hw_digest_hex(&digest, hex), ID_DIGITS);
    id[ID_DIGITS] = '\0';
    OPENSSL_free(der);
}

/* ---- signing ---- */

struct hw_signer {
    EVP_PKEY *key;
    EVP_MD_CTX *context;
    char id[ID_DIGITS + 1];
};

/* Called for a key that wants a pass phrase: there is none. */
static int no_phrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static enum hw_status read_private(const char *path, EVP_PKEY **key, struct hw_error *err)
{
    FILE *file = fopen(path, "re");
    struct stat st;

    if (file == NULL)
        return hw_fail_errno(err, "reading the key in %s", path);
    setvbuf(file, NULL, _IONBF, 0); /* no copy of the key stays behind in a buffer */
    if (fstat(fileno(file), &st) != 0) {
        fclose(file);
        return hw_fail_errno(err, "reading the key in %s", path);
    }
    if ((st.st_mode & S_IRWXO) != 0) {
        fclose(file);
        return hw_fail(err, HW_EINVAL,
                       "%s: every user of this machine can read the key; take their permission "
                       "away (chmod o= %s)",
                       path, path);
    }
    EVP_PKEY *found = PEM_read_PrivateKey(file, NULL, no_phrase, NULL);
    fclose(file);
    ERR_clear_error();
    if (found == NULL)
        return hw_fail(err, HW_EINVAL,
                       "%s: no PEM private key that is not encrypted in it (openssl genpkey "
                       "-algorithm ed25519 makes one)",
                       path);
    if (EVP_PKEY_get_id(found) != EVP_PKEY_ED25519) {
        EVP_PKEY_free(found);
        return hw_fail(err, HW_EINVAL,
                       "%s: not an Ed25519 key (openssl genpkey -algorithm ed25519 makes one)",
                       path);
    }
    *key = found;
    return HW_OK;
}

enum hw_status hw_signer_open(const char *path, struct hw_signer **out, struct hw_error *err)
{
    EVP_PKEY *key = NULL;
    const enum hw_status status = read_private(path, &key, err);

    if (status != HW_OK)
        return status;
    struct hw_signer *signer = hw_alloc(sizeof(*signer));
    signer->key = key;
    signer->context = EVP_MD_CTX_new();
    if (signer->context == NULL)
        abort(); /* out of memory */
    identify(key, signer->id);
    *out = signer;
    return HW_OK;
}

void hw_signer_free(struct hw_signer *signer)
{
    if (signer == NULL)
        return;
    EVP_MD_CTX_free(signer->context);
    EVP_PKEY_free(signer->key);
    free(signer);
}

const char *hw_signer_id(const struct hw_signer *signer)
{
    return signer->id;
}

char *hw_signer_sign(struct hw_signer *signer, const struct hw_statement *statement)
{
    HW_AUTO_FREE char *text = hw_statement_text(statement);
    unsigned char bytes[BYTES];
    size_t size = sizeof(bytes);

    if (EVP_DigestSignInit(signer->context, NULL, NULL, NULL, signer->key) != 1 ||
        EVP_DigestSign(signer->context, bytes, &size, (const unsigned char *)text, strlen(text)) !=
            1)
        abort(); /* out of memory: the key was checked */
    HW_AUTO_FREE char *base64 = hw_base64_encode(bytes, size);
    return hw_sprintf(SCHEME "%s:%s", signer->id, base64);
}

/* ---- checking ---- */

struct trusted {
    EVP_PKEY *key;
    char id[ID_DIGITS + 1];
};

struct hw_trust {
    struct trusted *keys;
    size_t count;
    struct hw_buf ids;
};

/* Takes key. */
static void add(struct hw_trust *trust, EVP_PKEY *key)
{
    struct trusted *added;

    trust->keys = hw_realloc(trust->keys, (trust->count + 1) * sizeof(*trust->keys));
    added = &trust->keys[trust->count++];
    added->key = key;
    identify(key, added->id);
    hw_buf_printf(&trust->ids, "%s%s", trust->ids.len > 0 ? " " : "", added->id);
}

/* Adds one block of PEM; a block that is no public key is passed over. */
static enum hw_status add_block(struct hw_trust *trust, const char *name, const unsigned char *der,
                                long size, struct hw_error *err)
{
    EVP_PKEY *key;

    if (strcmp(name, PEM_STRING_PUBLIC) != 0)
        return HW_OK;
    key = d2i_PUBKEY(NULL, &der, size);
    if (key == NULL || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519) {
        EVP_PKEY_free(key);
        return hw_fail(err, HW_EINVAL, "a key in it is not an Ed25519 key");
    }
    add(trust, key);
    return HW_OK;
}

static enum hw_status add_file(struct hw_trust *trust, const char *path, struct hw_error *err)
{
    const size_t before = trust->count;
    HW_AUTO_FREE char *text = NULL;
    char *name, *header;
    unsigned char *der;
    enum hw_status status;
    size_t size;
    long length;

    status = hw_file_read(path, TRUST_MOST, &text, &size, err);
    if (status != HW_OK)
        return status;
    BIO *bio = BIO_new_mem_buf(text, (int)size);
    if (bio == NULL)
        abort(); /* out of memory */
    while (status == HW_OK && PEM_read_bio(bio, &name, &header, &der, &length) == 1) {
        status = add_block(trust, name, der, length, err);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    const bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    ERR_clear_error();
    if (status == HW_OK && !ended)
        status = hw_fail(err, HW_EINVAL, "its PEM is damaged");
    else if (status == HW_OK && trust->count == before)
        status =
            hw_fail(err, HW_EINVAL, "no PEM public key in it (openssl pkey -pubout makes one)");
    return status == HW_OK ? HW_OK : hw_fail_in(err, "%s", path);
}

enum hw_status hw_trust_open(const char *paths, struct hw_trust **out, struct hw_error *err)
{
    struct hw_trust *trust = hw_alloc(sizeof(*trust));
    enum hw_status status = HW_OK;

    do {
        const size_t len = strcspn(paths, ":");
        HW_AUTO_FREE char *path = hw_strndup(paths, len);

        status = add_file(trust, path, err);
        paths += len;
    } while (status == HW_OK && *paths++ == ':');
    if (status != HW_OK) {
        hw_trust_free(trust);
        return status;
    }
    *out = trust;
    return HW_OK;
}

void hw_trust_free(struct hw_trust *trust)
{
    if (trust == NULL)
        return;
    for (size_t i = 0; i < trust->count; i++)
        EVP_PKEY_free(trust->keys[i].key);
    free(trust->keys);
    hw_buf_free(&trust->ids);
    free(trust);
}

const char *hw_trust_ids(const struct hw_trust *trust)
{
    return hw_buf_str(&trust->ids);
}

/* Takes a header apart; false: no signer writes such a one. *bytes: BYTES of them, malloc'ed. */
static bool parse(const char *text, char id[static ID_DIGITS + 1], unsigned char **bytes)
{
    const char *const digits = text + strlen(SCHEME);
    size_t size = 0;

    if (strlen(text) != strlen(SCHEME) + ID_DIGITS + 1 + BASE64 ||
        strncmp(text, SCHEME, strlen(SCHEME)) != 0 ||
        strspn(digits, "0123456789abcdef") != ID_DIGITS || digits[ID_DIGITS] != ':' ||
        /* The last character before the padding carries bits that belong to no byte. They must be
         * zero, or else several texts would be the same signature. */
        strchr("AQgw", digits[ID_DIGITS + BASE64 - 2]) == NULL)
        return false;
    memcpy(id, digits, ID_DIGITS);
    id[ID_DIGITS] = '\0';
    return hw_base64_decode(digits + ID_DIGITS + 1, BASE64, bytes, &size, NULL) == HW_OK &&
           size == BYTES;
}

static bool is_signature(EVP_PKEY *key, const char *text, const unsigned char *bytes)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const bool is =
        context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
        EVP_DigestVerify(context, bytes, BYTES, (const unsigned char *)text, strlen(text)) == 1;

    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return is;
}

enum hw_status hw_trust_check(const struct hw_trust *trust, const struct hw_statement *statement,
                              const char *signature, struct hw_error *err)
{
    HW_AUTO_FREE unsigned char *bytes = NULL;
    char id[ID_DIGITS + 1];

    if (signature == NULL)
        return hw_fail(err, HW_EINVAL, "it is not signed: there is no header " HW_HEADER_SIGNATURE);
    if (!parse(signature, id, &bytes))
        return hw_fail(err, HW_EINVAL, "the header " HW_HEADER_SIGNATURE " is not a signature");
    for (size_t i = 0; i < trust->count; i++) {
        if (strcmp(trust->keys[i].id, id) != 0)
            continue;
        HW_AUTO_FREE char *text = hw_statement_text(statement);
        if (is_signature(trust->keys[i].key, text, bytes))
            return HW_OK;
        return hw_fail(err, HW_EINVAL,
                       "the signature by the key %s is not of this entry: one of the two was "
                       "altered, or it was made for another node",
                       id);
    }
    return hw_fail(err, HW_EINVAL, "it is signed with the key %s, which is not trusted (but %s is)",
                   id, hw_trust_ids(trust));
}
