#include "cli/unknown.h"

#include <stdio.h>

#include "base/memory.h"
#include "cli/fetch.h"

const struct cli_column cli_unknown_columns[] = {
    {"NAME", "name", CLI_TEXT},
    {"FIRST SEEN", "first_seen", CLI_TIME},
    {"LAST SEEN", "last_seen", CLI_TIME},
    {"AGENT", "agent", CLI_TEXT},
    {"RUNNING", "reported_revision", CLI_TEXT},
    {"DIGEST", "reported_digest", CLI_DIGEST},
    {.heading = NULL},
};

enum hw_status cli_unknown_fetch(struct cli *cli, json_t **list, struct hw_error *err)
{
    return cli_fetch_list(cli, "/v1/unknown-nodes", 0, list, err);
}

static void show_unknown(struct cli *cli, const json_t *list)
{
    cli_print_table(cli, json_object_get(list, "items"), cli_unknown_columns);
    if (json_is_true(json_object_get(list, "full")))
        printf("\nThe list is full: it holds %lld names. Signs of life of others that found no "
               "place: %lld.\n",
               (long long)json_integer_value(json_object_get(list, "most")),
               (long long)json_integer_value(json_object_get(list, "left_out")));
}

enum hw_status cli_unknown_print(struct cli *cli, struct hw_error *err)
{
    HW_AUTO_JSON json_t *list = NULL;
    const enum hw_status st = cli_unknown_fetch(cli, &list, err);

    if (st == HW_OK)
        cli_print(cli, list, show_unknown);
    return st;
}
