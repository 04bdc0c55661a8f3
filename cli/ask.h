/* Questions to the person at the terminal. */
#ifndef HW_CLI_ASK_H
#define HW_CLI_ASK_H

#include <stdbool.h>

/* Is there a person to ask? */
bool cli_is_interactive(void);

/* Asks on standard error, so that standard output holds the result alone. Returns the first letter
 * of the answer in lower case; '\n' for an empty line, 0 at the end of the input. */
char cli_ask(const char *question);

#endif
