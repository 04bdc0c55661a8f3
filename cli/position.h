/* The last change that was made on each server. It is kept in a file of the user's, so that a later
 * command can wait for it. If it cannot be kept, that is no error. */
#ifndef HW_CLI_POSITION_H
#define HW_CLI_POSITION_H

#include "cli/cli.h"

void cli_position_keep(const struct cli *cli, const char *change);

/* The one that is kept for the server, malloc'ed; or a position (an LSN), as earlier versions kept.
 * HW_ENOENT: there is none. */
enum hw_status cli_position_read(const struct cli *cli, char **what,
                                 struct hw_error *err) HW_CHECKED;

#endif
