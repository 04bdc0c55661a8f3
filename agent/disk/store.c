#include "agent/disk/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

#define STATE_FILE_MAX ((size_t)64 << 10)
#define SOURCES_MAX    ((size_t)1 << 20)
#define LOCK_TRIES     20
#define LOCK_PAUSE_US  10000

struct agent_store {
    char *dir;
    char *path; /* of state.json */
    char *node;
    int lock_fd;
    char *text; /* of state.json, NULL before the first save */
    struct agent_state state;
};

char *agent_store_path(const struct agent_store *store, const struct agent_document *document)
{
    char hex[HW_DIGEST_HEX_MAX];

    return hw_sprintf("%s/blob/%s", store->dir, hw_digest_hex(&document->digest, hex));
}

/* Copies are readable by the agent's user alone: a configuration may hold secrets. The directory
 * itself may be read by all, so that an operator can look at the hold. */
static enum hw_status make_dirs(const char *dir, struct hw_error *err)
{
    HW_AUTO_FREE char *blobs = hw_sprintf("%s/blob", dir);
    enum hw_status status = hw_file_mkdirs(dir, 0755, err);

    if (status == HW_OK)
        status = hw_file_mkdirs(blobs, 0700, err);
    return status == HW_OK ? hw_file_sync_dir(blobs, err) : status;
}

enum hw_status agent_store_open(const char *dir, struct agent_store **out, struct hw_error *err)
{
    HW_AUTO_FREE char *lock = hw_sprintf("%s/lock", dir);
    struct agent_store *store;
    enum hw_status status;
    int fd, locked;

    status = make_dirs(dir, err);
    if (status != HW_OK) {
        const struct hw_error why = *err;

        return hw_fail(err, status,
                       "the state directory must be one that user %u may make and write: %.600s",
                       (unsigned)geteuid(), why.message);
    }
    /* Opened for reading only: the disk may be read-only. */
    fd = open(lock, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return hw_fail_errno(err, "opening %s", lock);
    /* A killed agent may just have forked. Until its child has called exec, the child holds the
     * lock. */
    locked = flock(fd, LOCK_EX | LOCK_NB);
    for (int i = 0; locked != 0 && errno == EWOULDBLOCK && i < LOCK_TRIES; i++) {
        usleep(LOCK_PAUSE_US);
        locked = flock(fd, LOCK_EX | LOCK_NB);
    }
    if (locked != 0) {
        status =
            errno != EWOULDBLOCK
                ? hw_fail_errno(err, "locking %s", lock)
                : hw_fail(err, HW_ECONFLICT,
                          "the state directory %s is in use by another agent: stop it, or give "
                          "this one a directory of its own",
                          dir);
        close(fd);
        return status;
    }
    store = hw_alloc(sizeof(*store));
    store->dir = hw_strdup(dir);
    store->path = hw_sprintf("%s/state.json", dir);
    store->lock_fd = fd;
    *out = store;
    return HW_OK;
}

/* The path without symbolic links and dots, as far as it exists. */
static char *resolve(const char *path)
{
    HW_AUTO_FREE char *here = *path != '/' ? getcwd(NULL, 0) : NULL;
    HW_AUTO_FREE char *whole = here != NULL ? hw_sprintf("%s/%s", here, path) : hw_strdup(path);
    HW_AUTO_FREE char *head = hw_strdup(whole);
    char *real = realpath(head, NULL);

    while (real == NULL && strrchr(head, '/') > head) {
        *strrchr(head, '/') = '\0';
        real = realpath(head, NULL);
    }
    char *resolved = hw_sprintf("%s%s", real != NULL && real[1] != '\0' ? real : "",
                                real != NULL ? whole + strlen(head) : whole);
    free(real);
    for (size_t len = strlen(resolved); len > 1 && resolved[len - 1] == '/';)
        resolved[--len] = '\0';
    return resolved;
}

bool agent_store_owns(const char *dir, const char *path)
{
    static const char *const names[] = {"state.json", "state.json.bad", "lock",     "hold",
                                        "command",    "blob",           "proposals"};
    HW_AUTO_FREE char *parent = hw_file_parent(path);
    HW_AUTO_FREE char *real_parent = resolve(parent);
    const char *const slash = strrchr(path, '/');
    /* The last part is not followed: it is what the output replaces. */
    HW_AUTO_FREE char *ours = hw_sprintf("%s/%s", real_parent, slash != NULL ? slash + 1 : path);
    HW_AUTO_FREE char *real_dir = resolve(dir);
    const size_t len = strlen(real_dir);

    if (strncmp(ours, real_dir, len) != 0 || ours[len] != '/')
        return false;
    for (size_t i = 0; i < HW_COUNT(names); i++) {
        const size_t name = strlen(names[i]);

        if (strncmp(ours + len + 1, names[i], name) == 0 &&
            (ours[len + 1 + name] == '\0' || ours[len + 1 + name] == '/'))
            return true;
    }
    return false;
}

void agent_store_close(struct agent_store *store)
{
    if (store == NULL)
        return;
    close(store->lock_fd);
    free(store->text);
    free(store->node);
    free(store->path);
    free(store->dir);
    free(store);
}

/* A state that cannot be read must not stop the agent for ever. It is set aside, so that it can
 * be looked at, and the agent starts without it: what is desired comes from NATS, and what is
 * there from the output. */
enum hw_status agent_store_load(struct agent_store *store, const char *node, struct hw_error *err)
{
    HW_AUTO_FREE char *bad = hw_sprintf("%s.bad", store->path);
    HW_AUTO_FREE char *text = NULL;
    struct hw_error why;
    enum hw_status status;
    struct stat st;
    size_t len;

