#include "cli/export_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/points.h"
#include "cli/text.h"

#define MARK    ".headwater-export"
#define STAGING ".headwater-export.next"

enum { MARK_MOST = 64 * 1024 * 1024, FORMAT = 1, TREE_FDS = 8 };

struct cli_export_dir {
    char *path;
    int fd;        /* of the directory, locked */
    mode_t mode;   /* of files */
    json_t *old;   /* object; its members are the files of the export before */
    json_t *added; /* of this one */
};

static char *path_of(const struct cli_export_dir *dir, const char *name)
{
    return hw_sprintf("%s/%s", dir->path, name);
}

static char *staged(const struct cli_export_dir *dir, const char *name)
{
    return hw_sprintf("%s/" STAGING "/%s", dir->path, name);
}

static bool is_content(const char *name)
{
    return strncmp(name, CLI_EXPORT_CONTENTS, strlen(CLI_EXPORT_CONTENTS)) == 0;
}

/* ---- the mark ---- */

/* Even if someone else wrote the list, only a file that could be a document or a content is removed
 * by it. */
static bool could_be_ours(const char *name)
{
    const char *base = is_content(name) ? name + strlen(CLI_EXPORT_CONTENTS) : name;
    const char *end = strrchr(base, '.');

    return *base != '.' && end != NULL && strchr(base, '/') == NULL &&
           (is_content(name) || strcmp(end, ".yaml") == 0);
}

/* Reads the mark; HW_ENOENT: there is none. *files: an object; *whole: the export came to its
 * end. */
/* A directory without the mark was not written by an export, and nothing in it may be removed. */
static enum hw_status read_mark(const char *directory, json_t **files, bool *whole,
                                struct hw_error *err)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/" MARK, directory);
    HW_AUTO_FREE char *text = NULL;
    HW_AUTO_JSON json_t *mark = NULL, *names = json_object();
    json_t *list = NULL;
    const json_t *name;
    int format = 0, complete = 0;
    size_t len, i;

    if (hw_file_read(path, MARK_MOST, &text, &len, err) != HW_OK)
        return err->status;
    if (hw_json_parse_object(text, len, &mark, err) != HW_OK ||
        hw_json_unpack(mark, err, "{s:i, s:b, s:o}", "format", &format, "complete", &complete,
                       "files", &list) != HW_OK)
        return hw_fail_in(err, "%s is none that an export wrote", path);
    if (format != FORMAT || !json_is_array(list))
        return hw_fail(err, HW_EINVAL, "%s: another version of headwater wrote it", path);
    json_array_foreach(list, i, name) {
        if (!json_is_string(name) || !could_be_ours(json_string_value(name)))
            return hw_fail(err, HW_EINVAL, "%s lists what no export writes", path);
        json_object_set_new(names, json_string_value(name), json_true());
    }
    *whole = complete != 0;
    *files = HW_TAKE(names);
    return HW_OK;
}

static enum hw_status write_mark(const struct cli_export_dir *dir, json_t *files, bool whole,
                                 struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_of(dir, MARK);
    HW_AUTO_JSON json_t *names = json_array();
    const char *name;
    json_t *value;

    json_object_foreach(files, name, value)
        json_array_append_new(names, json_string(name));
    HW_AUTO_JSON json_t *mark =
        json_pack("{s:i, s:b, s:O}", "format", FORMAT, "complete", whole, "files", names);
    HW_AUTO_FREE char *text = cli_json_text(mark, true);
    HW_AUTO_FREE char *line = hw_sprintf("%s\n", text);
    return hw_file_replace(path, line, strlen(line), dir->mode, err);
}

enum hw_status cli_export_check(const char *path, struct hw_error *err)
{
    HW_AUTO_JSON json_t *files = NULL;
    bool whole = false;
    const enum hw_status st = read_mark(path, &files, &whole, err);

    if (st == HW_ENOENT)
        return HW_OK;
    if (st == HW_OK && !whole)
        return hw_fail(err, HW_EINVAL,
                       "%s: an export into it was cut short, so its files do not belong together; "
                       "run headwater export %s again",
                       path, path);
    return st;
}

/* ---- opening ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *place)
{
    (void)st, (void)type, (void)place;
    return remove(path) != 0 && errno != ENOENT ? -1 : 0;
}

/* Makes an empty directory for the files that are added. */
static enum hw_status clear_staging(const struct cli_export_dir *dir, bool make,
                                    struct hw_error *err)
{
    HW_AUTO_FREE char *top = path_of(dir, STAGING);
    HW_AUTO_FREE char *contents = staged(dir, CLI_EXPORT_CONTENTS);

    if (nftw(top, remove_one, TREE_FDS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return hw_fail_errno(err, "removing %s", top);
    if (make && (mkdir(top, 0777) != 0 || mkdir(contents, 0777) != 0))
        return hw_fail_errno(err, "creating %s", contents);
    return HW_OK;
}

/* HW_EINVAL: files of somebody else are in the directory. */
static enum hw_status check_empty(const struct cli_export_dir *dir, struct hw_error *err)
{
    DIR *entries = opendir(dir->path);
    const struct dirent *entry;
    enum hw_status st = HW_OK;

    if (entries == NULL)
        return hw_fail_errno(err, "reading %s", dir->path);
    while (st == HW_OK && (entry = readdir(entries)) != NULL) {
        const char *name = entry->d_name;

        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strcmp(name, STAGING) != 0 &&
            strncmp(name, ".git", 4) != 0)
            st = hw_fail(err, HW_EINVAL,
                         "%s is not empty (%.100s), and no export was written there before: choose "
                         "another directory",
                         dir->path, name);
    }
    closedir(entries);
    return st;
}

static enum hw_status lock(struct cli_export_dir *dir, struct hw_error *err)
{
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0)
        return hw_fail_errno(err, "opening directory %s", dir->path);
    if (flock(dir->fd, LOCK_EX | LOCK_NB) == 0)
        return HW_OK;
    if (errno == EWOULDBLOCK)
        return hw_fail(err, HW_ECONFLICT, "another export is being written to %s", dir->path);
    return hw_fail_errno(err, "locking %s", dir->path);
}

