#include "api/access/role.h"

#include <string.h>

#include "base/memory.h"

static const char *const names[] = {
    [API_ROLE_NONE] = "none",         [API_ROLE_VIEWER] = "viewer",
    [API_ROLE_OPERATOR] = "operator", [API_ROLE_APPROVER] = "approver",
    [API_ROLE_ADMIN] = "admin",
};

enum api_role api_role_of(const char *name)
{
    for (size_t i = API_ROLE_VIEWER; i < HW_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (enum api_role)i;
    return API_ROLE_NONE;
}

const char *api_role_name(enum api_role role)
{
    return names[role <= API_ROLE_ADMIN ? role : API_ROLE_NONE];
}
