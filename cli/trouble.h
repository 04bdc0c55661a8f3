/* How the system stands as /v1/system says it, and what is wrong with it. */
#ifndef HW_CLI_TROUBLE_H
#define HW_CLI_TROUBLE_H

#include "cli/cli.h"

/* Asks; the caller frees *system. An API without a usable database answers with a problem, of which
 * a system is made that has it. timeout_ms 0: as the options say. */
enum hw_status cli_trouble_ask(struct cli *cli, int64_t timeout_ms, json_t **system,
                               struct hw_error *err) HW_CHECKED;

/* Says on stderr what is wrong, if the server can be asked and anything is: behind an error that it
 * may explain. */
void cli_trouble_tell(struct cli *cli);

#endif
