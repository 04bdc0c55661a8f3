#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/points.h"

enum hw_status hw_file_sync_dir(const char *dir, struct hw_error *err)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return hw_fail_errno(err, "opening directory %s", dir);
    if (fsync(fd) != 0) {
        hw_fail_errno(err, "syncing directory %s", dir);
        close(fd);
        return HW_EIO;
    }
    close(fd);
    return HW_OK;
}

char *hw_file_parent(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return hw_strdup(".");
    return slash == path ? hw_strdup("/") : hw_strndup(path, (size_t)(slash - path));
}

char *hw_file_of_user(const char *variable, const char *preset, const char *path)
{
    const char *const base = getenv(variable), *const home = getenv("HOME");

    if (base != NULL && *base == '/')
        return hw_sprintf("%s/%s", base, path);
    return home != NULL && *home == '/' ? hw_sprintf("%s/%s/%s", home, preset, path) : NULL;
}

/* Makes a rename or removal of path durable. */
static enum hw_status sync_parent(const char *path, struct hw_error *err)
{
    HW_AUTO_FREE char *dir = hw_file_parent(path);

    return hw_file_sync_dir(dir, err);
}

static enum hw_status write_all(int fd, const char *data, size_t len, const char *path,
                                struct hw_error *err)
{
    while (len > 0) {
        const ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hw_fail_errno(err, "writing %s", path);
        data += n;
        len -= (size_t)n;
    }
    return HW_OK;
}

/* Gives temp the name path, in one step for every reader. */
static enum hw_status put_in_place(const char *temp, const char *path, bool durable,
                                   struct hw_error *err)
{
    HW_POINT("temp-written");
    if (rename(temp, path) != 0) {
        const enum hw_status status = hw_fail_errno(err, "renaming %s to %s", temp, path);

        unlink(temp);
        return status;
    }
    HW_POINT("renamed");
    return durable ? sync_parent(path, err) : HW_OK;
}

static enum hw_status replace(const char *path, const void *data, size_t len, mode_t mode,
                              uid_t owner, gid_t group, bool durable, struct hw_error *err)
{
    /* The name is always the same: a crash leaves at most one such file, and the next attempt
     * writes it anew. */
    HW_AUTO_FREE char *temp = hw_sprintf("%s.new", path);
    enum hw_status status;
    int fd;

    fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return hw_fail_errno(err, "creating %s", temp);
    status = write_all(fd, data, len, temp, err);
    if (status == HW_OK && (owner != (uid_t)-1 || group != (gid_t)-1) &&
        fchown(fd, owner, group) != 0)
        status = hw_fail_errno(err, "changing the owner of %s", temp);
    if (status == HW_OK && fchmod(fd, mode) != 0)
        status = hw_fail_errno(err, "setting the mode of %s", temp);
    if (status == HW_OK && durable && fsync(fd) != 0)
        status = hw_fail_errno(err, "syncing %s", temp);
    if (close(fd) != 0 && status == HW_OK)
        status = hw_fail_errno(err, "closing %s", temp);
    if (status != HW_OK) {
        unlink(temp);
        return status;
    }
    return put_in_place(temp, path, durable, err);
}

enum hw_status hw_file_replace_as(const char *path, const void *data, size_t len, mode_t mode,
                                  uid_t owner, gid_t group, struct hw_error *err)
{
    return replace(path, data, len, mode, owner, group, true, err);
}

enum hw_status hw_file_replace_idly(const char *path, const void *data, size_t len, mode_t mode,
                                    struct hw_error *err)
{
    return replace(path, data, len, mode, (uid_t)-1, (gid_t)-1, false, err);
}

enum hw_status hw_file_replace(const char *path, const void *data, size_t len, mode_t mode,
                               struct hw_error *err)
{
    return hw_file_replace_as(path, data, len, mode, (uid_t)-1, (gid_t)-1, err);
}

enum hw_status hw_file_link(const char *path, const char *target, struct hw_error *err)
{
    HW_AUTO_FREE char *temp = hw_sprintf("%s.new", path);