    if (stat(store->path, &st) == 0 && !S_ISREG(st.st_mode))
        return hw_fail(err, HW_EIO, "%s, where the agent keeps its state, is %s: move it away",
                       store->path, S_ISDIR(st.st_mode) ? "a directory" : "no file");
    free(store->node);
    store->node = hw_strdup(node);
    store->state = (struct agent_state){0};
    status = hw_file_read(store->path, STATE_FILE_MAX, &text, &len, &why);
    if (status == HW_ENOENT)
        return HW_OK;
    if (status == HW_OK)
        status = agent_state_decode(text, len, node, &store->state, &why);
    if (status == HW_OK)
        return HW_OK;
    if (status != HW_EINVAL && status != HW_ELIMIT)
        return hw_fail(err, status, "%s: %s", store->path, why.message);
    if (rename(store->path, bad) != 0)
        return hw_fail_errno(err, "%s: %s; setting it aside", store->path, why.message);
    return hw_fail(err, HW_ECORRUPT, "%s: %s; it is kept as %s", store->path, why.message, bad);
}

enum hw_status agent_store_peek(const char *dir, const char *node, struct agent_state *out,
                                char **owner, bool *running, struct hw_error *err)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/state.json", dir);
    HW_AUTO_FREE char *lock = hw_sprintf("%s/lock", dir);
    HW_AUTO_FREE char *text = NULL;
    HW_AUTO_JSON json_t *value = NULL;
    struct agent_state state = {0};
    enum hw_status status;
    size_t len;
    int fd;

    status = hw_file_read(path, STATE_FILE_MAX, &text, &len, err);
    if (status == HW_OK)
        status = agent_state_decode(text, len, node, &state, err);
    if (status != HW_OK)
        return status == HW_ENOENT ? status : hw_fail_in(err, "%s", path);
    (void)!hw_json_parse_object(text, len, &value,
                                NULL); /* it cannot fail: the same text was parsed a moment ago */
    *owner = hw_strdup(json_string_value(json_object_get(value, "node")));
    agent_hold_read(dir, &state.hold);
    fd = open(lock, O_RDONLY | O_CLOEXEC);
    *running = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0;
    if (fd >= 0)
        close(fd);
    *out = state;
    return HW_OK;
}

const struct agent_state *agent_store_state(const struct agent_store *store)
{
    return &store->state;
}

/* Most events change nothing in the state. Comparing the text saves a write and two fsyncs each
 * time. */
