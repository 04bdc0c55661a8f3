/* context list | add | use | remove, and what the one in use means for every other command. */
#include "cli/contexts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/output.h"
#include "cli/text.h"
#include "common/file.h"
#include "common/memory.h"

#define SERVER_PRESET "http://127.0.0.1:8080"

enum { FILE_MOST = 1 << 20 };

/* What a context says, and which option it stands for. */
static const struct setting {
    const char *name;
    size_t value, by_flag; /* in struct cli_options */
    bool path;
} settings[] = {
#define SETTING(member, is_path)                                                                   \
    {                                                                                              \
        .name = #member, .value = offsetof(struct cli_options, member),                            \
        .by_flag = offsetof(struct cli_options, by_flag.member), .path = (is_path)                 \
    }
    SETTING(server, false), SETTING(token_file, true), SETTING(ca_file, true),
    SETTING(cert, true),    SETTING(key, true),
#undef SETTING
};

static const char **value_of(struct cli_options *o, const struct setting *setting)
{
    return (const char **)((char *)o + setting->value);
}

/* ---- the file ---- */

/* malloc'ed; NULL where the user has no such place. */
static char *contexts_file(void)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (config != NULL && *config == '/')
        return hw_sprintf("%s/headwater/contexts", config);
    if (home != NULL && *home == '/')
        return hw_sprintf("%s/.config/headwater/contexts", home);
    return NULL;
}

/* Whoever may write it decides who gets the user's tokens. */
static enum hw_status check_owner(const char *path, struct hw_error *err)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return errno == ENOENT ? HW_OK : hw_fail_errno(err, "looking at %s", path);
    if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return hw_fail(err, HW_EDENIED,
                       "%s: others may write it, and so choose where your tokens go; chown it to "
                       "yourself and chmod 600 it",
                       path);
    return HW_OK;
}

static enum hw_status check_form(const char *path, const json_t *file, struct hw_error *err)
{
    const json_t *contexts = json_object_get(file, "contexts");
    const char *name, *member;
    json_t *context, *value;

    if (!json_is_object(contexts))
        return hw_fail(err, HW_EINVAL, "%s: contexts must be an object", path);
    json_object_foreach((json_t *)(uintptr_t)contexts, name, context)
    {
        if (!json_is_string(json_object_get(context, "server")))
            return hw_fail(err, HW_EINVAL, "%s: context \"%.130s\" names no server", path, name);
        json_object_foreach(context, member, value) if (!json_is_string(value)) return hw_fail(
            err, HW_EINVAL, "%s: %.100s of context \"%.130s\" must be a string", path, member,
            name);
    }
    return HW_OK;
}

/* An empty one where there is no file. */
static enum hw_status read_contexts(json_t **file, struct hw_error *err)
{
    HW_AUTO_FREE char *path = contexts_file();
    HW_AUTO_FREE char *text = NULL;
    HW_AUTO_JSON json_t *read = NULL;
    size_t len;
    enum hw_status st = HW_ENOENT;

    if (path != NULL && (st = check_owner(path, err)) == HW_OK)
        st = hw_file_read(path, FILE_MOST, &text, &len, err);
    if (st == HW_ENOENT) {
        *file = json_pack("{s:{}}", "contexts");
        return HW_OK;
    }
    if (st != HW_OK)
        return st;
    st = hw_json_parse_object(text, len, &read, err);
    if (st != HW_OK)
        return hw_fail_in(err, "%s", path);
    st = check_form(path, read, err);
    if (st == HW_OK)
        *file = HW_TAKE(read);
    return st;
}

static enum hw_status write_contexts(const json_t *file, struct hw_error *err)
{
    HW_AUTO_FREE char *path = contexts_file();

    if (path == NULL)
        return hw_fail(err, HW_EINVAL, "there is no place for contexts: HOME is not set");
    HW_AUTO_FREE char *json = cli_json_text(file, true);
    HW_AUTO_FREE char *text = hw_sprintf("%s\n", json);
    HW_AUTO_FREE char *directory = hw_strndup(path, (size_t)(strrchr(path, '/') - path));
    const enum hw_status st = hw_file_mkdirs(directory, 0700, err);
    return st != HW_OK ? st : hw_file_replace(path, text, strlen(text), 0600, err);
}

