/*
 * How long the certificates in a file are good for, so that somebody is told in time. A certificate
 * ends at a moment that was written into it when it was made (RFC 5280 section 4.1.2.5); from then
 * on everybody refuses it, and nothing else has changed that would explain it.
 */
#ifndef HW_CERTIFICATE_H
#define HW_CERTIFICATE_H

#include <stdint.h>

#include "base/status.h"

enum {
    HW_CERTIFICATE_SOON_S = 30 * 86400, /* its end is told this long before … */
    HW_CERTIFICATE_LOOK_MS = 86400000,  /* … and each day from then on */
    HW_CERTIFICATE_TEXT_MAX = 96,
};

enum hw_validity {
    HW_VALID,
    HW_EXPIRES_SOON,
    HW_EXPIRED,
    HW_NOT_YET_VALID,
};

enum hw_certificate_kind {
    HW_CERTIFICATE_CHAIN, /* of no use as soon as one of them is of none */
    HW_AUTHORITIES,       /* of use as long as one of them is */
};

/*
 * Looks at the certificates in a PEM file. now_s: Unix seconds. text, which may be NULL, gets words
 * that go on behind the file's name: "expires on 2026-12-20, in 19 days", "" for HW_VALID. Fails
 * where no certificate can be read.
 */
enum hw_status hw_certificate_look(const char *path, enum hw_certificate_kind kind, int64_t now_s,
                                   enum hw_validity *validity, char text[HW_CERTIFICATE_TEXT_MAX],
                                   struct hw_error *err) HW_CHECKED;

#endif
