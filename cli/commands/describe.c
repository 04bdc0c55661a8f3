/* describe: everything about one node, config or assignment on one page. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json_text.h"
#include "base/memory.h"
#include "base/names.h"
#include "cli/commands/commands.h"
#include "cli/fetch.h"
#include "cli/output.h"

enum { REPORTS = 5, REVISIONS = 5, NODES_SHOWN = 10 };

/* ---- asking ---- */

/* Adds the answer to a path as a member of page; null where there is no such thing. */
static enum hw_status add_part(struct cli *cli, json_t *page, const char *name, const char *path,
                               struct hw_error *err)
{
    json_t *part = NULL;
    const enum hw_status st = cli_fetch(cli, path, &part, err);

    if (st != HW_OK && st != HW_ENOENT)
        return st;
    json_object_set_new(page, name, st == HW_OK ? part : json_null());
    return HW_OK;
}

static char *path_of(const char *collection, const char *name, const char *part)
{
    struct hw_buf path = {0};

    hw_buf_puts(&path, "/v1");
    cli_path_add(&path, collection);
    cli_path_add(&path, name);
    if (part != NULL)
        hw_buf_puts(&path, part);
    return path.data;
}

/* Adds the thing itself, which must be there. */
static enum hw_status add_subject(struct cli *cli, json_t *page, const char *kind,
                                  const char *collection, const char *name, struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_of(collection, name, NULL);
    json_t *subject = NULL;
    const enum hw_status st = cli_fetch(cli, path, &subject, err);

    if (st == HW_OK)
        json_object_set_new(page, kind, subject);
    return st;
}

/* The time one microsecond before a time such as 2026-01-31T12:00:00.5Z, malloc'ed; NULL: it is
 * none. */
static char *before(const char *text)
{
    struct tm tm = {0};
    char seconds[32];
    const char *rest = text != NULL ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    long micros = 0;

    if (rest == NULL)
        return NULL;
    const bool fraction = *rest == '.';
    for (int digit = 0; digit < 6; digit++)
        micros = micros * 10 + (fraction && rest[1] >= '0' && rest[1] <= '9' ? *++rest - '0' : 0);
    const time_t whole = timegm(&tm) - (micros == 0 ? 1 : 0);
    if (gmtime_r(&whole, &tm) == NULL || strftime(seconds, sizeof(seconds), "%FT%T", &tm) == 0)
        return NULL;
    return hw_sprintf("%s.%06ldZ", seconds, micros == 0 ? 999999 : micros - 1);
}

/* Adds the last reports, newest first. Each is found by asking for the report just before the one
 * after it. */
static enum hw_status add_reports(struct cli *cli, json_t *page, const char *name,
                                  struct hw_error *err)
{
    json_t *reports = json_array();
    HW_AUTO_FREE char *at = NULL;

    json_object_set_new(page, "reports", reports);
    for (int i = 0; i < REPORTS; i++) {
        HW_AUTO_FREE char *plain = path_of("nodes", name, "/reported");
        struct hw_buf path = {0};
        json_t *report = NULL;

        hw_buf_puts(&path, plain);
        cli_query_add(&path, "at", at);
        const enum hw_status st = cli_fetch(cli, path.data, &report, err);
        hw_buf_free(&path);
        if (st == HW_ENOENT)
            return HW_OK;
        if (st != HW_OK)
            return st;
        json_array_append_new(reports, report);
        free(at);
        at = before(json_string_value(json_object_get(report, "received_at")));
        if (at == NULL)
            return HW_OK;
    }
    return HW_OK;
}

static enum hw_status ask_node(struct cli *cli, json_t *page, const char *name,
                               struct hw_error *err)
{
    HW_AUTO_FREE char *desired = path_of("nodes", name, "/desired");
    HW_AUTO_FREE char *explain = path_of("nodes", name, "/explain");
    HW_AUTO_FREE char *fleet = hw_sprintf("/v1/fleet?node=%s", name);
    HW_AUTO_JSON json_t *list = NULL;
    enum hw_status st = add_subject(cli, page, "node", "nodes", name, err);

    if (st == HW_OK)
        st = cli_fetch_list(cli, fleet, 0, &list, err);
    if (st == HW_OK)
        json_object_set(page, "state", json_array_get(json_object_get(list, "items"), 0));
    if (st == HW_OK)
        st = add_part(cli, page, "desired", desired, err);
    if (st == HW_OK)
        st = add_part(cli, page, "explanation", explain, err);
    return st == HW_OK ? add_reports(cli, page, name, err) : st;
}

