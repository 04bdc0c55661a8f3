/*
 * The commands, in the order in which --help lists them. Each is a function cli_<name>, in the file
 * of its name or of a neighbour's. main.c makes its tables of this list.
 */
#ifndef HW_CLI_COMMANDS_COMMANDS_H
#define HW_CLI_COMMANDS_COMMANDS_H

#include "cli/cli.h"

#define CLI_OPERANDS_MANY INT32_MAX

/* ROW(name, operands as in help, how many at least, and at most, help) */
/* clang-format off */
#define CLI_COMMANDS(ROW) \
    ROW(get, "KIND [NAME]", 1, 2, "show nodes, configs, assignments, fleet; node, config, assignment, desired or reported NAME") \
    ROW(describe, "KIND NAME", 2, 2, "show everything about a node, config or assignment") \
    ROW(accept, "[NODE...]", 0, CLI_OPERANDS_MANY, "register nodes that are alive and unknown") \
    ROW(choose, "NODE INSTANCE", 2, 2, "say which of the agents that share a name is meant") \
    ROW(apply, "[FILE...]", 0, CLI_OPERANDS_MANY, "make resources as files describe them, all or none") \
    ROW(diff, "[FILE...]", 0, CLI_OPERANDS_MANY, "show what apply would change on which node") \
    ROW(put, "CONFIG -f FILE", 1, 2, "make a file the content of a config, byte for byte") \
    ROW(edit, "[KIND] NAME", 1, 2, "change a config, node or assignment in an editor") \
    ROW(set, "CONFIG PATH=VALUE...", 2, CLI_OPERANDS_MANY, "change members of a JSON config") \
    ROW(delete, "KIND NAME", 2, 2, "remove a node, config or assignment") \
    ROW(history, "CONFIG", 1, 1, "show the revisions of a config") \
    ROW(rollback, "CONFIG REVISION", 2, 2, "make an old revision of a config the newest") \
    ROW(explain, "NODE [PATH]", 1, 2, "show where each part of a node's document comes from") \
    ROW(proposals, "[ID]", 0, 1, "show what nodes propose, newest first") \
    ROW(approve, "ID", 1, 1, "make a proposal the next revision of its config") \
    ROW(reject, "ID", 1, 1, "end a proposal without a change") \
    ROW(wait, "[LSN]", 0, 1, "wait until nodes did what was asked") \
    ROW(watch, NULL, 0, 0, "show events as they happen") \
    ROW(fleet, NULL, 0, 0, "show how many nodes are in which state, and each") \
    ROW(status, NULL, 0, 0, "show how the whole system stands, and what is wrong with it") \
    ROW(audit, "[KIND [NAME]]", 0, 2, "show who changed what, newest first") \
    ROW(token, "list|create NAME|revoke NAME", 1, 2, "manage the tokens of the API") \
    ROW(export, "DIR", 1, 1, "write everything to files that apply takes") \
    ROW(context, "list|add NAME|use NAME|remove NAME", 1, 2, "name servers, and choose one")
/* clang-format on */

#define CLI_DECLARE(name, operands, least, most, help) extern cli_command_fn cli_##name;
CLI_COMMANDS(CLI_DECLARE)
#undef CLI_DECLARE

#endif
