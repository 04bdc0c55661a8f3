#include "base/certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

enum { DAY_S = 86400 };

struct period {
    int64_t from_s, until_s;
};

/* The time is UTC, as RFC 5280 demands. */
static bool seconds_of(const ASN1_TIME *time, int64_t *seconds)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *seconds = timegm(&tm);
    return true;
}

/* All of a chain must be valid at once; of authorities the one counts that lasts longest. */
static void join(struct period *all, const struct period *one, enum hw_certificate_kind kind)
{
    if (kind == HW_AUTHORITIES) {
        if (one->until_s > all->until_s)
            *all = *one;
        return;
    }
    if (one->from_s > all->from_s)
        all->from_s = one->from_s;
    if (one->until_s < all->until_s)
        all->until_s = one->until_s;
}

static bool read_periods(FILE *file, enum hw_certificate_kind kind, struct period *all)
{
    struct period one;
    X509 *certificate;
    int count = 0;

    while ((certificate = PEM_read_X509(file, NULL, NULL, NULL)) != NULL) {
        const bool known = seconds_of(X509_get0_notBefore(certificate), &one.from_s) &&
                           seconds_of(X509_get0_notAfter(certificate), &one.until_s);

        X509_free(certificate);
        if (!known)
            return false;
        if (count++ == 0)
            *all = one;
        join(all, &one, kind);
    }
    ERR_clear_error(); /* the end of the file is one */
    return count > 0;
}

static enum hw_validity judge(const struct period *period, int64_t now_s)
{
    if (now_s >= period->until_s)
        return HW_EXPIRED;
    if (now_s < period->from_s)
        return HW_NOT_YET_VALID;
    return period->until_s - now_s <= HW_CERTIFICATE_SOON_S ? HW_EXPIRES_SOON : HW_VALID;
}

static void describe(enum hw_validity validity, const struct period *period, int64_t now_s,
                     char text[HW_CERTIFICATE_TEXT_MAX])
{
    const time_t at = (time_t)(validity == HW_NOT_YET_VALID ? period->from_s : period->until_s);
    const long long days = (period->until_s - now_s) / DAY_S;
    char date[24] = "";
    struct tm tm;

    if (gmtime_r(&at, &tm) != NULL)
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
    text[0] = '\0';
    if (validity == HW_EXPIRED)
        snprintf(text, HW_CERTIFICATE_TEXT_MAX, "expired on %s", date);
    else if (validity == HW_NOT_YET_VALID)
        snprintf(text, HW_CERTIFICATE_TEXT_MAX, "is not valid before %s", date);
    else if (validity == HW_EXPIRES_SOON)
        snprintf(text, HW_CERTIFICATE_TEXT_MAX, "expires on %s, in %lld day%s", date, days,
                 days == 1 ? "" : "s");
}

enum hw_status hw_certificate_look(const char *path, enum hw_certificate_kind kind, int64_t now_s,
                                   enum hw_validity *validity, char text[HW_CERTIFICATE_TEXT_MAX],
                                   struct hw_error *err)
{
    struct period period = {0};
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return hw_fail_errno(err, "reading %s", path);
    const bool read = read_periods(file, kind, &period);
    fclose(file);
    if (!read)
        return hw_fail(err, HW_EINVAL, "%s: there is no certificate in it (PEM)", path);
    *validity = judge(&period, now_s);
    if (text != NULL)
        describe(*validity, &period, now_s, text);
    return HW_OK;
}
