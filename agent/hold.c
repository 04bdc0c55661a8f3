#include "agent/hold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"

#define FILE_MAX ((size_t)4 << 10)

static char *path_in(const char *dir)
{
    return hw_sprintf("%s/hold", dir);
}

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

enum hw_status agent_hold_set(const char *dir, const char *reason, struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_in(dir);
    HW_AUTO_FREE char *text = NULL;
    HW_AUTO_JSON json_t *value = NULL;
    struct agent_hold hold;

    agent_hold_read(dir, &hold);
    if (!hold.set || hold.since[0] == '\0')
        agent_time_now(hold.since);
    agent_text_clean(hold.reason, sizeof(hold.reason), reason, strlen(reason));
    value = json_pack("{ss ss}", "since", hold.since, "reason", hold.reason);
    text = hw_json_dump(value);
    return hw_file_replace(path, text, strlen(text), 0644, err);
}

enum hw_status agent_hold_end(const char *dir, struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_in(dir);

    return hw_file_remove(path, err);
}
