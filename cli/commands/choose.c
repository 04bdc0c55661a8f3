/* choose: says which of the agents that share a node's name is meant. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/names.h"
#include "cli/commands/commands.h"
#include "cli/output.h"
#include "cli/write.h"

static void show_chosen(struct cli *cli, const json_t *answer)
{
    const json_t *others = json_object_get(answer, "set_aside");
    HW_AUTO_FREE char *line =
        hw_sprintf("node %s: %s is meant\n", cli->operands[0], cli->operands[1]);
    const json_t *other;
    size_t i;

    cli_print_text(cli, line, 0);
    json_array_foreach(others, i, other) {
        HW_AUTO_FREE char *text =
            hw_sprintf("what %.130s reports counts no more; stop it\n",
                       json_string_value(other) != NULL ? json_string_value(other) : "?");
        cli_print_text(cli, text, 0);
    }
}

enum hw_status cli_choose(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    HW_AUTO_JSON json_t *wish = json_pack("{s:s}", "instance", operands[1]);
    struct hw_buf path = {0};
    enum hw_status st = hw_name_check(operands[0], err);

    (void)count;
    if (st == HW_OK)
        st = hw_name_check(operands[1], err);
    if (st != HW_OK)
        return st;
    hw_buf_puts(&path, "/v1/nodes");
    cli_path_add(&path, operands[0]);
    hw_buf_puts(&path, "/instance");
    cli_query_add(&path, "message", cli->o->message);
    HW_AUTO_FREE char *body = hw_json_dump(wish);
    st = cli_write(cli,
                   &(struct cli_request){.method = "PUT",
                                         .path = path.data,
                                         .media_type = "application/json",
                                         .body = body,
                                         .len = strlen(body)},
                   show_chosen, err);
    hw_buf_free(&path);
    return st;
}
