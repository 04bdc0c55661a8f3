/*
 * The signed statement. With signatures, whoever may write to NATS cannot thereby say what nodes
 * run: the reconciler signs every desired entry with an Ed25519 key (RFC 8032), and agents that
 * know the public key act on nothing else. docs/protocol.md has the bytes that are signed, and a
 * test vector. The fence is among them, so that an entry that was signed once cannot be put back
 * later.
 *
 * The signature travels in a header of the entry, deletions included: "ed25519:", the identifier of
 * the key, ":", and base64 (RFC 4648 section 4). A key is identified by the first 16 hexadecimal
 * digits of the SHA-256 of its public half in DER (SubjectPublicKeyInfo, RFC 8410). Ed25519 is
 * deterministic: the same entry always gets the same header.
 */
#ifndef HW_PROTOCOL_STATEMENT_H
#define HW_PROTOCOL_STATEMENT_H

#include <stdint.h>

#include "base/lsn.h"
#include "base/status.h"

/* The header of NATS that a signature travels in. */
#define HW_HEADER_SIGNATURE "Headwater-Signature"

/* What is signed: all parts of an entry that a node acts on. */
struct hw_statement {
    const char *node;
    struct hw_fence fence;
    const char *digest; /* "sha256:<64 hex>"; NULL: nothing is desired, and there is no more */
    int64_t revision, size;
    const char *media_type;
};

/* The bytes that are signed, as text without NULs; malloc'ed. */
char *hw_statement_text(const struct hw_statement *statement);

/* A private key: PEM, PKCS #8, not encrypted. */
struct hw_signer;
/* Refuses a file that everybody may read. Errors name the file and never what is in it. */
enum hw_status hw_signer_open(const char *path, struct hw_signer **signer,
                              struct hw_error *err) HW_CHECKED;
void hw_signer_free(struct hw_signer *signer); /* NULL is fine */
/* The identifier of the signer's key. */
const char *hw_signer_id(const struct hw_signer *signer);
/* The header's value; malloc'ed. On one thread at a time. */
char *hw_signer_sign(struct hw_signer *signer, const struct hw_statement *statement);

/* Public keys, one or more. */
struct hw_trust;
/* paths: files with ':' between them, each of one PEM public key or several. */
enum hw_status hw_trust_open(const char *paths, struct hw_trust **trust,
                             struct hw_error *err) HW_CHECKED;
void hw_trust_free(struct hw_trust *trust); /* NULL is fine */
/* The identifiers of the keys, with blanks between them. */
const char *hw_trust_ids(const struct hw_trust *trust);
/* Is this header's value (NULL: there is none) a signature of the statement by one of the keys?
 * HW_EINVAL says why not. Any thread. */
enum hw_status hw_trust_check(const struct hw_trust *trust, const struct hw_statement *statement,
                              const char *signature, struct hw_error *err) HW_CHECKED;

#endif