/* ---- what they mean ---- */

/* The context's name, borrowed: what was asked for, or the one in use, or NULL. */
static const char *chosen(const struct cli_options *o, const json_t *file)
{
    return o->context != NULL ? o->context : json_string_value(json_object_get(file, "current"));
}

static enum hw_status find_context(const json_t *file, const char *name, json_t **context,
                                   struct hw_error *err)
{
    *context = json_object_get(json_object_get(file, "contexts"), name);
    if (*context == NULL)
        return hw_fail(
            err, HW_ENOENT,
            "there is no context \"%.130s\": see headwater context list, or make it with "
            "headwater context add %.130s --server URL",
            name, name);
    return HW_OK;
}

static void take_context(struct cli_options *o, const json_t *context)
{
    const bool wins = o->by_flag.context; /* over the environment */

    for (size_t i = 0; i < HW_COUNT(settings); i++) {
        const char *said = json_string_value(json_object_get(context, settings[i].name));
        const bool by_flag = *(const bool *)((const char *)o + settings[i].by_flag);
        const char **value = value_of(o, &settings[i]);

        if (said == NULL || by_flag || (*value != NULL && !wins))
            continue;
        *value = said;
        if (value == &o->token_file && wins)
            o->token = NULL;
    }
}

enum hw_status cli_contexts_resolve(struct cli_options *o, json_t **kept, struct hw_error *err)
{
    const bool has_server = o->by_flag.server || (o->server != NULL && !o->by_flag.context);
    HW_AUTO_JSON json_t *file = NULL;
    json_t *context;

    if (!has_server) {
        enum hw_status st = read_contexts(&file, err);
        const char *name = st == HW_OK ? chosen(o, file) : NULL;

        if (name != NULL && (st = find_context(file, name, &context, err)) == HW_OK)
            take_context(o, context);
        if (st != HW_OK)
            return st;
    }
    if (o->server == NULL)
        o->server = SERVER_PRESET;
    if ((o->cert == NULL) != (o->key == NULL))
        return hw_fail(err, HW_EINVAL, "--cert and --key go together");
    *kept = HW_TAKE(file);
    return HW_OK;
}

/* ---- the command ---- */

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
    const char *name, *current = chosen(cli->o, file);
    json_t *context;

    (void)err;
    json_object_foreach(json_object_get(file, "contexts"), name, context)
    {
        const bool is_current = current != NULL && strcmp(name, current) == 0;
        json_t *item = json_pack("{s:s, s:b}", "name", name, "current", is_current);

        json_object_update(item, context);
        json_array_append_new(json_object_get(list, "items"), item);
    }
    cli_print(cli, list, show_contexts);
    return HW_OK;
}

/* It is used from other directories, too. */
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
    for (size_t i = 0; st == HW_OK && i < HW_COUNT(settings); i++) {
        const char *value = *value_of(&o, &settings[i]);

        if (value == NULL)
            continue;
        HW_AUTO_FREE char *said = settings[i].path ? absolute(value) : hw_strdup(value);
        if (json_object_set_new(context, settings[i].name, json_string(said)) != 0)
            st = hw_fail(err, HW_EINVAL, "context add: %s is not UTF-8", settings[i].name);
    }
    json_object_set_new(contexts, name, context);
    if (st == HW_OK)
        st = write_contexts(file, err);
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
    enum hw_status st = find_context(file, name, &context, err);

    if (st == HW_OK) {
        json_object_set_new(file, "current", json_string(name));
        st = write_contexts(file, err);
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
    enum hw_status st = find_context(file, name, &context, err);

    (void)cli;
    if (st != HW_OK)
        return st;
    json_object_del(json_object_get(file, "contexts"), name);
    if (is_current)
        json_object_del(file, "current");
    st = write_contexts(file, err);
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
    enum hw_status st = lists ? HW_OK : cli_check_name(operands[1], err);
    if (st == HW_OK)
        st = read_contexts(&file, err);
    if (st != HW_OK)
        return st;
    return lists ? list_contexts(cli, file, err) : actions[action].run(cli, file, operands[1], err);
}
