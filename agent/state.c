#include "agent/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"

#define FORMAT         1
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

static const char *const stage_names[] = {
    [AGENT_STAGE_FETCH] = "fetch",       [AGENT_STAGE_VERIFY] = "verify",
    [AGENT_STAGE_VALIDATE] = "validate", [AGENT_STAGE_APPLY] = "apply",
    [AGENT_STAGE_HEALTH] = "health",
};

const char *agent_stage_name(enum agent_stage stage)
{
    return stage_names[stage];
}

/* ---- text ---- */

static json_t *encode_fence(struct hw_fence fence)
{
    if (fence.epoch == 0)
        return json_null();
    return json_pack("{sI ss}", "epoch", (json_int_t)fence.epoch, "lsn", HW_LSN(fence.lsn));
}

static json_t *encode_document(const struct agent_document *d)
{
    char digest[HW_DIGEST_STR_MAX];

    if (!d->set)
        return json_null();
    return json_pack("{sI ss sI ss so ss}", "revision", (json_int_t)d->revision, "digest",
                     hw_digest_format(&d->digest, digest), "size", (json_int_t)d->size,
                     "media_type", d->media_type, "fence", encode_fence(d->fence), "applied_at",
                     d->applied_at);
}

static json_t *encode_failure(const struct agent_failure *f)
{
    if (!f->set)
        return json_null();
    return json_pack("{ss so ss ss}", "stage", agent_stage_name(f->stage), "document",
                     encode_document(&f->document), "error", f->error, "at", f->at);
}

char *agent_state_encode(const struct agent_state *state, const char *node)
{
    HW_AUTO_JSON json_t *value = json_pack(
        "{si ss so sI so so so so s{so si sb} sb sb}", "format", FORMAT, "node", node, "fence",
        encode_fence(state->fence), "desired_revision", (json_int_t)state->desired_revision,
        "running", encode_document(&state->running), "previous", encode_document(&state->previous),
        "failed", encode_failure(&state->failed), "refused",
        !state->refused.set
            ? json_null()
            : json_pack("{ss ss}", "error", state->refused.error, "at", state->refused.at),
        "trial", "fence", encode_fence(state->trial.fence), "attempts", state->trial.attempts,
        "open", state->trial.open, "unconfirmed", state->unconfirmed, "nothing", state->nothing);

    return hw_json_dump(value);
}

static enum hw_status copy_text(char *to, size_t size, const char *text, const char *what,
                                struct hw_error *err)
{
    const size_t len = strlen(text);

    if (len >= size)
        return hw_fail(err, HW_EINVAL, "%s: %zu bytes, at most %zu are expected", what, len,
                       size - 1);
    memcpy(to, text, len + 1);
    return HW_OK;
}

static enum hw_status decode_fence(json_t *value, struct hw_fence *fence, struct hw_error *err)
{
    json_int_t epoch;
    const char *lsn;
    enum hw_status status;

    *fence = (struct hw_fence){0};
    if (json_is_null(value))
        return HW_OK;
    status = hw_json_unpack(value, err, "{sI ss !}", "epoch", &epoch, "lsn", &lsn);
    if (status != HW_OK)
        return status;
    if (epoch < 1)
        return hw_fail(err, HW_EINVAL, "epoch %lld: must be at least 1", (long long)epoch);
    fence->epoch = (uint64_t)epoch;
    return hw_lsn_parse(lsn, &fence->lsn, err);
}

static enum hw_status decode_document(json_t *value, struct agent_document *d, struct hw_error *err)
{
    const char *digest, *media_type, *applied_at;
    json_int_t revision, size;
    json_t *fence;
    enum hw_status status;

    *d = (struct agent_document){0};
    if (json_is_null(value))
        return HW_OK;
    status = hw_json_unpack(value, err, "{sI ss sI ss so ss !}", "revision", &revision, "digest",
                            &digest, "size", &size, "media_type", &media_type, "fence", &fence,
                            "applied_at", &applied_at);
    if (status == HW_OK && (revision < 0 || size < 0 || size > (json_int_t)AGENT_DOCUMENT_MAX))
        status = hw_fail(err, HW_EINVAL, "a revision or size is out of range");
    if (status == HW_OK)
        status = hw_digest_parse(digest, &d->digest, err);
    if (status == HW_OK)
        status = decode_fence(fence, &d->fence, err);
    if (status == HW_OK)
        status = copy_text(d->media_type, sizeof(d->media_type), media_type, "media_type", err);
    if (status == HW_OK)
        status = copy_text(d->applied_at, sizeof(d->applied_at), applied_at, "applied_at", err);
    if (status != HW_OK)
        return status;
    d->set = true;
    d->revision = revision;
    d->size = (size_t)size;
    return HW_OK;
}

static enum hw_status decode_failure(json_t *value, struct agent_failure *f, struct hw_error *err)
{
    const char *stage, *error, *at;
    json_t *document;
    enum hw_status status;

