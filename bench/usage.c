#include "bench/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"

enum { USER_FIELD = 14 }; /* of /proc/<pid>/stat, counted from 1; that of the system is behind it */

static char *read_of(pid_t pid, const char *what)
{
    HW_AUTO_FREE char *path = hw_sprintf("/proc/%d/%s", (int)pid, what);
    char *text = test_read_file(path);

    if (*text == '\0')
        test_fail("%s cannot be read", path);
    return text;
}

static double mib_of(const char *status, const char *name)
{
    const char *at = strstr(status, name);

    return at != NULL ? strtod(at + strlen(name), NULL) / 1024 : 0;
}

struct usage usage_of(pid_t pid)
{
    HW_AUTO_FREE char *status = read_of(pid, "status");
    HW_AUTO_FREE char *stat = read_of(pid, "stat");
    const char *at = strrchr(stat, ')'); /* behind the name, which may hold anything */
    unsigned long user = 0, system = 0;
    char *behind_user, *behind = NULL;

    for (int field = 2; at != NULL && field < USER_FIELD; field++)
        at = strchr(at + 1, ' ');
    if (at != NULL) {
        user = strtoul(at, &behind_user, 10);
        system = strtoul(behind_user, &behind, 10);
    }
    if (behind == NULL || *behind != ' ')
        test_fail("/proc/%d/stat cannot be understood", (int)pid);
    return (struct usage){
        .resident = mib_of(status, "\nVmRSS:"),
        .peak = mib_of(status, "\nVmHWM:"),
        .own = mib_of(status, "\nRssAnon:"),
        .cpu = (double)(user + system) / (double)sysconf(_SC_CLK_TCK),
    };
}
