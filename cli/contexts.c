#include "cli/contexts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/text.h"

#define SERVER_PRESET "http://127.0.0.1:8080"

enum { FILE_MOST = 1 << 20 };

const struct cli_setting cli_settings[CLI_SETTINGS + 1] = {
#define SETTING(member, is_path)                                                                   \
    {                                                                                              \
        .name = #member, .value = offsetof(struct cli_options, member),                            \
        .by_flag = offsetof(struct cli_options, by_flag.member), .path = (is_path)                 \
    }
    SETTING(server, false), SETTING(token_file, true), SETTING(ca_file, true),
    SETTING(cert, true),    SETTING(key, true),        {.name = NULL},
#undef SETTING
};

const char **cli_contexts_value(struct cli_options *o, const struct cli_setting *setting)
{
    return (const char **)((char *)o + setting->value);
}

/* ---- the file ---- */

/* The path of the file, malloc'ed; NULL where the user has no such place. */
static char *contexts_file(void)
{
    return hw_file_of_user("XDG_CONFIG_HOME", ".config", "headwater/contexts");
}

/* Anyone who may write this file decides which server gets the user's tokens. */
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
    json_object_foreach((json_t *)(uintptr_t)contexts, name, context) {
        if (!json_is_string(json_object_get(context, "server")))
            return hw_fail(err, HW_EINVAL, "%s: context \"%.130s\" names no server", path, name);
        json_object_foreach(context, member, value)
            if (!json_is_string(value))
                return hw_fail(err, HW_EINVAL, "%s: %.100s of context \"%.130s\" must be a string",
                               path, member, name);
    }
    return HW_OK;
}

enum hw_status cli_contexts_read(json_t **file, struct hw_error *err)
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

enum hw_status cli_contexts_write(const json_t *file, struct hw_error *err)
{
    HW_AUTO_FREE char *path = contexts_file();

    if (path == NULL)
        return hw_fail(err, HW_EINVAL, "there is no place for contexts: HOME is not set");
    HW_AUTO_FREE char *json = cli_json_text(file, true);
    HW_AUTO_FREE char *text = hw_sprintf("%s\n", json);
    HW_AUTO_FREE char *directory = hw_file_parent(path);
    const enum hw_status st = hw_file_mkdirs(directory, 0700, err);
    return st != HW_OK ? st : hw_file_replace(path, text, strlen(text), 0600, err);
}

/* ---- what they mean ---- */

const char *cli_contexts_chosen(const struct cli_options *o, const json_t *file)
{
    return o->context != NULL ? o->context : json_string_value(json_object_get(file, "current"));
}

enum hw_status cli_contexts_find(const json_t *file, const char *name, json_t **context,
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

/* A flag always wins. A context that --context names wins over the environment, and one that is
 * only in use does not. A token in the environment is dropped in favour of a named context's
 * token file: it belongs to another server. */
static void take_context(struct cli_options *o, const json_t *context)
{
    const bool wins =
        o->by_flag.context; /* the context that --context names wins over the environment */

    for (size_t i = 0; i < CLI_SETTINGS; i++) {
        const char *said = json_string_value(json_object_get(context, cli_settings[i].name));
        const bool by_flag = *(const bool *)((const char *)o + cli_settings[i].by_flag);
        const char **value = cli_contexts_value(o, &cli_settings[i]);

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
        enum hw_status st = cli_contexts_read(&file, err);
        const char *name = st == HW_OK ? cli_contexts_chosen(o, file) : NULL;

        if (name != NULL && (st = cli_contexts_find(file, name, &context, err)) == HW_OK)
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
