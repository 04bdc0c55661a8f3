#include "agent/trust.h"

#include <string.h>

enum hw_status agent_trust_open(struct agent *a, struct hw_error *err)
{
    if (a->options.trust == NULL)
        return HW_OK;
    if (hw_trust_open(a->options.trust, &a->trust, err) != HW_OK)
        return hw_fail_in(err, "--trust");
    agent_core_tell(a, HW_LOG_INFO, "only signed entries are believed", NULL,
                    hw_trust_ids(a->trust));
    return HW_OK;
}

void agent_trust_reload(struct agent *a)
{
    struct hw_trust *trust;
    struct hw_error err;

    if (a->options.trust == NULL)
        return;
    if (hw_trust_open(a->options.trust, &trust, &err) != HW_OK) {
        agent_core_tell(a, HW_LOG_WARN,
                        "--trust cannot be read again; the keys from before stay in use", NULL,
                        err.message);
        return;
    }
    if (strcmp(hw_trust_ids(trust), hw_trust_ids(a->trust)) != 0)
        agent_core_tell(a, HW_LOG_INFO, "other keys are believed from now on", NULL,
                        hw_trust_ids(trust));
    hw_trust_free(a->trust);
    a->trust = trust;
}
