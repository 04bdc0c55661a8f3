/* history shows the revisions of a config, audit who changed what. */
#include <string.h>

#include "base/memory.h"
#include "base/names.h"
#include "cli/client/request.h"
#include "cli/commands/commands.h"
#include "cli/output.h"

enum { AUDIT_PRESET = 50 };

static const struct cli_column revision_columns[] = {
    {"CONFIG REV", "revision", CLI_TEXT},
    {"CREATED", "created_at", CLI_TIME},
    {"AUTHOR", "author", CLI_TEXT},
    {"SIZE", "size", CLI_TEXT},
    {"DIGEST", "digest", CLI_DIGEST},
    {"MESSAGE", "message", CLI_TEXT},
    {.heading = NULL},
};

static const struct cli_column audit_columns[] = {
    {"AT", "at", CLI_TIME},           {"REV", "rev", CLI_TEXT},   {"AUTHOR", "author", CLI_TEXT},
    {"ACTION", "action", CLI_TEXT},   {"KIND", "kind", CLI_TEXT}, {"NAME", "name", CLI_TEXT},
    {"MESSAGE", "message", CLI_TEXT}, {.heading = NULL},
};

static void show_revisions(struct cli *cli, const json_t *list)
{
    cli_print_table(cli, json_object_get(list, "items"), revision_columns);
}

static void show_audit(struct cli *cli, const json_t *list)
{
    cli_print_table(cli, json_object_get(list, "items"), audit_columns);
}

enum hw_status cli_history(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    struct hw_buf path = {0};
    enum hw_status st = hw_name_check(operands[0], err);

    (void)count;
    if (st != HW_OK)
        return st;
    hw_buf_puts(&path, "/v1/configs");
    cli_path_add(&path, operands[0]);
    cli_path_add(&path, "revisions");
    st = cli_print_list(cli, path.data, 0, show_revisions, err);
    hw_buf_free(&path);
    return st;
}

static bool is_audited(const char *kind)
{
    static const char *const audited[] = {"node",  "config",   "assignment",
                                          "token", "proposal", "instance"};

    for (size_t i = 0; i < HW_COUNT(audited); i++)
        if (strcmp(kind, audited[i]) == 0)
            return true;
    return false;
}

enum hw_status cli_audit(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    struct hw_buf path = {0};

    if (count > 0 && !is_audited(operands[0]))
        return cli_misused(cli, err,
                           "audit %.100s: the kind comes first: node, config, assignment, token, "
                           "proposal or instance, such as audit config %.100s",
                           operands[0], operands[0]);
    hw_buf_puts(&path, "/v1/audit");
    cli_query_add(&path, "kind", count > 0 ? operands[0] : NULL);
    cli_query_add(&path, "name", count > 1 ? operands[1] : NULL);
    const enum hw_status st = cli_print_list(cli, path.data, AUDIT_PRESET, show_audit, err);
    hw_buf_free(&path);
    return st;
}
