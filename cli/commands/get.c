/* get and fleet: lists, and single things. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/names.h"
#include "base/nearest.h"
#include "cli/client/http.h"
#include "cli/commands/commands.h"
#include "cli/document.h"
#include "cli/fetch.h"
#include "cli/live.h"
#include "cli/output.h"
#include "cli/unknown.h"

/* ---- lists ---- */

static const struct cli_column node_columns[] = {
    {"NAME", "name", CLI_TEXT},
    {"UPDATED", "updated_at", CLI_TIME},
    {"LABELS", "labels", CLI_LABELS},
    {"DESCRIPTION", "description", CLI_TEXT},
    {.heading = NULL},
};

static const struct cli_column config_columns[] = {
    {"NAME", "name", CLI_TEXT},
    {"CONFIG REV", "revision", CLI_TEXT},
    {"SIZE", "size", CLI_TEXT},
    {"DIGEST", "digest", CLI_DIGEST},
    {"TYPE", "media_type", CLI_TEXT},
    {"UPDATED", "updated_at", CLI_TIME},
    {"BY", "updated_by", CLI_TEXT},
    {"MESSAGE", "message", CLI_TEXT},
    {.heading = NULL},
};

static const struct cli_column assignment_columns[] = {
    {"NAME", "name", CLI_TEXT},
    {"CONFIG", "config", CLI_TEXT},
    {"PINNED", "revision", CLI_TEXT},
    {"PRIORITY", "priority", CLI_TEXT},
    {"NODE", "node", CLI_TEXT},
    {"SELECTOR", "selector", CLI_SELECTOR},
    {.heading = NULL},
};

static const struct cli_column fleet_columns[] = {
    {"NODE", "node", CLI_TEXT},
    {"STATE", "state", CLI_STATE},
    {"NODE REV", "desired_revision", CLI_TEXT},
    {"RUNNING", "reported_revision", CLI_TEXT},
    {"LAG S", "lag_seconds", CLI_TEXT},
    {"LABELS", "labels", CLI_LABELS},
    {"LAST SEEN", "last_seen", CLI_TIME},
    {"ERROR", "error", CLI_TEXT},
    {.heading = NULL},
};

static void show_items(struct cli *cli, const json_t *list, const struct cli_column *columns)
{
    cli_print_table(cli, json_object_get(list, "items"), columns);
}

static void show_nodes(struct cli *cli, const json_t *list)
{
    show_items(cli, list, node_columns);
}

static void show_configs(struct cli *cli, const json_t *list)
{
    show_items(cli, list, config_columns);
}

static void show_assignments(struct cli *cli, const json_t *list)
{
    show_items(cli, list, assignment_columns);
}

static void show_fleet(struct cli *cli, const json_t *list)
{
    const char *state;
    json_t *count;

    json_object_foreach(json_object_get(list, "counts"), state, count) {
        HW_AUTO_FREE char *text =
            hw_sprintf("%lld %.32s  ", (long long)json_integer_value(count), state);
        cli_print_text(cli, text, 0);
    }
    fputs("\n\n", stdout);
    show_items(cli, list, fleet_columns);
}

/* Follows the events that tell of changes in a list, or in one node's part of it. */
static enum hw_status watch_view(struct cli *cli, struct cli_view *view, const char *node,
                                 struct hw_error *err)
{
    struct hw_buf events = {0};

    hw_buf_puts(&events, "/v1/events");
    cli_query_add(&events, "node", node);
    cli_query_add(&events, "selector", cli->o->selector);
    view->events = events.data;
    const enum hw_status st = cli_live(cli, view, err);
    hw_buf_free(&events);
    return st;
}

/* collection: the items are completed to documents that apply takes; NULL: they are shown as they
 * come. */
static enum hw_status show_list(struct cli *cli, const char *path, const struct cli_column *columns,
                                cli_show_fn *show, const char *collection, struct hw_error *err)
{
    struct cli_view view = {.path = path, .columns = columns, .show = show};
    HW_AUTO_JSON json_t *list = NULL;
    enum hw_status st;

    if (cli->o->watch)
        return watch_view(cli, &view, cli->o->node, err);
    st = cli_fetch_list(cli, path, 0, &list, err);
    if (st == HW_OK && collection != NULL)
        st = cli_document_complete(cli, collection, list, err);
    if (st == HW_OK)
        cli_print(cli, list, show);
    return st;
}

enum hw_status cli_fleet(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    struct hw_buf path = {0};

    (void)operands, (void)count;
    hw_buf_puts(&path, "/v1/fleet");
    cli_query_add(&path, "node", cli->o->node);
    cli_query_add(&path, "state", cli->o->state);
    cli_query_add(&path, "selector", cli->o->selector);
    const enum hw_status st = show_list(cli, path.data, fleet_columns, show_fleet, NULL, err);
    hw_buf_free(&path);
    return st;
}

/* ---- get ---- */

struct kind {
    const char *name;
    const char *collection;
    const char *part;  /* of the one that is named, or NULL */
    cli_show_fn *show; /* of a list; NULL: one that is named */
    const struct cli_column *columns;
    bool content; /* --content goes with it */
    bool at;      /* --at goes with it */
    bool selector;
};

static const struct kind kinds[] = {
    {.name = "nodes",
     .collection = "nodes",
     .show = show_nodes,
     .columns = node_columns,
     .selector = true},
    {.name = "configs", .collection = "configs", .show = show_configs, .columns = config_columns},
    {.name = "assignments",
     .collection = "assignments",
     .show = show_assignments,
     .columns = assignment_columns},
    {.name = "node", .collection = "nodes", .content = true, .at = true},
    {.name = "config", .collection = "configs", .content = true},
    {.name = "assignment", .collection = "assignments"},
    {.name = "desired", .collection = "nodes", .part = "desired", .content = true, .at = true},
    {.name = "reported", .collection = "nodes", .part = "reported", .at = true},
};

