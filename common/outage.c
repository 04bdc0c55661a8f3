#include "common/outage.h"

#include <stdio.h>
#include <string.h>

bool hw_outage_goes_on(struct hw_outage *outage, const char *reason, int64_t now)
{
    const bool is_other = strncmp(reason, outage->reason, sizeof(outage->reason) - 1) != 0;
    const int64_t silent = now - outage->told;

    if (!outage->lasts)
        *outage = (struct hw_outage){.lasts = true, .since = now};
    else if (silent < (is_other ? HW_OUTAGE_OTHER_MS : HW_OUTAGE_AGAIN_MS))
        return false;
    outage->told = now;
    snprintf(outage->reason, sizeof(outage->reason), "%s", reason);
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
