/*
 * Durable files. hw_file_replace leaves either the old bytes or the new ones, whole, whatever is
 * killed or unplugged at whatever moment: temporary file in the same directory, fsync, rename,
 * fsync of the directory.
 */
#ifndef HW_FILE_H
#define HW_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "common/status.h"

enum hw_status hw_file_replace(const char *path, const void *data, size_t len, mode_t mode,
                               struct hw_error *err) HW_CHECKED;
/* The same for readers, but the disk is not waited for: after a power loss it may be the old file,
 * none, or an empty one. */
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

/* Makes path and its missing parents, durably. */
enum hw_status hw_file_mkdirs(const char *path, mode_t mode, struct hw_error *err) HW_CHECKED;

/* fsync of a directory: the names that are seen in it are on the disk, too. What a killed process
 * left may not be. */
enum hw_status hw_file_sync_dir(const char *dir, struct hw_error *err) HW_CHECKED;

/* Removes path durably; a missing file is fine. */
enum hw_status hw_file_remove(const char *path, struct hw_error *err) HW_CHECKED;

#endif
