/* Nodes that are alive and that nobody has registered. */
#ifndef HW_CLI_UNKNOWN_H
#define HW_CLI_UNKNOWN_H

#include "cli/output.h"

extern const struct cli_column cli_unknown_columns[];

/* Fetches the whole list of the server; the caller frees *list. */
enum hw_status cli_unknown_fetch(struct cli *cli, json_t **list, struct hw_error *err) HW_CHECKED;

/* Prints it: the command get nodes --unknown. */
enum hw_status cli_unknown_print(struct cli *cli, struct hw_error *err) HW_CHECKED;

#endif
