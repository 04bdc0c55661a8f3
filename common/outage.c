#include "common/outage.h"

/* FNV-1a. Two reasons that are taken for one cost a line in the log, a minute long. */
static uint64_t hash(const char *text)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return h;
}

bool hw_outage_goes_on(struct hw_outage *outage, const char *reason, int64_t now)
{
    const uint64_t h = hash(reason);
    const int64_t silent = now - outage->told;

    if (!outage->lasts)
        *outage = (struct hw_outage){.lasts = true, .since = now};
    else if (silent < (h != outage->reason ? HW_OUTAGE_OTHER_MS : HW_OUTAGE_AGAIN_MS))
        return false;
    outage->told = now;
    outage->reason = h;
    return true;
}

bool hw_outage_ends(struct hw_outage *outage, int64_t now, int64_t *lasted)
{
    if (!outage->lasts)
        return false;
    *lasted = now - outage->since;
    outage->lasts = false;
    return true;
}

int64_t hw_outage_age(const struct hw_outage *outage, int64_t now)
{
    return outage->lasts ? now - outage->since : 0;
}
