#include "cli/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/client/http.h"
#include "cli/output.h"
#include "cli/text.h"

enum { NAMES_SHOWN = 10, DIGEST_SHOWN = 19, RED = 31, GREEN = 32, CYAN = 36, BOLD = 1 };

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "?";
}

/* The part of a change, as text, by which two changes are shown as one. */
static char *kind_of(const json_t *change)
{
    const json_t *old = json_object_get(change, "old"), *new = json_object_get(change, "new");
    const json_t *diff = json_object_get(change, "diff");
    HW_AUTO_FREE char *differences = diff != NULL ? cli_json_text(diff, false) : hw_strdup("null");

    return hw_sprintf("%s %s %s %s %s %s", text_of(change, "change"), text_of(old, "digest"),
                      text_of(old, "media_type"), text_of(new, "digest"),
                      text_of(new, "media_type"), differences);
}

/* For each kind the array of its changes, in the order of their first ones. */
static json_t *group(const json_t *changes)
{
    json_t *kinds = json_object();
    const json_t *change;
    size_t i;

    json_array_foreach(changes, i, change) {
        HW_AUTO_FREE char *kind = kind_of(change);
        json_t *alike = json_object_get(kinds, kind);

        if (alike == NULL) {
            alike = json_array();
            json_object_set_new(kinds, kind, alike);
        }
        json_array_append(alike, (json_t *)(uintptr_t)change);
    }
    return kinds;
}

static void print_nodes(const struct cli *cli, const json_t *alike)
{
    const size_t count = json_array_size(alike);
    struct hw_buf line = {0};

    hw_buf_puts(&line, text_of(json_array_get(alike, 0), "node"));
    if (count > 1)
        hw_buf_printf(&line, " and %zu more (", count - 1);
    for (size_t i = 1; i < count && i <= NAMES_SHOWN; i++)
        hw_buf_printf(&line, "%s%s", i > 1 ? ", " : "", text_of(json_array_get(alike, i), "node"));
    if (count > 1)
        hw_buf_puts(&line, count > NAMES_SHOWN + 1 ? ", \xE2\x80\xA6)" : ")");
    hw_buf_printf(&line, ": %s\n", text_of(json_array_get(alike, 0), "change"));
    cli_print_text(cli, line.data, BOLD);
    hw_buf_free(&line);
}

static void print_side(const struct cli *cli, const char *sign, const json_t *side, int colour)
{
    HW_AUTO_FREE char *line = NULL;

    if (!json_is_object(side))
        line = hw_sprintf("%s nothing\n", sign);
    else
        line = hw_sprintf("%s node revision %lld  %.*s  %s\n", sign,
                          (long long)json_integer_value(json_object_get(side, "revision")),
                          DIGEST_SHOWN, text_of(side, "digest"), text_of(side, "media_type"));
    cli_print_text(cli, line, colour);
}

/* Prints every line of a value behind a sign. */
static void print_value(const struct cli *cli, char sign, const json_t *value, int colour)
{
    HW_AUTO_FREE char *text = cli_json_text(value, true);
    struct hw_buf lines = {0};

    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;)
        hw_buf_printf(&lines, "%c%s\n", sign, line);
    cli_print_text(cli, lines.data, colour);
    hw_buf_free(&lines);
}

/* omitted: the values that the server left out because they are long. */
static void print_side_of(const struct cli *cli, const char *side, const json_t *difference,
                          const char *omitted)
{
    const bool is_old = strcmp(side, "old") == 0;
    const json_t *value = json_object_get(difference, side);
    const int colour = is_old ? RED : GREEN;

    if (value != NULL)
        print_value(cli, is_old ? '-' : '+', value, colour);
    else if (omitted != NULL && strstr(omitted, side) != NULL)
        cli_print_text(cli, is_old ? "-(too long to show)\n" : "+(too long to show)\n", colour);
}

static void print_difference(const struct cli *cli, const json_t *difference)
{
    const char *omitted = json_string_value(json_object_get(difference, "omitted"));
    const char *path = text_of(difference, "path");
    HW_AUTO_FREE char *line = hw_sprintf("@@ %s\n", *path != '\0' ? path : "(the whole document)");

    if (omitted != NULL && strcmp(omitted, "more") == 0) {
        cli_print_text(cli, "@@ (and more)\n", CYAN);
        return;
    }
    cli_print_text(cli, line, CYAN);
    print_side_of(cli, "old", difference, omitted);
    print_side_of(cli, "new", difference, omitted);
}

