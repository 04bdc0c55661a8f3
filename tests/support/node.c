#include "tests/support/node.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

/* Prints what it said when it fails. */
static bool works(const char *what, const char *const argv[])
{
    char *output = NULL;
    const bool ok = test_program_run(argv, NULL, NULL, &output) == 0;

    if (!ok)
        printf("skipped: %s:\n%s", what, output);
    free(output);
    return ok;
}

char *test_node_dir(const char *packages, const char *const files[])
{
    static const char install[] = "cd \"$1\" && exec npm install --no-audit --no-fund --no-save "
                                  "--ignore-scripts --fetch-timeout=15000 --fetch-retries=1 $2";

    if (!works("Node.js or npm is not installed",
               (const char *const[]){"sh", "-c", "command -v node && command -v npm", NULL}))
        return NULL;
    char *dir = test_temp_dir();

    for (; *files != NULL; files++) {
        if (test_program_run((const char *const[]){"cp", *files, dir, NULL}, NULL, NULL, NULL) != 0)
            test_fail("no %s below the current directory", *files);
    }
    if (!works("npm cannot install what the test needs",
               (const char *const[]){"sh", "-c", install, "sh", dir, packages, NULL}))
        free(HW_TAKE(dir));
    return dir;
}
