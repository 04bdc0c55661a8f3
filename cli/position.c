#include "cli/position.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/text.h"
#include "common/log.h"

enum { FILE_MOST = 1 << 20 };

/* Where it is kept, malloc'ed; NULL where the user has no such place. */
static char *state_file(void)
{
    return hw_file_of_user("XDG_STATE_HOME", ".local/state", "headwater/positions.json");
}

static json_t *read_positions(const char *path)
{
    HW_AUTO_FREE char *text = NULL;
    json_t *positions = NULL;
    size_t len;

    if (hw_file_read(path, FILE_MOST, &text, &len, NULL) != HW_OK ||
        hw_json_parse_object(text, len, &positions, NULL) != HW_OK)
        return json_object();
    return positions;
}

/* Two commands at one moment may lose one of two changes, because each replaces the file. It
 * is an aid and not worth a lock. */
void cli_position_keep(const struct cli *cli, const char *change)
{
    HW_AUTO_FREE char *path = state_file();

    if (path == NULL)
        return;
    HW_AUTO_JSON json_t *positions = read_positions(path);
    json_object_set_new(positions, cli->o->server, json_string(change));
    HW_AUTO_FREE char *text = cli_json_text(positions, true);
    HW_AUTO_FREE char *directory = hw_file_parent(path);
    struct hw_error err;
    if (hw_file_mkdirs(directory, 0700, &err) != HW_OK ||
        hw_file_replace(path, text, strlen(text), 0600, &err) != HW_OK)
        hw_log_debug("the change is not remembered", HW_E(&err));
}

enum hw_status cli_position_read(const struct cli *cli, char **what, struct hw_error *err)
{
    HW_AUTO_FREE char *path = state_file();
    HW_AUTO_JSON json_t *positions = path != NULL ? read_positions(path) : json_object();
    const char *text = json_string_value(json_object_get(positions, cli->o->server));

    if (text == NULL)
        return hw_fail(
            err, HW_ENOENT,
            "no change on %s is remembered; name the change, or the position, to wait for",
            cli->o->server);
    *what = hw_strdup(text);
    return HW_OK;
}