/* {"counts", "items": [{"node", "state"}]} of the nodes that an assignment matches. */
static enum hw_status fetch_matches(struct cli *cli, const json_t *assignment, json_t **matches,
                                    struct hw_error *err)
{
    const json_t *selector = json_object_get(assignment, "selector");
    HW_AUTO_FREE char *labels = json_is_object(selector) ? hw_json_text(selector, false) : NULL;
    struct hw_buf path = {0};

    hw_buf_puts(&path, "/v1/fleet?fields=node,state");
    cli_query_add(&path, "selector", labels);
    cli_query_add(&path, "node", json_string_value(json_object_get(assignment, "node")));
    const enum hw_status st = cli_fetch_list(cli, path.data, 0, matches, err);
    hw_buf_free(&path);
    return st;
}

static void add_counts(json_t *assignment, const json_t *matches)
{
    const char *state;
    json_t *count;
    json_int_t nodes = 0;

    json_object_foreach(json_object_get(matches, "counts"), state, count)
        nodes += json_integer_value(count);
    json_object_set_new(assignment, "nodes", json_integer(nodes));
    json_object_set(assignment, "counts", json_object_get(matches, "counts"));
}

static enum hw_status ask_assignment(struct cli *cli, json_t *page, const char *name,
                                     struct hw_error *err)
{
    HW_AUTO_JSON json_t *matches = NULL;
    enum hw_status st = add_subject(cli, page, "assignment", "assignments", name, err);
    json_t *assignment = json_object_get(page, "assignment");
    const char *config = json_string_value(json_object_get(assignment, "config"));

    if (st == HW_OK && config != NULL) {
        HW_AUTO_FREE char *path = path_of("configs", config, NULL);
        st = add_part(cli, page, "config", path, err);
    }
    if (st == HW_OK)
        st = fetch_matches(cli, assignment, &matches, err);
    if (st != HW_OK)
        return st;
    add_counts(assignment, matches);
    json_object_set(page, "nodes", json_object_get(matches, "items"));
    return HW_OK;
}

/* The assignments that use a config, with what they match, and the nodes of all, each once. */
static enum hw_status add_users(struct cli *cli, json_t *page, const char *name,
                                struct hw_error *err)
{
    json_t *users = json_array(), *nodes = json_array(), *assignment;
    HW_AUTO_JSON json_t *list = NULL;
    HW_AUTO_JSON json_t *seen = json_object();
    size_t i, k;
    enum hw_status st = cli_fetch_list(cli, "/v1/assignments", 0, &list, err);

    json_object_set_new(page, "assignments", users);
    json_object_set_new(page, "nodes", nodes);
    json_array_foreach(json_object_get(list, "items"), i, assignment) {
        const char *config = json_string_value(json_object_get(assignment, "config"));
        HW_AUTO_JSON json_t *matches = NULL;
        json_t *match;

        if (st != HW_OK || config == NULL || strcmp(config, name) != 0)
            continue;
        st = fetch_matches(cli, assignment, &matches, err);
        add_counts(assignment, matches);
        json_array_append(users, assignment);
        json_array_foreach(json_object_get(matches, "items"), k, match) {
            const char *node = json_string_value(json_object_get(match, "node"));

            if (node == NULL || json_object_get(seen, node) != NULL)
                continue;
            json_object_set_new(seen, node, json_true());
            json_array_append(nodes, match);
        }
    }
    return st;
}

static enum hw_status ask_config(struct cli *cli, json_t *page, const char *name,
                                 struct hw_error *err)
{
    HW_AUTO_FREE char *schema = path_of("configs", name, "/schema");
    HW_AUTO_FREE char *revisions = path_of("configs", name, "/revisions?limit=");
    HW_AUTO_FREE char *some = hw_sprintf("%s%d", revisions, REVISIONS);
    enum hw_status st = add_subject(cli, page, "config", "configs", name, err);

    if (st == HW_OK)
        st = add_part(cli, page, "schema", schema, err);
    if (st == HW_OK)
        st = add_part(cli, page, "revisions", some, err);
    return st == HW_OK ? add_users(cli, page, name, err) : st;
}

/* ---- showing ---- */

static void show_heading(const struct cli *cli, const char *heading)
{
    putchar('\n');
    cli_print_text(cli, heading, 1);
    putchar('\n');
}