/* What becomes of a resource, as the plan has it, and as people read it. */
static const struct outcome {
    const char *result, *verb, *participle;
    int colour;
} outcomes[] = {
    {"created", "create", "created", GREEN},
    {"changed", "change", "changed", CYAN},
    {"deleted", "remove", "removed", RED},
};

static json_int_t count_results(const json_t *plan, const struct outcome *outcome)
{
    const json_t *result;
    json_int_t count = 0;
    size_t i;

    json_array_foreach(json_object_get(plan, "results"), i, result)
        count += strcmp(text_of(result, "result"), outcome->result) == 0;
    return count;
}

/* A change of a resource is one also where no node gets another document by it. */
static json_int_t count_changes(const json_t *plan)
{
    json_int_t count = json_integer_value(json_object_get(plan, "nodes"));

    for (size_t i = 0; i < HW_COUNT(outcomes); i++)
        count += count_results(plan, &outcomes[i]);
    return count;
}

static void print_result(const struct cli *cli, const json_t *result, const char *what, int colour)
{
    HW_AUTO_FREE char *line =
        hw_sprintf("%s %s: %s\n", text_of(result, "kind"), text_of(result, "name"), what);

    cli_print_text(cli, line, colour);
}

/* Prints the resources that would differ, and those that a set had and others changed. */
static void print_results(const struct cli *cli, const json_t *results)
{
    const json_t *result;
    size_t i;

    json_array_foreach(results, i, result) {
        const char *name = text_of(result, "result");

        for (size_t k = 0; k < HW_COUNT(outcomes); k++)
            if (strcmp(name, outcomes[k].result) == 0)
                print_result(cli, result, outcomes[k].verb, outcomes[k].colour);
        if (strcmp(name, "kept") == 0)
            print_result(cli, result, "keep, others changed it since the set applied it", 0);
    }
}

static void print_plan(struct cli *cli, const json_t *plan)
{
    const json_int_t nodes = json_integer_value(json_object_get(plan, "nodes"));
    HW_AUTO_JSON json_t *kinds = group(json_object_get(plan, "changes"));
    const char *kind;
    json_t *alike;

    json_object_foreach(kinds, kind, alike) {
        const json_t *first = json_array_get(alike, 0), *difference;
        size_t i;

        print_nodes(cli, alike);
        print_side(cli, "---", json_object_get(first, "old"), RED);
        print_side(cli, "+++", json_object_get(first, "new"), GREEN);
        json_array_foreach(json_object_get(first, "diff"), i, difference)
            print_difference(cli, difference);
        putchar('\n');
    }
    if (json_is_true(json_object_get(plan, "truncated")))
        puts("(more nodes than are shown)");
    print_results(cli, json_object_get(plan, "results"));
    printf("%lld node%s would change", (long long)nodes, nodes == 1 ? "" : "s");
    for (size_t i = 0; i < HW_COUNT(outcomes); i++) {
        const json_int_t count = count_results(plan, &outcomes[i]);

        if (count > 0)
            printf(", %lld resource%s would be %s", (long long)count, count == 1 ? "" : "s",
                   outcomes[i].participle);
    }
    putchar('\n');
}

enum hw_status cli_plan_print(struct cli *cli, const json_t *plan, json_int_t *changes,
                              struct hw_error *err)
{
    const json_t *nodes = json_object_get(plan, "nodes");

    if (!json_is_true(json_object_get(plan, "dry_run")) || !json_is_integer(nodes) ||
        !json_is_array(json_object_get(plan, "changes")))
        return hw_fail(err, HW_EPROTO, "the answer is not that of a dry run; is it headwater-api?");
    cli_print(cli, plan, print_plan);
    fflush(stdout); /* messages on stderr must come behind it */
    cli_warn(plan);
    if (changes != NULL)
        *changes = count_changes(plan);
    return HW_OK;
}

enum hw_status cli_plan_ask(struct cli *cli, const struct cli_request *write, json_int_t *changes,
                            struct hw_error *err)
{
    struct cli_request request = *write;
    struct cli_answer answer = {0};
    HW_AUTO_JSON json_t *plan = NULL;
    struct hw_buf path = {0};

    hw_buf_puts(&path, write->path);
    cli_query_add(&path, "dry_run", "true");
    request.path = path.data;
    enum hw_status st = cli_http_json(cli->http, &request, &answer, &plan, err);
    if (st == HW_OK)
        st = cli_plan_print(cli, plan, changes, err);
    cli_answer_free(&answer);
    hw_buf_free(&path);
    return st;
}
