/* Writing of configuration through the Management API. */
#ifndef HW_CLI_WRITE_H
#define HW_CLI_WRITE_H

#include "cli/cli.h"

/*
 * Sends a write with the key, message and dry_run that the options ask for, and shows the outcome.
 * A dry run is shown by cli_plan_print. A table of anything else is shown by show (NULL: nothing).
 * Then the position is remembered, and with --wait the nodes are waited for. request->path has no
 * query.
 */
enum hw_status cli_write(struct cli *cli, struct cli_request *request, cli_show_fn *show,
                         struct hw_error *err) HW_CHECKED;

#endif