static const struct cli_column node_fields[] = {
    {"node", "name", CLI_TEXT},
    {"labels", "labels", CLI_LABELS},
    {"description", "description", CLI_TEXT},
    {"made", "created_at", CLI_TIME},
    {"changed", "updated_at", CLI_TIME},
    {.heading = NULL},
};
static const struct cli_column state_fields[] = {
    {"state", "state", CLI_STATE},
    {"desired", "desired_revision", CLI_TEXT},
    {"running", "reported_revision", CLI_TEXT},
    {"lag s", "lag_seconds", CLI_TEXT},
    {"error", "error", CLI_TEXT},
    {"held", "held", CLI_TEXT},
    {"drift", "drift", CLI_TEXT},
    {"agent", "instance", CLI_TEXT},
    {"conflict", "conflict", CLI_TEXT},
    {"last seen", "last_seen", CLI_TIME},
    {.heading = NULL},
};
static const struct cli_column desired_fields[] = {
    {"revision", "revision", CLI_TEXT}, {"digest", "digest", CLI_TEXT},
    {"size", "size", CLI_TEXT},         {"type", "media_type", CLI_TEXT},
    {"since", "changed_at", CLI_TIME},  {.heading = NULL},
};
static const struct cli_column source_columns[] = {
    {"PRIORITY", "priority", CLI_TEXT},
    {"ASSIGNMENT", "assignment", CLI_TEXT},
    {"CONFIG", "config", CLI_TEXT},
    {"REVISION", "revision", CLI_TEXT},
    {.heading = NULL},
};
static const struct cli_column report_columns[] = {
    {"RECEIVED", "at", CLI_TIME}, {"STATE", "state", CLI_STATE}, {"REVISION", "revision", CLI_TEXT},
    {"STAGE", "stage", CLI_TEXT}, {"ERROR", "error", CLI_TEXT},  {.heading = NULL},
};

/* A report has what runs and what failed; its row shows the one that its state is about. */
static json_t *report_rows(const json_t *reports)
{
    json_t *rows = json_array();
    const json_t *report;
    size_t i;

    json_array_foreach(reports, i, report) {
        const json_t *failed = json_object_get(report, "failed");
        const json_t *about = json_is_object(failed) ? failed : json_object_get(report, "running");
        json_t *row = json_object();

        json_object_set(row, "at", json_object_get(report, "received_at"));
        json_object_set(row, "state", json_object_get(report, "state"));
        json_object_set(row, "revision", json_object_get(about, "revision"));
        json_object_set(row, "stage", json_object_get(about, "stage"));
        json_object_set(row, "error", json_object_get(about, "error"));
        json_array_append_new(rows, row);
    }
    return rows;
}

static void show_node(struct cli *cli, const json_t *page)
{
    const json_t *desired = json_object_get(page, "desired");
    HW_AUTO_JSON json_t *reports = report_rows(json_object_get(page, "reports"));

    cli_print_fields(cli, json_object_get(page, "node"), node_fields);
    show_heading(cli, "State");
    cli_print_fields(cli, json_object_get(page, "state"), state_fields);
    show_heading(cli, "Desired");
    if (json_is_object(desired)) {
        cli_print_fields(cli, desired, desired_fields);
        show_heading(cli, "Made of (later ones go before earlier ones)");
        cli_print_table(cli, json_object_get(json_object_get(page, "explanation"), "sources"),
                        source_columns);
    } else {
        puts("nothing: no assignment matches it");
    }
    show_heading(cli, "Last reports");
    if (json_array_size(reports) > 0)
        cli_print_table(cli, reports, report_columns);
    else
        puts("none yet");
}

static const struct cli_column config_fields[] = {
    {"config", "name", CLI_TEXT},        {"revision", "revision", CLI_TEXT},
    {"size", "size", CLI_TEXT},          {"type", "media_type", CLI_TEXT},
    {"digest", "digest", CLI_TEXT},      {"made", "created_at", CLI_TIME},
    {"changed", "updated_at", CLI_TIME}, {"by", "updated_by", CLI_TEXT},
    {"message", "message", CLI_TEXT},    {.heading = NULL},
};
static const struct cli_column user_columns[] = {
    {"ASSIGNMENT", "name", CLI_TEXT},
    {"PINNED", "revision", CLI_TEXT},
    {"PRIORITY", "priority", CLI_TEXT},
    {"NODE", "node", CLI_TEXT},
    {"SELECTOR", "selector", CLI_SELECTOR},
    {"MATCHES", "nodes", CLI_TEXT},
    {.heading = NULL},
};
static const struct cli_column revision_columns[] = {
    {"REVISION", "revision", CLI_TEXT}, {"CREATED", "created_at", CLI_TIME},
    {"AUTHOR", "author", CLI_TEXT},     {"SIZE", "size", CLI_TEXT},
    {"MESSAGE", "message", CLI_TEXT},   {.heading = NULL},
};
static const struct cli_column assignment_fields[] = {
    {"assignment", "name", CLI_TEXT},    {"config", "config", CLI_TEXT},
    {"pinned", "revision", CLI_TEXT},    {"priority", "priority", CLI_TEXT},
    {"node", "node", CLI_TEXT},          {"selector", "selector", CLI_SELECTOR},
    {"matches", "nodes", CLI_TEXT},      {"made", "created_at", CLI_TIME},
    {"changed", "updated_at", CLI_TIME}, {.heading = NULL},
};
static const struct cli_column match_columns[] = {
    {"NODE", "node", CLI_TEXT}, {"STATE", "state", CLI_STATE}, {.heading = NULL}};

