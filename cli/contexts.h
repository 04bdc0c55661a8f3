/*
 * Contexts. A context is a name for a server and for the way in. They are kept in a file of the
 * user's, $XDG_CONFIG_HOME/headwater/contexts (JSON, 0600): {"current", "contexts": {NAME:
 * {"server", "token_file", "ca_file", "cert", "key"}}}. It names the files of tokens and keys and
 * does not hold them.
 */
#ifndef HW_CLI_CONTEXTS_H
#define HW_CLI_CONTEXTS_H

#include <jansson.h>

#include "cli/cli.h"

/*
 * Finds the value of each option of the connection. The first of these counts: a flag; the context
 * that --context names; the environment; the context that HEADWATER_CONTEXT names, or else the one
 * in use; the preset. A server that a flag or the environment names replaces the whole context, so
 * that a token for one server is never shown to another.
 *
 * *kept holds the strings to which the options then point; the caller frees it after the last use
 * of the options.
 */
enum hw_status cli_contexts_resolve(struct cli_options *o, json_t **kept,
                                    struct hw_error *err) HW_CHECKED;

/* ---- the file, for the command context ---- */

/* The members of a context, and the option that each one stands for. */
#define CLI_SETTINGS 5
extern const struct cli_setting {
    const char *name;      /* NULL ends the list */
    size_t value, by_flag; /* offsets in struct cli_options */
    bool path;
} cli_settings[CLI_SETTINGS + 1];

/* The option's value. */
const char **cli_contexts_value(struct cli_options *o, const struct cli_setting *setting);

/* Reads the file, {"current", "contexts"}; it is empty where there is none. Caller: json_decref. */
enum hw_status cli_contexts_read(json_t **file, struct hw_error *err) HW_CHECKED;
enum hw_status cli_contexts_write(const json_t *file, struct hw_error *err) HW_CHECKED;

/* The name of the context that was asked for, or else of the one in use; NULL: none. Borrowed. */
const char *cli_contexts_chosen(const struct cli_options *o, const json_t *file);

/* The context of that name, borrowed; HW_ENOENT. */
enum hw_status cli_contexts_find(const json_t *file, const char *name, json_t **context,
                                 struct hw_error *err) HW_CHECKED;

#endif