    *f = (struct agent_failure){0};
    if (json_is_null(value))
        return HW_OK;
    status = hw_json_unpack(value, err, "{ss so ss ss !}", "stage", &stage, "document", &document,
                            "error", &error, "at", &at);
    if (status == HW_OK)
        status = decode_document(document, &f->document, err);
    if (status == HW_OK)
        status = copy_text(f->error, sizeof(f->error), error, "error", err);
    if (status == HW_OK)
        status = copy_text(f->at, sizeof(f->at), at, "at", err);
    if (status != HW_OK)
        return status;
    for (size_t i = 0; i < HW_COUNT(stage_names); i++) {
        if (strcmp(stage_names[i], stage) == 0) {
            f->stage = (enum agent_stage)i;
            f->set = true;
            return HW_OK;
        }
    }
    return hw_fail(err, HW_EINVAL, "\"%.40s\" is not a stage", stage);
}

static enum hw_status decode_refused(json_t *value, struct agent_state *state, struct hw_error *err)
{
    const char *error, *at;
    enum hw_status status;

    if (json_is_null(value))
        return HW_OK;
    status = hw_json_unpack(value, err, "{ss ss !}", "error", &error, "at", &at);
    if (status == HW_OK)
        status = copy_text(state->refused.error, sizeof(state->refused.error), error, "error", err);
    if (status == HW_OK)
        status = copy_text(state->refused.at, sizeof(state->refused.at), at, "at", err);
    state->refused.set = status == HW_OK;
    return status;
}

enum hw_status agent_state_decode(const char *text, size_t len, const char *node,
                                  struct agent_state *out, struct hw_error *err)
{
    HW_AUTO_JSON json_t *value = NULL;
    struct agent_state state = {0};
    json_t *fence, *running, *previous, *failed, *refused, *trial_fence;
    json_int_t desired_revision;
    const char *owner;
    int format = 0, open, unconfirmed = 0, nothing = 0;
    enum hw_status status;

    status = hw_json_parse_object(text, len, &value, err);
    if (status == HW_OK)
        status = hw_json_unpack(value, err, "{si ss *}", "format", &format, "node", &owner);
    if (status == HW_OK && format != FORMAT)
        status = hw_fail(err, HW_EINVAL, "format %d: this program knows %d", format, FORMAT);
    if (status != HW_OK)
        return status;
    if (node != NULL && strcmp(owner, node) != 0)
        return hw_fail(err, HW_ECONFLICT, "this is the state of the node %.128s, not of %s", owner,
                       node);
    status = hw_json_unpack(value, err, "{so sI so so so so s{so si sb !} s?b s?b *}", "fence",
                            &fence, "desired_revision", &desired_revision, "running", &running,
                            "previous", &previous, "failed", &failed, "refused", &refused, "trial",
                            "fence", &trial_fence, "attempts", &state.trial.attempts, "open", &open,
                            "unconfirmed", &unconfirmed, "nothing", &nothing);
    if (status == HW_OK)
        status = decode_fence(fence, &state.fence, err);
    if (status == HW_OK)
        status = decode_document(running, &state.running, err);
    if (status == HW_OK)
        status = decode_document(previous, &state.previous, err);
    if (status == HW_OK)
        status = decode_failure(failed, &state.failed, err);
    if (status == HW_OK)
        status = decode_refused(refused, &state, err);
    if (status == HW_OK)
        status = decode_fence(trial_fence, &state.trial.fence, err);
    if (status != HW_OK)
        return status;
    state.desired_revision = desired_revision;
    state.trial.open = open != 0;
    state.unconfirmed = unconfirmed != 0;
    state.nothing = nothing != 0;
    *out = state;
    return HW_OK;
}

/* ---- the directory ---- */

char *agent_store_path(const struct agent_store *store, const struct agent_document *document)
{
    char hex[HW_DIGEST_HEX_MAX];

    return hw_sprintf("%s/blob/%s", store->dir, hw_digest_hex(&document->digest, hex));
}

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
    /* For reading: a disk may become read-only, or be so at the start. */
    fd = open(lock, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return hw_fail_errno(err, "opening %s", lock);
    /* What a killed agent was about to start may hold its lock for the moment before exec. */
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

enum hw_status agent_store_load(struct agent_store *store, const char *node, struct hw_error *err)
{
    HW_AUTO_FREE char *bad = hw_sprintf("%s.bad", store->path);
    HW_AUTO_FREE char *text = NULL;
    struct hw_error why;
    enum hw_status status;
    size_t len;

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
    (void)!hw_json_parse_object(text, len, &value, NULL); /* it was parsed a moment ago */
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

enum hw_status agent_store_save(struct agent_store *store, const struct agent_state *next,
                                struct hw_error *err)
{
    HW_AUTO_FREE char *text = agent_state_encode(next, store->node);
    enum hw_status status;

    if (text == NULL)
        return hw_fail(err, HW_EINVAL, "%s: the state cannot be written as JSON", store->path);
    if (store->text == NULL || strcmp(store->text, text) != 0) {
        /* After a failure the disk may have either: the next save writes, whatever it says. */
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
        /* What stays behind is swept next time. */
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
}