static enum hw_status print_content(struct cli *cli, const char *path, struct hw_error *err)
{
    const struct cli_request request = {.path = path};
    struct cli_answer answer = {0};
    enum hw_status st = cli_http_send(cli->http, &request, &answer, err);

    /* The bytes may be of any type, but all that the API keeps has an entity tag. */
    if (st == HW_OK && answer.etag == NULL)
        st = hw_fail(err, HW_EPROTO, "GET %s: the answer has no ETag; is it headwater-api?", path);
    if (st == HW_OK)
        cli_print_bytes(answer.body, answer.len);
    cli_answer_free(&answer);
    return st;
}

/* Only the document of a node, and a node at a time, have a history: the configuration that it was
 * to run. */
static enum hw_status get_one(struct cli *cli, const struct kind *kind, const char *name,
                              struct hw_error *err)
{
    const struct cli_options *o = cli->o;
    const bool is_node = strcmp(kind->name, "node") == 0;
    const char *part = is_node && (o->content || o->at != NULL) ? "desired" : kind->part;
    HW_AUTO_FREE char *revision =
        o->revision > 0 ? hw_sprintf("%lld", (long long)o->revision) : NULL;
    HW_AUTO_JSON json_t *object = NULL;
    struct hw_buf path = {0};
    enum hw_status st = hw_name_check(name, err);

    if (st != HW_OK)
        return st;
    hw_buf_puts(&path, "/v1");
    cli_path_add(&path, kind->collection);
    cli_path_add(&path, name);
    if (part != NULL)
        cli_path_add(&path, part);
    if (o->content)
        cli_path_add(&path, "content");
    cli_query_add(&path, "at", o->at);
    cli_query_add(&path, "revision", revision);
    if (o->content)
        st = print_content(cli, path.data, err);
    else if (o->watch)
        st = watch_view(cli, &(struct cli_view){.path = path.data},
                        strcmp(kind->collection, "nodes") == 0 ? name : NULL, err);
    else
        st = cli_fetch(cli, path.data, &object, err);
    if (object != NULL && part == NULL)
        st = cli_document_complete(cli, kind->collection, object, err);
    if (st == HW_OK && object != NULL)
        cli_print(cli, object, NULL);
    hw_buf_free(&path);
    return st;
}

static enum hw_status check_get(struct cli *cli, const struct kind *kind, int count,
                                struct hw_error *err)
{
    const struct cli_options *o = cli->o;

    if (kind->show != NULL && count > 1)
        return cli_misused(cli, err, "get %s takes no name; for one of them: get %.*s NAME",
                           kind->name, (int)strlen(kind->name) - 1, kind->name);
    if (kind->show == NULL && count < 2)
        return cli_misused(cli, err, "get %s: a name is missing: get %s NAME", kind->name,
                           kind->name);
    if (o->content && !kind->content)
        return cli_misused(cli, err, "get %s has no --content", kind->name);
    if (o->at != NULL && !kind->at)
        return cli_misused(cli, err, "get %s does not take --at", kind->name);
    if (o->selector != NULL && !kind->selector)
        return cli_misused(cli, err, "get %s does not take --selector", kind->name);
    if (o->state != NULL)
        return cli_misused(cli, err, "get %s does not take --state", kind->name);
    if (o->revision > 0 && (strcmp(kind->name, "config") != 0 || !o->content))
        return cli_misused(cli, err, "--revision goes with --content of a config");
    if (o->watch && (o->content || o->at != NULL))
        return cli_misused(cli, err, "--watch goes neither with --content nor with --at");
    return HW_OK;
}

/* Refuses a word that is no kind: it is mistyped, or the name of something without its kind. */
static enum hw_status refuse_kind(struct cli *cli, const char *word, struct hw_error *err)
{
    struct hw_nearest nearest = {.word = word};

    for (size_t i = 0; i < HW_COUNT(kinds); i++)
        hw_nearest_try(&nearest, kinds[i].name);
    if (nearest.best != NULL)
        return cli_misused(cli, err, "get %.100s: did you mean get %s?", word, nearest.best);
    return cli_misused(cli, err,
                       "get %.100s: the kind comes first: nodes, configs, assignments, fleet, or "
                       "with a name node, "
                       "config, assignment, desired, reported, such as get node %.100s",
                       word, word);
}

enum hw_status cli_get(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    const struct kind *kind = kinds;

    if (cli->o->unknown &&
        (strcmp(operands[0], "nodes") != 0 || cli->o->selector != NULL || cli->o->watch))
        return cli_misused(cli, err,
                           "get %s: --unknown goes with nodes, and without --selector and --watch",
                           operands[0]);
    if (strcmp(operands[0], "fleet") == 0 && count == 1)
        return cli_fleet(cli, operands, 0, err);
    while (kind < kinds + HW_COUNT(kinds) && strcmp(kind->name, operands[0]) != 0)
        kind++;
    if (kind == kinds + HW_COUNT(kinds))
        return refuse_kind(cli, operands[0], err);
    const enum hw_status st = check_get(cli, kind, count, err);
    if (st != HW_OK)
        return st;
    if (kind->show == NULL)
        return get_one(cli, kind, operands[1], err);
    if (cli->o->unknown)
        return cli_unknown_print(cli, err);
    struct hw_buf path = {0};
    hw_buf_puts(&path, "/v1");
    cli_path_add(&path, kind->collection);
    cli_query_add(&path, "selector", cli->o->selector);
    const enum hw_status listed =
        show_list(cli, path.data, kind->columns, kind->show, kind->collection, err);
    hw_buf_free(&path);
    return listed;
}