/* Prints how many nodes are in which state, and the names of some; those that are in sync come
 * last. */
static void show_nodes(struct cli *cli, const json_t *nodes)
{
    HW_AUTO_JSON json_t *counts = json_object();
    HW_AUTO_JSON json_t *some = json_array();
    const json_t *node;
    const char *state;
    json_t *count;
    size_t i;

    json_array_foreach(nodes, i, node) {
        const char *in = json_string_value(json_object_get(node, "state"));

        if (in == NULL)
            continue;
        json_object_set_new(counts, in,
                            json_integer(json_integer_value(json_object_get(counts, in)) + 1));
        if (strcmp(in, "in_sync") != 0 && json_array_size(some) < NODES_SHOWN)
            json_array_append(some, (json_t *)(uintptr_t)node);
    }
    json_array_foreach(nodes, i, node) {
        const char *in = json_string_value(json_object_get(node, "state"));

        if (in != NULL && strcmp(in, "in_sync") == 0 && json_array_size(some) < NODES_SHOWN)
            json_array_append(some, (json_t *)(uintptr_t)node);
    }
    if (json_object_size(counts) == 0)
        fputs("none", stdout);
    json_object_foreach(counts, state, count) {
        HW_AUTO_FREE char *text =
            hw_sprintf("%lld %.32s  ", (long long)json_integer_value(count), state);
        cli_print_text(cli, text, 0);
    }
    putchar('\n');
    if (json_array_size(some) > 0)
        cli_print_table(cli, some, match_columns);
    if (json_array_size(nodes) > json_array_size(some))
        printf("(and %zu more)\n", json_array_size(nodes) - json_array_size(some));
}

static void show_config(struct cli *cli, const json_t *page)
{
    const json_t *users = json_object_get(page, "assignments");

    cli_print_fields(cli, json_object_get(page, "config"), config_fields);
    printf("schema    %s\n", json_is_object(json_object_get(page, "schema")) ? "yes" : "none");
    show_heading(cli, "Assignments that use it");
    if (json_array_size(users) > 0)
        cli_print_table(cli, users, user_columns);
    else
        puts("none: no node runs it");
    show_heading(cli, "Nodes that they match");
    show_nodes(cli, json_object_get(page, "nodes"));
    show_heading(cli, "Last revisions");
    cli_print_table(cli, json_object_get(json_object_get(page, "revisions"), "items"),
                    revision_columns);
}

static void show_assignment(struct cli *cli, const json_t *page)
{
    cli_print_fields(cli, json_object_get(page, "assignment"), assignment_fields);
    show_heading(cli, "Config");
    cli_print_fields(cli, json_object_get(page, "config"), config_fields);
    show_heading(cli, "Nodes that it matches");
    show_nodes(cli, json_object_get(page, "nodes"));
}

enum hw_status cli_describe(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    static const struct {
        const char *name;
        enum hw_status (*ask)(struct cli *, json_t *, const char *, struct hw_error *);
        cli_show_fn *show;
    } kinds[] = {{"node", ask_node, show_node},
                 {"config", ask_config, show_config},
                 {"assignment", ask_assignment, show_assignment}};
    HW_AUTO_JSON json_t *page = json_object();
    size_t kind = 0;

    (void)count;
    while (kind < HW_COUNT(kinds) && strcmp(kinds[kind].name, operands[0]) != 0)
        kind++;
    if (kind == HW_COUNT(kinds))
        return cli_misused(cli, err, "describe %s: it takes node, config or assignment",
                           operands[0]);
    enum hw_status st = hw_name_check(operands[1], err);
    if (st == HW_OK) {
        json_object_set_new(page, "kind", json_string(operands[0]));
        json_object_set_new(page, "name", json_string(operands[1]));
        st = kinds[kind].ask(cli, page, operands[1], err);
    }
    if (st == HW_OK)
        cli_print(cli, page, kinds[kind].show);
    return st;
}
