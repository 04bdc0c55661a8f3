/*
 * Contexts: a name for a server and for how to get in, kept in a file of the user's,
 * $XDG_CONFIG_HOME/headwater/contexts (JSON, 0600): {"current", "contexts": {NAME: {"server",
 * "token_file", "ca_file", "cert", "key"}}}. Tokens and keys are not in it, only where they are.
 */
#ifndef CLI_COMMANDS_CONTEXTS_H
#define CLI_COMMANDS_CONTEXTS_H

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

#endif
