/*
 * The one model of errors.
 *
 * A function that can fail returns enum hw_status and takes a struct hw_error *, which the caller
 * owns (usually on its stack). On failure the struct says what was being done, to what, and what
 * the operator can do about it; on success it is untouched, and so are out-parameters on failure.
 * Libraries never log; a program logs an error once, where it handles it.
 */
#ifndef HW_STATUS_H
#define HW_STATUS_H

#include <stddef.h>

enum hw_status {
    HW_OK = 0,
    HW_EINVAL,    /* the input is wrong: malformed, out of range, unknown */
    HW_ENOENT,    /* the thing that was asked for does not exist */
    HW_ECONFLICT, /* someone else changed it first: CAS refused, slot taken, precondition failed */
    HW_ELIMIT,    /* larger than a limit allows */
    HW_ECORRUPT,  /* bytes that do not match their digest, size or format */
    HW_EPROTO,    /* the peer broke its protocol */
    HW_EDENIED,   /* the peer or the system refuses permission */
    HW_ETIMEOUT,  /* no answer in time; the outcome may be unknown */
    HW_EUNAVAIL,  /* the peer cannot be reached now; trying again may help */
    HW_EIO,       /* a system call failed */
    HW_ESTOPPED,  /* given up because the program is stopping */
};

#define HW_ERROR_MAX 768

struct hw_error {
    enum hw_status status;
    char message[HW_ERROR_MAX]; /* always terminated; cut at a character boundary */
};

#define HW_CHECKED            __attribute__((warn_unused_result))
#define HW_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Fills err (which may be NULL) and returns status, so that callers write: return hw_fail(...). */
enum hw_status hw_fail(struct hw_error *err, enum hw_status status, const char *fmt, ...)
    HW_PRINTF(3, 4);

/* Puts "<context>: " before the message that err already holds; returns err's status. */
enum hw_status hw_fail_in(struct hw_error *err, const char *fmt, ...) HW_PRINTF(2, 3);

/* Like hw_fail with HW_EIO (or HW_EDENIED, HW_ENOENT), and ": " strerror(errno) behind the text. */
enum hw_status hw_fail_errno(struct hw_error *err, const char *fmt, ...) HW_PRINTF(2, 3);

/* A word for logs, for example "conflict". */
const char *hw_status_name(enum hw_status status);

#endif
