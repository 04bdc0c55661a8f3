/* The barrier: waiting until the nodes did what was asked. */
#ifndef HW_CLI_AWAIT_H
#define HW_CLI_AWAIT_H

#include "cli/cli.h"

/* Waits until the nodes did what was asked up to a position, as long as --timeout says, and shows
 * how it ended (not in tables when quiet and all is well); sets cli->negative when nodes failed. */
enum hw_status cli_await(struct cli *cli, const char *lsn, bool quiet,
                         struct hw_error *err) HW_CHECKED;

#endif
