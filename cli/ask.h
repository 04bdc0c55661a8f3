/* Questions to whoever sits at the terminal. */
#ifndef HW_CLI_ASK_H
#define HW_CLI_ASK_H

#include <stdbool.h>

/* There is somebody to ask. */
bool cli_is_interactive(void);

/* On standard error, so that what is on standard output stays what it is. The first letter of the
 * answer, in lower case; '\n' for none, 0 when nobody answers any more. */
char cli_ask(const char *question);

#endif
