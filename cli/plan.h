/* The plan of a dry run: what would change, node by node. Nodes that change alike are shown
 * together. Resources that would be removed follow. */
#ifndef HW_CLI_PLAN_H
#define HW_CLI_PLAN_H

#include "cli/cli.h"

/*
 *     daq-1 and 2 more (daq-2, daq-3): update
 *     --- revision 3  sha256:0123456789ab  application/json
 *     +++ revision 4  sha256:ba9876543210  application/json
 *     @@ /rate_hz
 *     -1000
 *     +2000
 *
 * HW_EPROTO when it is no answer to a dry run. *changes: of how many nodes, and how many resources
 * would be removed; may be NULL.
 */
enum hw_status cli_plan_print(struct cli *cli, const json_t *plan, json_int_t *changes,
                              struct hw_error *err) HW_CHECKED;

/* Sends a write as a dry run, and prints the plan. */
enum hw_status cli_plan_ask(struct cli *cli, const struct cli_request *write, json_int_t *changes,
                            struct hw_error *err) HW_CHECKED;

#endif
