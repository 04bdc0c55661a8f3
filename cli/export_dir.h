/*
 * A directory that holds an export, and perhaps files of others: a .git, a README. The file
 * .headwater-export in it lists the files of the last export, and only those are ever replaced or
 * removed.
 *
 * An export is collected in .headwater-export.next. When it is whole, renames put it in place.
 * Meanwhile .headwater-export says that this is going on, so that after a crash the next reader
 * learns of it.
 */
#ifndef HW_CLI_EXPORT_DIR_H
#define HW_CLI_EXPORT_DIR_H

#include <stddef.h>

#include "base/status.h"

#define CLI_EXPORT_CONTENTS "configs/" /* the directory for files that are no documents */

struct cli_export_dir;

/* Makes the directory where it is missing. HW_EINVAL: it holds something that no export wrote
 * (names that begin with .git aside). HW_ECONFLICT: another process writes an export there. */
enum hw_status cli_export_open(const char *path, struct cli_export_dir **dir,
                               struct hw_error *err) HW_CHECKED;

/* Adds a file: a name, or a name below CLI_EXPORT_CONTENTS. */
enum hw_status cli_export_add(struct cli_export_dir *dir, const char *name, const void *bytes,
                              size_t len, struct hw_error *err) HW_CHECKED;

/* Drops what was added, and begins anew. */
enum hw_status cli_export_reset(struct cli_export_dir *dir, struct hw_error *err) HW_CHECKED;

/* Puts in place what was added, and removes the files of the export before that this one does not
 * have. */
enum hw_status cli_export_commit(struct cli_export_dir *dir, struct hw_error *err) HW_CHECKED;

/* Closes it; what was not put in place is removed. NULL is fine. */
void cli_export_close(struct cli_export_dir *dir);

/* HW_EINVAL: an export into this directory was cut short. Any other directory is fine. */
enum hw_status cli_export_check(const char *path, struct hw_error *err) HW_CHECKED;

#endif
