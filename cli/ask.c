#include "cli/ask.h"

#include <ctype.h>
#include <stdio.h>
#include <unistd.h>

bool cli_is_interactive(void)
{
    return isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0;
}

char cli_ask(const char *question)
{
    char line[256];

    fflush(stdout);
    fputs(question, stderr);
    if (fgets(line, sizeof(line), stdin) == NULL)
        return 0;
    return (char)tolower((unsigned char)line[0]);
}