    if (unlink(temp) != 0 && errno != ENOENT)
        return hw_fail_errno(err, "removing %s", temp);
    if (symlink(target, temp) != 0)
        return hw_fail_errno(err, "creating %s", temp);
    return put_in_place(temp, path, true, err);
}

/* Reads what is left, at most max bytes, into *data, which has room for so many to begin with. */
static enum hw_status read_to_end(int fd, const char *path, size_t room, size_t max, char **data,
                                  size_t *len, struct hw_error *err)
{
    HW_AUTO_FREE char *bytes = NULL;
    size_t done = 0, size = 0;

    for (;;) {
        if (done == size) {
            size = size == 0 ? room + 1 : 2 * size;
            char *more = realloc(bytes, size + 1);
            if (more == NULL)
                return hw_fail(err, HW_ELIMIT, "reading %s: no memory for %zu bytes", path, size);
            bytes = more;
        }
        const ssize_t n = read(fd, bytes + done, size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hw_fail_errno(err, "reading %s", path);
        if (n == 0)
            break;
        done += (size_t)n;
        if (done > max)
            return hw_fail(err, HW_ELIMIT, "reading %s: it has more than %zu bytes", path, max);
    }
    bytes[done] = '\0';
    *len = done;
    *data = HW_TAKE(bytes);
    return HW_OK;
}

static enum hw_status read_regular(int fd, const struct stat *st, const char *path, size_t max,
                                   char **data, size_t *len, struct hw_error *err)
{
    if ((size_t)st->st_size > max)
        return hw_fail(err, HW_ELIMIT, "reading %s: %lld bytes, at most %zu are expected", path,
                       (long long)st->st_size, max);
    return read_to_end(fd, path, (size_t)st->st_size, max, data, len, err);
}

enum hw_status hw_file_read(const char *path, size_t max, char **data, size_t *len,
                            struct hw_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    enum hw_status status;
    struct stat st;

    if (fd < 0)
        return hw_fail_errno(err, "opening %s", path);
    if (fstat(fd, &st) != 0)
        status = hw_fail_errno(err, "reading %s", path);
    else if (!S_ISREG(st.st_mode))
        status = hw_fail(err, HW_EINVAL, "reading %s: it is %s, not a file", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "a device or a pipe");
    else
        status = read_regular(fd, &st, path, max, data, len, err);
    close(fd);
    return status;
}

enum hw_status hw_file_read_any(const char *path, size_t max, char **data, size_t *len,
                                struct hw_error *err)
{
    enum { ROOM = 65536 };
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    enum hw_status status;
    struct stat st;

    if (fd < 0)
        return hw_fail_errno(err, "opening %s", path);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        status = read_regular(fd, &st, path, max, data, len, err);
    else
        status = read_to_end(fd, path, ROOM, max, data, len, err);
    close(fd);
    return status;
}

enum hw_status hw_file_mkdirs(const char *path, mode_t mode, struct hw_error *err)
{
    HW_AUTO_FREE char *dir = hw_strdup(path);

    for (char *p = dir + 1;; p++) {
        const char c = *p;

        if (c != '/' && c != '\0')
            continue;
        *p = '\0';
        if (mkdir(dir, mode) == 0) {
            const enum hw_status status = sync_parent(dir, err);

            if (status != HW_OK)
                return status;
        } else {
            struct stat st;

            if (errno != EEXIST || stat(dir, &st) != 0)
                return hw_fail_errno(err, "creating directory %s", dir);
            if (!S_ISDIR(st.st_mode))
                return hw_fail(err, HW_EIO, "creating directory %s: a file is in its place", dir);
            /* A process that made it may have been killed before it synced the parent. Where the
             * parent may not be synced by us, it is not ours. */
            if (c == '\0')
                (void)!sync_parent(dir, NULL);
        }
        if (c == '\0')
            return HW_OK;
        *p = c;
    }
}

enum hw_status hw_file_remove(const char *path, struct hw_error *err)
{
    if (unlink(path) != 0) {
        if (errno == ENOENT)
            return HW_OK;
        return hw_fail_errno(err, "removing %s", path);
    }
    return sync_parent(path, err);
}
