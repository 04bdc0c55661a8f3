/* Reading from the Management API: one object, or a list page after page. */
#ifndef HW_CLI_FETCH_H
#define HW_CLI_FETCH_H

#include "cli/cli.h"

/* GET of a JSON object; the caller frees it. */
enum hw_status cli_fetch(struct cli *cli, const char *path, json_t **object,
                         struct hw_error *err) HW_CHECKED;

/* GET of a list, page after page, up to --limit items, or up to preset items without --limit (0:
 * all of them). *list is as one page would be: the first page's members, all items, and the "next"
 * of the last page. */
enum hw_status cli_fetch_list(struct cli *cli, const char *path, int64_t preset, json_t **list,
                              struct hw_error *err) HW_CHECKED;

#endif
