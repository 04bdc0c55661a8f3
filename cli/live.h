/* get and fleet with --watch: shows the answer of the server, and again whenever it changes. */
#ifndef HW_CLI_LIVE_H
#define HW_CLI_LIVE_H

#include "cli/cli.h"
#include "cli/output.h"

struct cli_view {
    const char *path;                 /* of a list, or of one thing */
    const char *events;               /* the path of events that tell of changes */
    const struct cli_column *columns; /* of a list; NULL: path is of one thing */
    cli_show_fn *show;                /* shows a list as a whole; NULL: as details */
};

/* On a terminal a table is drawn anew. Elsewhere, and in the other forms, each change is added as
 * {"change": "added" | "changed" | "removed", "item"}; the items that are there at first are added
 * ones. It ends at ^C, or when the time of the flag --timeout is over. */
enum hw_status cli_live(struct cli *cli, const struct cli_view *view,
                        struct hw_error *err) HW_CHECKED;

#endif
