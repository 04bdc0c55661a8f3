/* The state of the system as /v1/system tells it, and what is wrong with it. */
#ifndef HW_CLI_TROUBLE_H
#define HW_CLI_TROUBLE_H

#include "cli/cli.h"

/* Asks for it; the caller frees *system. An API without a usable database answers with a problem,
 * of which a system with that problem is made. timeout_ms 0: as the options say. */
enum hw_status cli_trouble_ask(struct cli *cli, int64_t timeout_ms, json_t **system,
                               struct hw_error *err) HW_CHECKED;

/* Tells on stderr what is wrong, if the server can be asked and anything is. Call it behind an
 * error that this may explain. */
void cli_trouble_tell(struct cli *cli);

#endif
