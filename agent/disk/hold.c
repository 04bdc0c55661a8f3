#include "agent/disk/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

#define FILE_MAX ((size_t)4 << 10)

static char *path_in(const char *dir)
{
    return hw_sprintf("%s/hold", dir);
}

/* A file that is there and cannot be read holds as well: who made it wanted a hold. */
void agent_hold_read(const char *dir, struct agent_hold *hold)
{
    HW_AUTO_FREE char *path = path_in(dir);
    HW_AUTO_FREE char *text = NULL;
    HW_AUTO_JSON json_t *value = NULL;
    const char *since = "", *reason = "";
    enum hw_status status;
    size_t len;

    *hold = (struct agent_hold){0};
    status = hw_file_read(path, FILE_MAX, &text, &len, NULL);
    hold->set = status != HW_ENOENT;
    if (status != HW_OK || hw_json_parse_object(text, len, &value, NULL) != HW_OK ||
        hw_json_unpack(value, NULL, "{s?s s?s *}", "since", &since, "reason", &reason) != HW_OK)
        return;
    agent_text_clean(hold->since, sizeof(hold->since), since, strlen(since));
    agent_text_clean(hold->reason, sizeof(hold->reason), reason, strlen(reason));
}

/* Several threads and commands may hold and release at once; this lock lets one at a time do it. It
 * ends when the descriptor is closed. */
static enum hw_status lock(const char *dir, int *fd, struct hw_error *err)
{
    const int locked = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed;

    if (locked < 0)
        return hw_fail_errno(err, "opening directory %s", dir);
    do
        failed = flock(locked, LOCK_EX);
    while (failed != 0 && errno == EINTR);
    if (failed != 0) {
        const enum hw_status status = hw_fail_errno(err, "locking directory %s", dir);

        close(locked);
        return status;
    }
    *fd = locked;
    return HW_OK;
}

enum hw_status agent_hold_set(const char *dir, const char *reason, struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_in(dir);
    HW_AUTO_FREE char *text = NULL;
    HW_AUTO_JSON json_t *value = NULL;
    struct agent_hold hold;
    enum hw_status status;
    int fd = -1;

    status = lock(dir, &fd, err);
    if (status != HW_OK)
        return status;
    agent_hold_read(dir, &hold);
    if (!hold.set || hold.since[0] == '\0')
        agent_time_now(hold.since);
    agent_text_clean(hold.reason, sizeof(hold.reason), reason, strlen(reason));
    value = json_pack("{ss ss}", "since", hold.since, "reason", hold.reason);
    text = hw_json_dump(value);
    status = hw_file_replace(path, text, strlen(text), 0644, err);
    close(fd);
    return status;
}

enum hw_status agent_hold_end(const char *dir, struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_in(dir);
    enum hw_status status;
    int fd = -1;

    status = lock(dir, &fd, err);
    if (status == HW_ENOENT)
        return HW_OK;
    if (status != HW_OK)
        return status;
    status = hw_file_remove(path, err);
    close(fd);
    return status;
}
