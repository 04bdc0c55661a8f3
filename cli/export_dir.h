/*
 * A directory that holds an export, and perhaps what is not its: a .git, a README. The file
 * .headwater-export in it lists what the last export wrote; only that is ever replaced or removed.
 *
 * An export is collected in .headwater-export.next and put in place by renames, when it is whole.
 * While that goes on, .headwater-export says so: who finds it like that, after a crash, is told.
 */
#ifndef HW_CLI_EXPORT_DIR_H
#define HW_CLI_EXPORT_DIR_H

#include <stddef.h>

#include "common/status.h"

#define CLI_EXPORT_CONTENTS "configs/" /* where the files go that are no documents */

struct cli_export_dir;

/* Makes it where it is missing. HW_EINVAL when something is in it that no export wrote (names that
 * begin with .git aside); HW_ECONFLICT while another process writes an export there. */
enum hw_status cli_export_open(const char *path, struct cli_export_dir **dir,
                               struct hw_error *err) HW_CHECKED;

/* A file: a name, or one below CLI_EXPORT_CONTENTS. */
enum hw_status cli_export_add(struct cli_export_dir *dir, const char *name, const void *bytes,
                              size_t len, struct hw_error *err) HW_CHECKED;

/* Begins anew. */
enum hw_status cli_export_reset(struct cli_export_dir *dir, struct hw_error *err) HW_CHECKED;

/* Puts in place what was added, and removes what the export before had and this one has not. */
enum hw_status cli_export_commit(struct cli_export_dir *dir, struct hw_error *err) HW_CHECKED;

/* NULL is fine. What was not put in place is gone. */
void cli_export_close(struct cli_export_dir *dir);

/* HW_EINVAL when an export into this directory was cut short. Any other directory is fine. */
enum hw_status cli_export_check(const char *path, struct hw_error *err) HW_CHECKED;

#endif
