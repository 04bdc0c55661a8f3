/* get and fleet with --watch: what the server has, and again whenever it changes. */
#ifndef HW_CLI_LIVE_H
#define HW_CLI_LIVE_H

#include "cli/cli.h"
#include "cli/output.h"

struct cli_view {
    const char *path;                 /* of a list, or of one thing */
    const char *events;               /* path of the events that tell of a change */
    const struct cli_column *columns; /* of a list; NULL: path is of one thing */
    cli_show_fn *show;                /* a list as a whole; NULL: as details */
};

/* On a terminal, tables are drawn anew; elsewhere, and in the other forms, each change is added:
 * {"change": "added" | "changed" | "removed", "item"}, what is there first as added. Until ^C, or
 * as long as the flag --timeout says. */
enum hw_status cli_live(struct cli *cli, const struct cli_view *view,
                        struct hw_error *err) HW_CHECKED;

#endif
