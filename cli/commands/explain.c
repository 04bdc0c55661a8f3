/* explain: where each part of a node's document comes from. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/names.h"
#include "cli/client/request.h"
#include "cli/commands/commands.h"
#include "cli/fetch.h"
#include "cli/output.h"
#include "cli/pointer.h"

static const struct cli_column source_columns[] = {
    {"PRIORITY", "priority", CLI_TEXT}, {"ASSIGNMENT", "assignment", CLI_TEXT},
    {"CONFIG", "config", CLI_TEXT},     {"CONFIG REV", "revision", CLI_TEXT},
    {"TIE", "tie", CLI_FLAG},           {.heading = NULL},
};

static const struct cli_column key_columns[] = {
    {"PATH", "path", CLI_TEXT},
    {"ASSIGNMENT", "assignment", CLI_TEXT},
    {"CONFIG", "config", CLI_TEXT},
    {"CONFIG REV", "revision", CLI_TEXT},
    {.heading = NULL},
};

static void show_explanation(struct cli *cli, const json_t *answer)
{
    cli_print_table(cli, json_object_get(answer, "sources"), source_columns);
    putchar('\n');
    cli_print_table(cli, json_object_get(answer, "keys"), key_columns);
}

enum hw_status cli_explain(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    HW_AUTO_JSON json_t *answer = NULL;
    struct hw_buf path = {0};
    enum hw_status st = hw_name_check(operands[0], err);

    if (st != HW_OK)
        return st;
    hw_buf_puts(&path, "/v1/nodes");
    cli_path_add(&path, operands[0]);
    cli_path_add(&path, "explain");
    HW_AUTO_FREE char *pointer = count > 1 ? cli_pointer_of(operands[1]) : NULL;
    cli_query_add(&path, "path", pointer);
    st = cli_fetch(cli, path.data, &answer, err);
    if (st == HW_OK && count > 1 && json_array_size(json_object_get(answer, "keys")) == 0)
        st = hw_fail(
            err, HW_ENOENT,
            "node \"%.130s\": its document has nothing at %.200s, and nobody removed anything "
            "there; \"headwater explain %.130s\" shows every path",
            operands[0], pointer, operands[0]);
    if (st == HW_OK)
        cli_print(cli, answer, show_explanation);
    hw_buf_free(&path);
    return st;
}
