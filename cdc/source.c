#include "cdc/source.h"

const char *cdc_action_name(enum cdc_action action)
{
    static const char *const names[] = {
        [CDC_INSERT] = "insert",     [CDC_UPDATE] = "update",   [CDC_DELETE] = "delete",
        [CDC_TRUNCATE] = "truncate", [CDC_MESSAGE] = "message",
    };
    return names[action];
}
