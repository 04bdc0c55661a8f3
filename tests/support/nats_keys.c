#include "tests/support/nats_keys.h"

#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/memory.h"
#include "nats/nkey.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

void test_nats_certificates(const char *dir)
{
    static const char script[] =
        "set -e; cd \"$0\"; for ca in ca other; do "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key "
        "-out $ca.pem -subj /CN=$ca -days 2; done; printf 'subjectAltName=DNS:localhost\\n' > ext; "
        "for name in server client; do "
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key "
        "-out csr -subj /CN=$name; "
        "openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext "
        "-out $name.pem -days 2; done";
    char *output;

    if (test_program_run((const char *const[]){"/bin/sh", "-c", script, dir, NULL}, NULL, NULL,
                         &output) != 0)
        test_fail("openssl: %s", output);
    free(output);
}

static FILE *open_in(const char *dir, const char *name, const char *mode)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/%s", dir, name);
    FILE *file = fopen(path, mode);

    if (file == NULL)
        test_fail("cannot open %s", path);
    return file;
}

static EVP_PKEY *read_key(const char *dir, const char *name)
{
    FILE *file = open_in(dir, name, "r");
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);

    fclose(file);
    if (key == NULL)
        test_fail("no key in %s", name);
    return key;
}

void test_nats_certificate(const char *dir, const char *name, const char *key, long from_s,
                           long until_s)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s.pem", name);
    EVP_PKEY *own = read_key(dir, key), *issuer = read_key(dir, "ca.key");
    FILE *file = open_in(dir, "ca.pem", "r");
    X509 *ca = PEM_read_X509(file, NULL, NULL, NULL), *made = X509_new();
    X509_NAME *subject = X509_NAME_new();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");
    long serial;

    fclose(file);
    if (ca == NULL || made == NULL || subject == NULL || names == NULL ||
        RAND_bytes((unsigned char *)&serial, sizeof(serial)) != 1 ||
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
                                   0) != 1 ||
        X509_set_version(made, 2) != 1 ||
        ASN1_INTEGER_set(X509_get_serialNumber(made), serial & LONG_MAX) != 1 ||
        X509_set_subject_name(made, subject) != 1 ||
        X509_set_issuer_name(made, X509_get_subject_name(ca)) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(made), from_s) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(made), until_s) == NULL ||
        X509_set_pubkey(made, own) != 1 || X509_add_ext(made, names, -1) != 1 ||
        X509_sign(made, issuer, EVP_sha256()) == 0)
        test_fail("cannot make %s", path);
    file = open_in(dir, path, "w");
    if (PEM_write_X509(file, made) != 1 || fclose(file) != 0)
        test_fail("cannot write %s", path);
    X509_EXTENSION_free(names);
    X509_NAME_free(subject);
    X509_free(made);
    X509_free(ca);
    EVP_PKEY_free(issuer);
    EVP_PKEY_free(own);
}

void test_nats_seed(const char *path)
{
    unsigned char secret[HW_NKEY_BYTES];
    char seed[HW_NKEY_SEED_MAX];
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || RAND_bytes(secret, sizeof(secret)) != 1 ||
        write(fd, hw_nkey_seed(secret, seed), sizeof(seed) - 1) != (ssize_t)sizeof(seed) - 1)
        test_fail("cannot write %s", path);
    close(fd);
}

void test_sign_keys(const char *dir, const char *name)
{
    static const char script[] =
        "umask 077; cd \"$0\" && openssl genpkey -algorithm ed25519 -out \"$1.key\" && "
        "openssl pkey -in \"$1.key\" -pubout -out \"$1.pub\"";
    char *output;

    if (test_program_run((const char *const[]){"/bin/sh", "-c", script, dir, name, NULL}, NULL,
                         NULL, &output) != 0)
        test_fail("openssl: %s", output);
    free(output);
}

/* ---- an operator, its account, and a user, by JSON web tokens ---- */

enum { OPERATOR = 14 << 3, ACCOUNT = 0, USER = 20 << 3 };

struct key {
    EVP_PKEY *pair;
    char public_text[HW_NKEY_SEED_MAX], seed[HW_NKEY_SEED_MAX];
};

