/* context list | add | use | remove */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/names.h"
#include "cli/client/http.h"
#include "cli/commands/commands.h"
#include "cli/contexts.h"
#include "cli/output.h"

static const struct cli_column columns[] = {
    {"IN USE", "current", CLI_FLAG},
    {"NAME", "name", CLI_TEXT},
    {"SERVER", "server", CLI_TEXT},
    {"TOKEN FILE", "token_file", CLI_TEXT},
    {.heading = NULL},
};

static void show_contexts(struct cli *cli, const json_t *list)
{
    cli_print_table(cli, json_object_get(list, "items"), columns);
}

static enum hw_status list_contexts(struct cli *cli, const json_t *file, struct hw_error *err)
{
    HW_AUTO_JSON json_t *list = json_pack("{s:[]}", "items");
    const char *name, *current = cli_contexts_chosen(cli->o, file);
    json_t *context;

    (void)err;
    json_object_foreach(json_object_get(file, "contexts"), name, context) {
        const bool is_current = current != NULL && strcmp(name, current) == 0;
        json_t *item = json_pack("{s:s, s:b}", "name", name, "current", is_current);

        json_object_update(item, context);
        json_array_append_new(json_object_get(list, "items"), item);
    }
    cli_print(cli, list, show_contexts);
    return HW_OK;
}

/* The path must lead to the same file from other directories. */
static char *absolute(const char *path)
{
    HW_AUTO_FREE char *here = *path != '/' ? getcwd(NULL, 0) : NULL;

    return here != NULL ? hw_sprintf("%s/%s", here, path) : hw_strdup(path);
}

static enum hw_status check_connection(struct cli *cli, struct hw_error *err)
{
    const struct cli_options *o = cli->o;
    struct cli_http *http = NULL;

    if (o->server == NULL)
        return cli_misused(cli, err, "context add: --server is missing");
    if ((o->cert == NULL) != (o->key == NULL))
        return cli_misused(cli, err, "--cert and --key go together");
    const enum hw_status st =
        cli_http_open(&(struct cli_http_options){.server = o->server}, &http, err);
    cli_http_close(http);
    cli->misused = st == HW_EINVAL;
    return st;
}

static enum hw_status add_context(struct cli *cli, json_t *file, const char *name,
                                  struct hw_error *err)
{
    struct cli_options o = *cli->o;
    json_t *contexts = json_object_get(file, "contexts");
    json_t *context = json_object();
    enum hw_status st = check_connection(cli, err);

    if (st == HW_OK && json_object_get(contexts, name) != NULL)
        st = hw_fail(err, HW_ECONFLICT,
                     "there is a context \"%s\" already: headwater context remove %s, or take "
                     "another name",
                     name, name);
    for (size_t i = 0; st == HW_OK && i < CLI_SETTINGS; i++) {
        const char *value = *cli_contexts_value(&o, &cli_settings[i]);

        if (value == NULL)
            continue;
        HW_AUTO_FREE char *said = cli_settings[i].path ? absolute(value) : hw_strdup(value);
        if (json_object_set_new(context, cli_settings[i].name, json_string(said)) != 0)
            st = hw_fail(err, HW_EINVAL, "context add: %s is not UTF-8", cli_settings[i].name);
    }
    json_object_set_new(contexts, name, context);
    if (st == HW_OK)
        st = cli_contexts_write(file, err);
    if (st != HW_OK)
        return st;
    printf("context %s is added; headwater context use %s makes it the one in use\n", name, name);
    if (o.token != NULL)
        fputs("headwater: HEADWATER_TOKEN is not kept: write the token to a file of mode 0600 that "
              "--token-file names\n",
              stderr);
    return HW_OK;
}

static enum hw_status use_context(struct cli *cli, json_t *file, const char *name,
                                  struct hw_error *err)
{
    json_t *context;
    enum hw_status st = cli_contexts_find(file, name, &context, err);

    if (st == HW_OK) {
        json_object_set_new(file, "current", json_string(name));
        st = cli_contexts_write(file, err);
    }
    if (st != HW_OK)
        return st;
    HW_AUTO_FREE char *line = hw_sprintf("context %s is in use: %s\n", name,
                                         json_string_value(json_object_get(context, "server")));
    cli_print_text(cli, line, 0);
    for (size_t i = 0; i < 2; i++) {
        static const char *const over[] = {"HEADWATER_SERVER", "HEADWATER_CONTEXT"};
        if (getenv(over[i]) != NULL)
            fprintf(stderr, "headwater: but %s is set, and goes before it\n", over[i]);
    }
    return HW_OK;
}

static enum hw_status remove_context(struct cli *cli, json_t *file, const char *name,
                                     struct hw_error *err)
{
    const char *current = json_string_value(json_object_get(file, "current"));
    const bool is_current = current != NULL && strcmp(current, name) == 0;
    json_t *context;
    enum hw_status st = cli_contexts_find(file, name, &context, err);

    (void)cli;
    if (st != HW_OK)
        return st;
    json_object_del(json_object_get(file, "contexts"), name);
    if (is_current)
        json_object_del(file, "current");
    st = cli_contexts_write(file, err);
    if (st == HW_OK)
        printf("context %s is removed%s\n", name, is_current ? "; it was in use, now none is" : "");
    return st;
}

enum hw_status cli_context(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    static const struct {
        const char *name;
        enum hw_status (*run)(struct cli *, json_t *, const char *, struct hw_error *);
    } actions[] = {{"add", add_context}, {"use", use_context}, {"remove", remove_context}};
    HW_AUTO_JSON json_t *file = NULL;
    size_t action = 0;
    const bool lists = strcmp(operands[0], "list") == 0;

    while (action < HW_COUNT(actions) && strcmp(actions[action].name, operands[0]) != 0)
        action++;
    if (lists ? count > 1 : action == HW_COUNT(actions))
        return cli_misused(cli, err, "context: list, add NAME, use NAME or remove NAME");
    if (!lists && count < 2)
        return cli_misused(cli, err, "context %s: a name is missing", operands[0]);
    enum hw_status st = lists ? HW_OK : hw_name_check(operands[1], err);
    if (st == HW_OK)
        st = cli_contexts_read(&file, err);
    if (st != HW_OK)
        return st;
    return lists ? list_contexts(cli, file, err) : actions[action].run(cli, file, operands[1], err);
}
