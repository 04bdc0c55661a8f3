/*
 * Durable files.
 *
 * A file that is written over in place has, after a power loss, some old blocks and some new ones.
 * So a file is never written over. The new bytes go into a file of another name in the same
 * directory; fsync puts them on the disk; rename gives them the old name, and POSIX makes that one
 * step for every reader; fsync of the directory puts the new name on the disk. Whatever is killed
 * or unplugged at whatever moment, the name leads to the old bytes or the new ones, whole. Without
 * the first fsync it might lead to an empty file, without the second one to the old bytes although
 * the caller was told otherwise.
 */
#ifndef HW_FILE_H
#define HW_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/status.h"

/* Makes path a file with these bytes. It returns when they are on the disk. */
enum hw_status hw_file_replace(const char *path, const void *data, size_t len, mode_t mode,
                               struct hw_error *err) HW_CHECKED;
/* The same for readers, but the disk is not waited for: after a power loss there may be the old
 * file, none, or an empty one. */
enum hw_status hw_file_replace_idly(const char *path, const void *data, size_t len, mode_t mode,
                                    struct hw_error *err) HW_CHECKED;
/* The same, for another owner; (uid_t)-1 and (gid_t)-1 leave it as it is. */
enum hw_status hw_file_replace_as(const char *path, const void *data, size_t len, mode_t mode,
                                  uid_t owner, gid_t group, struct hw_error *err) HW_CHECKED;

/* Makes path a symbolic link to target, whatever it was before, as durably and atomically. */
enum hw_status hw_file_link(const char *path, const char *target, struct hw_error *err) HW_CHECKED;

/* Reads a whole regular file of at most max bytes (HW_ELIMIT above). *data is malloc'ed, with a
 * NUL behind its *len bytes; the caller frees it. HW_ENOENT when there is no such file. */
enum hw_status hw_file_read(const char *path, size_t max, char **data, size_t *len,
                            struct hw_error *err) HW_CHECKED;

/* The same of whatever a person named: also a pipe, as the shell makes it for <(command), or a
 * device such as /dev/stdin. It waits until that ends. */
enum hw_status hw_file_read_any(const char *path, size_t max, char **data, size_t *len,
                                struct hw_error *err) HW_CHECKED;

/* Makes path and its missing parents, durably. */
enum hw_status hw_file_mkdirs(const char *path, mode_t mode, struct hw_error *err) HW_CHECKED;

/* fsync of a directory: afterwards the names that are seen in it are on the disk as well. Those
 * that a killed process has left may not be there yet. */
enum hw_status hw_file_sync_dir(const char *dir, struct hw_error *err) HW_CHECKED;

/* The directory that holds path, "." for a bare name; malloc'ed. */
char *hw_file_parent(const char *path);

/*
 * A path of the user's by the XDG Base Directory Specification: below the directory that variable
 * names (XDG_STATE_HOME, say), or else below preset in the home directory (.local/state).
 * malloc'ed; NULL where neither variable nor HOME names a directory from /.
 */
char *hw_file_of_user(const char *variable, const char *preset, const char *path);

/* Removes path durably; a missing file is fine. */
enum hw_status hw_file_remove(const char *path, struct hw_error *err) HW_CHECKED;

#endif