static struct key new_key(unsigned char kind)
{
    unsigned char seed[2 + HW_NKEY_BYTES + 2] = {18 << 3 | kind >> 5, (kind & 31) << 3};
    unsigned char text[1 + HW_NKEY_BYTES + 2] = {kind};
    size_t size = HW_NKEY_BYTES;
    struct key key;

    if (RAND_bytes(seed + 2, HW_NKEY_BYTES) != 1)
        test_fail("no random bytes");
    key.pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed + 2, HW_NKEY_BYTES);
    if (key.pair == NULL || EVP_PKEY_get_raw_public_key(key.pair, text + 1, &size) != 1)
        test_fail("no Ed25519 key");
    hw_nkey_encode(seed, sizeof(seed), key.seed);
    hw_nkey_encode(text, sizeof(text), key.public_text);
    return key;
}

static char *unpadded(const void *data, size_t size)
{
    char *text = hw_base64url_encode(data, size);

    text[strcspn(text, "=")] = '\0';
    return text;
}

static char *sign(const struct key *issuer, const char *text)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char signature[64];
    size_t size = sizeof(signature);

    if (EVP_DigestSignInit(context, NULL, NULL, NULL, issuer->pair) != 1 ||
        EVP_DigestSign(context, signature, &size, (const unsigned char *)text, strlen(text)) != 1)
        test_fail("cannot sign");
    EVP_MD_CTX_free(context);
    return unpadded(signature, size);
}

/* claims: a JSON object. */
static char *token(const struct key *issuer, const struct key *subject, const char *claims)
{
    static const char header[] = "{\"typ\":\"JWT\",\"alg\":\"ed25519-nkey\"}";
    HW_AUTO_FREE char *body =
        hw_sprintf("{\"jti\":\"%s\",\"iat\":1700000000,\"iss\":\"%s\",\"name\":\"test\","
                   "\"sub\":\"%s\",\"nats\":%s}",
                   subject->public_text, issuer->public_text, subject->public_text, claims);
    HW_AUTO_FREE char *first = unpadded(header, strlen(header));
    HW_AUTO_FREE char *second = unpadded(body, strlen(body));
    HW_AUTO_FREE char *text = hw_sprintf("%s.%s", first, second);
    HW_AUTO_FREE char *signature = sign(issuer, text);

    return hw_sprintf("%s.%s", text, signature);
}

static void write_creds(const char *dir, const char *name, const char *jwt, const char *seed)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/%s", dir, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || dprintf(fd,
                          "-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n"
                          "-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n",
                          jwt, seed) < 0)
        test_fail("cannot write %s", path);
    close(fd);
}

char *test_nats_operator(const char *dir)
{
    static const char limits[] =
        "{\"type\":\"account\",\"version\":2,\"limits\":{\"subs\":-1,\"data\":-1,"
        "\"payload\":-1,\"imports\":-1,\"exports\":-1,\"conn\":-1,\"leaf\":-1}}";
    struct key keys[] = {new_key(OPERATOR), new_key(ACCOUNT), new_key(USER), new_key(USER),
                         new_key(ACCOUNT)};
    HW_AUTO_FREE char *root = token(&keys[0], &keys[0], "{\"type\":\"operator\",\"version\":2}");
    HW_AUTO_FREE char *account = token(&keys[0], &keys[1], limits);
    HW_AUTO_FREE char *system = token(&keys[0], &keys[4], limits);
    HW_AUTO_FREE char *user = token(&keys[1], &keys[2],
                                    "{\"type\":\"user\",\"version\":2,\"subs\":-1,"
                                    "\"data\":-1,\"payload\":-1}");

    write_creds(dir, "user.creds", user, keys[2].seed);
    write_creds(dir, "stranger.creds", user, keys[3].seed);
    /* JetStream wants a system account. */
    char *config = hw_sprintf("operator: \"%s\"\nsystem_account: %s\nresolver: MEMORY\n"
                              "resolver_preload: {%s: \"%s\", %s: \"%s\"}\n",
                              root, keys[4].public_text, keys[1].public_text, account,
                              keys[4].public_text, system);
    for (size_t i = 0; i < HW_COUNT(keys); i++)
        EVP_PKEY_free(keys[i].pair);
    return config;
}
