/*
 * NATS nkeys: Ed25519 keys as text. A key is base32 (RFC 4648 section 6, unpadded) of prefix bytes,
 * 32 bytes, and their CRC-16/XMODEM, little-endian; a user's seed begins with SU, its public key
 * with U.
 */
#ifndef HW_NATS_NKEY_H
#define HW_NATS_NKEY_H

#include <stddef.h>

#include "base/status.h"

#define HW_NKEY_BYTES      32
#define HW_NKEY_SEED_MAX   59 /* 58 characters and a NUL */
#define HW_NKEY_PUBLIC_MAX 57

/* Any key as text: its prefix bytes and its 32 bytes in raw, which has two more for the checksum;
 * size counts them all. out: HW_NKEY_SEED_MAX is enough. */
char *hw_nkey_encode(unsigned char *raw, size_t size, char *out);
/* The seed of a user as text; for tests and tools that make keys. */
char *hw_nkey_seed(const unsigned char secret[static HW_NKEY_BYTES],
                   char out[static HW_NKEY_SEED_MAX]);
/* The public key that belongs to the user's seed in a file, which may have other lines around it,
 * as a credentials file does. Errors name the file and never what is in it. */
enum hw_status hw_nkey_public_of_file(const char *path, char out[static HW_NKEY_PUBLIC_MAX],
                                      struct hw_error *err) HW_CHECKED;

#endif
