/* accept: registers nodes that are alive and that nobody has registered. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/labels.h"
#include "base/memory.h"
#include "base/names.h"
#include "cli/ask.h"
#include "cli/commands/commands.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/unknown.h"
#include "cli/write.h"

static const struct cli_column result_columns[] = {
    {"NODE", "name", CLI_TEXT},
    {"RESULT", "result", CLI_TEXT},
    {.heading = NULL},
};

static json_t *find(const json_t *items, const char *name)
{
    json_t *item;
    size_t i;

    json_array_foreach(items, i, item) {
        const char *const text = json_string_value(json_object_get(item, "name"));

        if (text != NULL && strcmp(text, name) == 0)
            return item;
    }
    return NULL;
}

/* Chooses only names that are in the list. So a mistyped name registers nobody, and a node that is
 * registered keeps its labels. */
static enum hw_status choose(const json_t *list, char **names, int count, json_t *chosen,
                             struct hw_error *err)
{
    const json_t *items = json_object_get(list, "items");

    for (int i = 0; i < count; i++) {
        json_t *item = find(items, names[i]);

        if (hw_name_check(names[i], err) != HW_OK)
            return err->status;
        if (item == NULL)
            return hw_fail(err, HW_ENOENT,
                           "node \"%.130s\" is not among the unknown that are alive%s: it is "
                           "registered already, or gives no sign of life (headwater get nodes "
                           "--unknown lists them; headwater apply registers any)",
                           names[i],
                           json_is_true(json_object_get(list, "full")) ? ", a list that is full"
                                                                       : "");
        if (find(chosen, names[i]) == NULL)
            json_array_append(chosen, item);
    }
    return HW_OK;
}

static char *make_body(const struct cli *cli, const json_t *chosen, json_t *labels)
{
    HW_AUTO_JSON json_t *body = json_object();
    json_t *resources = json_array();
    const json_t *item;
    size_t i;

    json_array_foreach(chosen, i, item)
        json_array_append_new(resources,
                              json_pack("{s:s, s:O, s:O}", "kind", "node", "name",
                                        json_object_get(item, "name"), "labels", labels));
    if (cli->o->message != NULL)
        json_object_set_new(body, "message", json_string(cli->o->message));
    json_object_set_new(body, "resources", resources);
    return cli_json_text(body, false);
}

/* Asks the person at a terminal; a script says --yes. */
static enum hw_status agree(struct cli *cli, size_t count, bool *yes, struct hw_error *err)
{
    *yes = cli->o->yes;
    if (*yes)
        return HW_OK;
    if (isatty(STDIN_FILENO) == 0 || cli->output != CLI_TABLE)
        return cli_misused(cli, err,
                           "accept --all-unknown: look at them with --dry-run, then say --yes");
    *yes = cli_ask(count == 1 ? "Register it? [y/N] " : "Register them all? [y/N] ") == 'y';
    cli->negative = !*yes;
    if (!*yes)
        fputs("Nothing was changed.\n", stderr);
    return HW_OK;
}

static void show_results(struct cli *cli, const json_t *answer)
{
    cli_print_table(cli, json_object_get(answer, "results"), result_columns);
}

static enum hw_status register_all(struct cli *cli, const json_t *chosen, json_t *labels,
                                   struct hw_error *err)
{
    HW_AUTO_FREE char *body = make_body(cli, chosen, labels);

    return cli_write(cli,
                     &(struct cli_request){.method = "POST",
                                           .path = "/v1/apply",
                                           .media_type = "application/json",
                                           .body = body,
                                           .len = strlen(body)},
                     show_results, err);
}

enum hw_status cli_accept(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    const bool all = cli->o->all_unknown;
    HW_AUTO_JSON json_t *labels = NULL, *list = NULL, *named = json_array();

    if (all == (count > 0))
        return cli_misused(cli, err, "accept: the names of nodes, or --all-unknown");
    enum hw_status st = hw_labels_parse(cli->o->labels != NULL ? cli->o->labels : "", &labels, err);
    if (st != HW_OK) {
        cli->misused = true;
        (void)hw_fail_in(err, "--labels");
        return err->status = HW_EINVAL;
    }
    st = cli_unknown_fetch(cli, &list, err);
    if (st == HW_OK)
        st = choose(list, operands, count, named, err);
    if (st != HW_OK)
        return st;
    const json_t *chosen = all ? json_object_get(list, "items") : named;
    if (json_array_size(chosen) == 0) {
        fputs("No node that is alive is unknown.\n", stderr);
        return HW_OK;
    }
    if (cli->output == CLI_TABLE && (all || cli->o->dry_run)) {
        HW_AUTO_FREE char *text = cli_json_text(labels, false);
        HW_AUTO_FREE char *line = hw_sprintf("\nwith the labels %s\n\n", text);

        cli_print_table(cli, chosen, cli_unknown_columns);
        cli_print_text(cli, line, 0);
        fflush(stdout);
    }
    bool yes = true;
    if (all && !cli->o->dry_run)
        st = agree(cli, json_array_size(chosen), &yes, err);
    return st == HW_OK && yes ? register_all(cli, chosen, labels, err) : st;
}
