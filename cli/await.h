/* The barrier: a command waits until the nodes did what was asked. */
#ifndef HW_CLI_AWAIT_H
#define HW_CLI_AWAIT_H

#include "cli/cli.h"

/* Waits until the nodes did what was asked, by a change (its number) or by all changes up to a
 * position (an LSN). It waits at most as long as --timeout says, and shows how it ended. quiet: a
 * table shows nothing when all is well. cli->negative is set when nodes failed. */
enum hw_status cli_await(struct cli *cli, const char *what, bool quiet,
                         struct hw_error *err) HW_CHECKED;

#endif
