/* apply and diff: resources from files, in one transaction. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/names.h"
#include "cli/ask.h"
#include "cli/commands/commands.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/resources.h"
#include "cli/text.h"
#include "cli/write.h"

static const struct cli_column result_columns[] = {
    {"KIND", "kind", CLI_TEXT}, {"NAME", "name", CLI_TEXT}, {"RESULT", "result", CLI_TEXT},
    {"ETAG", "etag", CLI_TEXT}, {.heading = NULL},
};

static void show_results(struct cli *cli, const json_t *answer)
{
    cli_print_table(cli, json_object_get(answer, "results"), result_columns);
}

/* --file and operands are the same thing. */
static enum hw_status read_resources(struct cli *cli, char **operands, int count,
                                     struct cli_resources *resources, struct hw_error *err)
{
    const size_t total = (size_t)count + (cli->o->file != NULL ? 1 : 0);
    HW_AUTO_FREE char **paths = hw_alloc((total + 1) * sizeof(*paths));
    size_t next = 0;

    if (total == 0)
        return cli_misused(cli, err, "a file is missing: -f FILE, or -f - for standard input");
    HW_AUTO_FREE char *first = cli->o->file != NULL ? hw_strdup(cli->o->file) : NULL;
    if (first != NULL)
        paths[next++] = first;
    for (int i = 0; i < count; i++)
        paths[next++] = operands[i];
    return cli_resources_read(paths, total, resources, err);
}

static enum hw_status check_set(struct cli *cli, struct hw_error *err)
{
    const struct cli_options *o = cli->o;

    if (o->set != NULL && hw_name_check(o->set, err) != HW_OK) {
        cli->misused = true;
        return hw_fail_in(err, "--set");
    }
    if (o->prune && o->set == NULL)
        return cli_misused(cli, err,
                           "--prune: it removes what a set applied before; which, says "
                           "--set NAME");
    return HW_OK;
}

/* Resources are removed only after a person has seen the plan. Is there a person? */
static enum hw_status check_terminal(struct cli *cli, char **operands, int count,
                                     struct hw_error *err)
{
    const char *file = cli->o->file;
    bool by_hand = cli_is_interactive() && cli->output == CLI_TABLE;

    if (file != NULL && strcmp(file, "-") == 0)
        by_hand = false;
    for (int i = 0; i < count; i++)
        by_hand &= strcmp(operands[i], "-") != 0;
    if (by_hand)
        return HW_OK;
    return cli_misused(cli, err,
                       "--prune: it shows on a terminal what it will remove, and asks; where there "
                       "is none, --yes agrees, and --dry-run shows");
}

static enum hw_status check_whole(const struct cli *cli, const struct cli_resources *resources,
                                  struct hw_error *err)
{
    if (cli->o->prune && resources->partial)
        return hw_fail(err, HW_EINVAL,
                       "a list in the files has more items than are in it (see its next): --prune "
                       "would remove the others");
    return HW_OK;
}

static char *make_body(const struct cli *cli, const struct cli_resources *resources)
{
    HW_AUTO_JSON json_t *body = json_object();

    if (cli->o->message != NULL)
        json_object_set_new(body, "message", json_string(cli->o->message));
    json_object_set(body, "resources", resources->list);
    return cli_json_text(body, false);
}

/* The server's "$.resources[3].priority: …" is a place in the request. It is replaced by the file
 * and line that the resource came from. */
static void name_origin(const struct cli_resources *resources, struct hw_error *err)
{
    static const char sign[] = "$.resources[";
    const char *at = strstr(err->message, sign);
    char *end;

    if (at == NULL)
        return;
    const unsigned long index = strtoul(at + strlen(sign), &end, 10);
    if (*end != ']' || index >= resources->count)
        return;
    const json_t *resource = json_array_get(resources->list, index);
    const char *rest = end + 1 + (end[1] == '.' ? 1 : strspn(end + 1, ": "));
    HW_AUTO_FREE char *which =
        hw_sprintf("%.20s \"%.130s\": ", json_string_value(json_object_get(resource, "kind")),
                   json_string_value(json_object_get(resource, "name")));
    if (strncmp(rest, which, strlen(which)) == 0)
        rest += strlen(which); /* the database names it as well */
    HW_AUTO_FREE char *without = hw_sprintf("%.200s: %s%.*s%s", resources->origins[index], which,
                                            (int)(at - err->message), err->message, rest);
    (void)hw_fail(err, err->status, "%s", without);
}

/* The path of the request, malloc'ed. */
static char *make_path(const struct cli *cli)
{
    struct hw_buf path = {0};

    hw_buf_puts(&path, "/v1/apply");
    cli_query_add(&path, "set", cli->o->set);
    cli_query_add(&path, "prune", cli->o->prune ? "true" : NULL);
    return path.data;
}

enum hw_status cli_apply(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    const bool asks = cli->o->prune && !cli->o->yes && !cli->o->dry_run;
    struct cli_resources resources = {0};
    enum hw_status st = check_set(cli, err);

    if (st == HW_OK && asks)
        st = check_terminal(cli, operands, count, err);
    if (st == HW_OK)
        st = read_resources(cli, operands, count, &resources, err);
    if (st != HW_OK)
        return st;
    HW_AUTO_FREE char *body = make_body(cli, &resources);
    HW_AUTO_FREE char *path = make_path(cli);
    struct cli_request request = {.method = "POST",
                                  .path = path,
                                  .media_type = "application/json",
                                  .body = body,
                                  .len = strlen(body)};
    st = check_whole(cli, &resources, err);
    if (st == HW_OK && asks)
        st = cli_plan_ask(cli, &request, NULL, err);
    if (st == HW_OK && asks && cli_ask("Do it? [y/N] ") != 'y') {
        fputs("headwater: nothing was done\n", stderr);
        cli->negative = true;
    } else if (st == HW_OK) {
        st = cli_write(cli, &request, show_results, err);
    }
    if (st != HW_OK)
        name_origin(&resources, err);
    cli_resources_free(&resources);
    return st;
}

enum hw_status cli_diff(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    struct cli_resources resources = {0};
    json_int_t changes = 0;
    enum hw_status st = check_set(cli, err);

    if (st == HW_OK)
        st = read_resources(cli, operands, count, &resources, err);
    if (st != HW_OK)
        return st;
    HW_AUTO_FREE char *body = make_body(cli, &resources);
    HW_AUTO_FREE char *path = make_path(cli);
    st = check_whole(cli, &resources, err);
    if (st == HW_OK)
        st = cli_plan_ask(cli,
                          &(struct cli_request){.method = "POST",
                                                .path = path,
                                                .media_type = "application/json",
                                                .body = body,
                                                .len = strlen(body)},
                          &changes, err);
    if (st != HW_OK)
        name_origin(&resources, err);
    cli->negative = changes > 0;
    cli_resources_free(&resources);
    return st;
}
