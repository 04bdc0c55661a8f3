#include "tests/support/accounts.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

char *test_account(const char *program, const char *node, const char *prefix, const char *user)
{
    static const char nobody[] = "users: []";
    const bool of_node = node != NULL;
    HW_AUTO_FREE char *printed = NULL;
    const int status = test_program_run(
        (const char *const[]){program, "permissions", of_node ? "--node" : NULL, node,
                              *prefix != '\0' ? "--nats-prefix" : NULL, prefix, NULL},
        NULL, NULL, &printed);
    const char *users = status == 0 ? strstr(printed, nobody) : NULL;

    if (users == NULL)
        test_fail("%s permissions: %s", program, printed);
    return hw_sprintf("%.*susers: [{user: %s, password: %s}]%s", (int)(users - printed), printed,
                      user, user, users + strlen(nobody));
}