enum hw_status agent_store_save(struct agent_store *store, const struct agent_state *next,
                                struct hw_error *err)
{
    HW_AUTO_FREE char *text = agent_state_encode(next, store->node);
    enum hw_status status;

    if (text == NULL)
        return hw_fail(err, HW_EINVAL, "%s: the state cannot be written as JSON", store->path);
    if (store->text == NULL || strcmp(store->text, text) != 0) {
        /* After a failed write the disk may have the old text or the new one, so the next save
         * writes in any case. */
        free(store->text);
        store->text = NULL;
        status = hw_file_replace(store->path, text, strlen(text), 0600, err);
        if (status != HW_OK)
            return status;
        store->text = HW_TAKE(text);
    }
    store->state = *next;
    return HW_OK;
}

bool agent_store_has(const struct agent_store *store, const struct agent_document *document)
{
    HW_AUTO_FREE char *path = agent_store_path(store, document);
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == document->size;
}

/* An operator may have emptied the directory while the agent runs. That is no reason to fail: it
 * is made anew. */
enum hw_status agent_store_put(struct agent_store *store, const struct agent_document *document,
                               const void *data, struct hw_error *err)
{
    HW_AUTO_FREE char *path = agent_store_path(store, document);
    enum hw_status status = hw_file_replace(path, data, document->size, 0600, err);

    if (status != HW_ENOENT)
        return status;
    status = make_dirs(store->dir, err);
    return status == HW_OK ? hw_file_replace(path, data, document->size, 0600, err) : status;
}

static char *sources_path(const char *dir, const struct agent_document *document)
{
    char hex[HW_DIGEST_HEX_MAX];

    return hw_sprintf("%s/blob/%s.sources", dir, hw_digest_hex(&document->digest, hex));
}

char *agent_store_sources(const char *dir, const struct agent_document *document)
{
    HW_AUTO_FREE char *path = sources_path(dir, document);
    char *text;
    size_t len;

    return hw_file_read(path, SOURCES_MAX, &text, &len, NULL) == HW_OK ? text : NULL;
}

enum hw_status agent_store_put_sources(struct agent_store *store,
                                       const struct agent_document *document, const char *sources,
                                       struct hw_error *err)
{
    HW_AUTO_FREE char *path = sources_path(store->dir, document);
    HW_AUTO_FREE char *kept = agent_store_sources(store->dir, document);

    if (kept != NULL && strcmp(kept, sources) == 0)
        return HW_OK;
    return hw_file_replace_idly(path, sources, strlen(sources), 0600, err);
}

/* The digest is computed at each reading: a disk may return other bytes than were written. */
enum hw_status agent_store_get(struct agent_store *store, const struct agent_document *document,
                               char **data, struct hw_error *err)
{
    HW_AUTO_FREE char *path = agent_store_path(store, document);
    HW_AUTO_FREE char *bytes = NULL;
    struct hw_digest digest;
    enum hw_status status;
    size_t len;

    status = hw_file_read(path, AGENT_DOCUMENT_MAX, &bytes, &len, err);
    if (status != HW_OK)
        return status;
    hw_digest_of(bytes, len, &digest);
    if (len != document->size || !hw_digest_equal(&digest, &document->digest))
        return hw_fail(err, HW_ECORRUPT, "%s: its content does not match its name", path);
    *data = HW_TAKE(bytes);
    return HW_OK;
}

/* Is it the copy of this document, or the sources beside it? */
static bool is_of(const char *name, const struct agent_document *document)
{
    char hex[HW_DIGEST_HEX_MAX];

    return document->set &&
           strncmp(name, hw_digest_hex(&document->digest, hex), HW_DIGEST_HEX_MAX - 1) == 0;
}

void agent_store_sweep(struct agent_store *store)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/blob", store->dir);
    DIR *dir = opendir(path);
    struct dirent *entry;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || is_of(entry->d_name, &store->state.running) ||
            is_of(entry->d_name, &store->state.previous))
            continue;
        /* A copy that cannot be removed now is removed at the next sweep. */
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
}
