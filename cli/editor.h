/* A text in the user's editor. It is on a private file, which stays until cli_editor_close. */
#ifndef HW_CLI_EDITOR_H
#define HW_CLI_EDITOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

struct cli_editor {
    char *command; /* of the shell */
    char *directory, *path;
};

/* Finds the user's editor ($VISUAL, $EDITOR, vi) and puts the text into a file of that name. From
 * now on SIGTERM, SIGHUP and ^C end the program with a word on where the file is. */
enum hw_status cli_editor_open(const char *name, const char *text, size_t len,
                               struct cli_editor *editor, struct hw_error *err) HW_CHECKED;

/* Runs the editor, and reads the text that it left; *text is malloc'ed, with a NUL behind. */
enum hw_status cli_editor_run(const struct cli_editor *editor, char **text, size_t *len,
                              struct hw_error *err) HW_CHECKED;

/* Ends it; keep: the file stays. */
void cli_editor_close(struct cli_editor *editor, bool keep);

#endif
