/*
 * Contexts: a name for a server and for how to get in, kept in a file of the user's,
 * $XDG_CONFIG_HOME/headwater/contexts (JSON, 0600): {"current", "contexts": {NAME: {"server",
 * "token_file", "ca_file", "cert", "key"}}}. Tokens and keys are not in it, only where they are.
 */
#ifndef HW_CLI_CONTEXTS_H
#define HW_CLI_CONTEXTS_H

#include <jansson.h>

#include "cli/cli.h"

/*
 * What is said of the connection, the first that says it: a flag; the context that --context names;
 * the environment; the context that HEADWATER_CONTEXT names, or else the one in use; the preset. A
 * server that a flag or the environment names stands in the place of the whole context: what lets
 * one in there is shown to no other.
 *
 * *kept holds what the options point to from then on: the caller frees it behind them.
 */
enum hw_status cli_contexts_resolve(struct cli_options *o, json_t **kept,
                                    struct hw_error *err) HW_CHECKED;

/* ---- the file, for the command context ---- */

/* What a context says, and which option it stands for. */
#define CLI_SETTINGS 5
extern const struct cli_setting {
    const char *name;      /* NULL: behind the last */
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