enum hw_status cli_export_open(const char *path, struct cli_export_dir **out, struct hw_error *err)
{
    struct cli_export_dir *dir = hw_alloc(sizeof(*dir));
    const mode_t mask = umask(0);
    size_t len = strlen(path);
    bool whole;

    umask(mask);
    while (len > 1 && path[len - 1] == '/')
        len--;
    *dir = (struct cli_export_dir){
        .path = hw_strndup(path, len), .fd = -1, .mode = 0666 & ~mask, .added = json_object()};
    enum hw_status st = hw_file_mkdirs(dir->path, 0777, err);
    if (st == HW_OK)
        st = lock(dir, err);
    if (st == HW_OK) {
        st = read_mark(dir->path, &dir->old, &whole, err);
        if (st == HW_ENOENT) {
            dir->old = json_object();
            st = check_empty(dir, err);
        }
    }
    if (st == HW_OK)
        st = clear_staging(dir, true, err);
    if (st == HW_OK)
        *out = HW_TAKE(dir);
    cli_export_close(dir);
    return st;
}

void cli_export_close(struct cli_export_dir *dir)
{
    if (dir == NULL)
        return;
    if (dir->fd >= 0 && dir->old != NULL)
        (void)!clear_staging(dir, false, NULL);
    if (dir->fd >= 0)
        close(dir->fd);
    json_decref(dir->old);
    json_decref(dir->added);
    free(dir->path);
    free(dir);
}

/* ---- writing ---- */

enum hw_status cli_export_reset(struct cli_export_dir *dir, struct hw_error *err)
{
    json_object_clear(dir->added);
    return clear_staging(dir, true, err);
}

enum hw_status cli_export_add(struct cli_export_dir *dir, const char *name, const void *bytes,
                              size_t len, struct hw_error *err)
{
    HW_AUTO_FREE char *path = staged(dir, name);

    json_object_set_new(dir->added, name, json_true());
    return hw_file_replace_idly(path, bytes, len, dir->mode, err);
}

/* Only files that an export wrote may be replaced. */
static enum hw_status check_free(const struct cli_export_dir *dir, struct hw_error *err)
{
    HW_AUTO_FREE char *contents = path_of(dir, "configs");
    const char *name;
    json_t *value;
    struct stat st;

    if (lstat(contents, &st) == 0 && !S_ISDIR(st.st_mode))
        return hw_fail(err, HW_EINVAL, "%s is no directory: what an export wrote was replaced",
                       contents);
    json_object_foreach(dir->added, name, value) {
        HW_AUTO_FREE char *path = path_of(dir, name);

        if (json_object_get(dir->old, name) == NULL && lstat(path, &st) == 0)
            return hw_fail(err, HW_EINVAL,
                           "%s is in the way, and no export wrote it: move it elsewhere", path);
    }
    return HW_OK;
}

/* Contents are moved first, because documents name them. */
static enum hw_status move(const struct cli_export_dir *dir, bool contents, struct hw_error *err)
{
    const char *name;
    json_t *value;

    json_object_foreach(dir->added, name, value) {
        HW_AUTO_FREE char *from = staged(dir, name);
        HW_AUTO_FREE char *to = path_of(dir, name);

        if (is_content(name) != contents)
            continue;
        if (rename(from, to) != 0)
            return hw_fail_errno(err, "renaming %s to %s", from, to);
        HW_POINT("export-moved");
    }
    return HW_OK;
}

static enum hw_status remove_stale(const struct cli_export_dir *dir, struct hw_error *err)
{
    const char *name;
    json_t *value;

    json_object_foreach(dir->old, name, value) {
        HW_AUTO_FREE char *path = path_of(dir, name);

        if (json_object_get(dir->added, name) == NULL && unlink(path) != 0 && errno != ENOENT)
            return hw_fail_errno(err, "removing %s", path);
    }
    return HW_OK;
}

enum hw_status cli_export_commit(struct cli_export_dir *dir, struct hw_error *err)
{
    HW_AUTO_FREE char *contents = path_of(dir, "configs");
    HW_AUTO_JSON json_t *both = json_copy(dir->old);
    enum hw_status st = check_free(dir, err);

    json_object_update(both, dir->added);
    if (st == HW_OK && mkdir(contents, 0777) != 0 && errno != EEXIST)
        st = hw_fail_errno(err, "creating %s", contents);
    if (st == HW_OK && syncfs(dir->fd) != 0)
        st = hw_fail_errno(err, "syncing %s", dir->path);
    if (st == HW_OK)
        st = write_mark(dir, both, false, err);
    if (st == HW_OK)
        st = move(dir, true, err);
    if (st == HW_OK)
        st = move(dir, false, err);
    if (st == HW_OK)
        st = remove_stale(dir, err);
    if (st == HW_OK)
        st = hw_file_sync_dir(contents, err);
    (void)rmdir(contents); /* it is removed only if it is empty */
    if (st == HW_OK)
        st = write_mark(dir, dir->added, true, err);
    return st;
}
