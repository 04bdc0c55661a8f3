#include "agent/proposal.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/disk/store.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/names.h"
#include "base/utf8.h"
#include "common/clock.h"
#include "protocol/decided.h"
#include "protocol/proposal.h"

#define WAITING     ".json"
#define DECIDED     ".decided"
#define MESSAGE_MAX 1024

static char *path_of(const char *dir, const char *ref, const char *suffix)
{
    return hw_sprintf("%s/proposals/%s%s", dir, ref, suffix);
}

enum hw_status agent_proposals_open(const char *dir, struct hw_error *err)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/proposals", dir);

    return hw_file_mkdirs(path, 0755, err);
}

/* ---- listing ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The names with a suffix, sorted, which is by age; malloc'ed. */
static char (*list(const char *dir, const char *suffix, size_t *count))[AGENT_REF_MAX]
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/proposals", dir);
    DIR *files = opendir(path);
    char(*refs)[AGENT_REF_MAX] = NULL;
    struct dirent *file;

    *count = 0;
    while (files != NULL && (file = readdir(files)) != NULL) {
        const char *dot = strchr(file->d_name, '.');
        const size_t len = dot != NULL ? (size_t)(dot - file->d_name) : 0;

        if (len == 0 || len >= AGENT_REF_MAX || strcmp(dot, suffix) != 0)
            continue;
        refs = hw_realloc(refs, (*count + 1) * sizeof(*refs));
        memcpy(refs[*count], file->d_name, len);
        refs[(*count)++][len] = '\0';
    }
    if (files != NULL)
        closedir(files);
    if (*count > 0)
        qsort(refs, *count, sizeof(*refs), compare);
    return refs;
}

size_t agent_proposal_list(const char *dir, char out[AGENT_PROPOSALS_MAX][AGENT_REF_MAX])
{
    size_t count;
    char(*refs)[AGENT_REF_MAX] = list(dir, WAITING, &count);

    if (count > AGENT_PROPOSALS_MAX)
        count = AGENT_PROPOSALS_MAX; /* the others later */
    if (count > 0)
        memcpy(out, refs, count * sizeof(*refs));
    free(refs);
    return count;
}

/* ---- proposing ---- */

static enum hw_status check(const struct agent_proposal *p, struct hw_error *err)
{
    if (hw_name_check(p->config, err) != HW_OK)
        return hw_fail_in(err, "config");
    if (p->size > AGENT_CONTENT_MAX)
        return hw_fail(err, HW_ELIMIT, "the content has %zu bytes; at most %zu can be proposed",
                       p->size, AGENT_CONTENT_MAX);
    if (p->base_revision < 0 || p->base_revision > INT_MAX)
        return hw_fail(err, HW_EINVAL, "%lld is not a revision", (long long)p->base_revision);
    if (p->message != NULL &&
        (strlen(p->message) > MESSAGE_MAX || !hw_utf8_valid(p->message, strlen(p->message), NULL)))
        return hw_fail(err, HW_EINVAL, "the message must be UTF-8 of at most %d bytes",
                       MESSAGE_MAX);
    if (p->media_type != NULL && !hw_utf8_valid(p->media_type, strlen(p->media_type), NULL))
        return hw_fail(err, HW_EINVAL, "the media type is not text");
    return HW_OK;
}

/* The revision of the config that the running document was made of. */
static enum hw_status find_base(const char *dir, const struct agent_document *running,
                                const char *config, int64_t *base, struct hw_error *err)
{
    HW_AUTO_FREE char *text = running->set ? agent_store_sources(dir, running) : NULL;
    HW_AUTO_JSON json_t *sources = text != NULL ? json_loads(text, 0, NULL) : NULL;
    json_int_t found = 0;
    json_t *source;
    size_t i;

    if (sources == NULL)
        return hw_fail(err, HW_ENOENT,
                       "it is not known which revision of %s this node runs: name the one that the "
                       "proposal is based on",
                       config);
    json_array_foreach(sources, i, source) {
        const char *name = json_string_value(json_object_get(source, "config"));
        const json_int_t revision = json_integer_value(json_object_get(source, "revision"));

        if (name != NULL && strcmp(name, config) == 0 && revision > found)
            found = revision;
    }
    if (found < 1 || found > INT_MAX)
        return hw_fail(err, HW_ENOENT,
                       "what this node runs is not made of config %s: name the revision that the "
                       "proposal is based on",
                       config);
    *base = found;
    return HW_OK;
}

static enum hw_status write_proposal(const char *dir, const char *node,
                                     const struct agent_proposal *p, int64_t base,
                                     char ref[AGENT_REF_MAX], struct hw_error *err)
{
    HW_AUTO_FREE char *path = NULL;
    HW_AUTO_FREE char *text = NULL;
    size_t count, size;

    free(list(dir, WAITING, &count));
    if (count >= AGENT_PROPOSALS_MAX)
        return hw_fail(err, HW_ELIMIT, "%zu proposals of this node wait already: that is the limit",
                       count);
    snprintf(ref, AGENT_REF_MAX, "%016llx-%08x", (unsigned long long)hw_clock_now(),
             (unsigned)arc4random());
    path = path_of(dir, ref, WAITING);
    text = hw_proposal_write(&(struct hw_proposal){.node = node,
                                                   .ref = ref,
                                                   .config = p->config,
                                                   .base_revision = base,
                                                   .data = p->data,
                                                   .size = p->size,
                                                   .media_type = p->media_type,
                                                   .message = p->message},
                             &size);
    return hw_file_replace(path, text, size, 0644, err);
}

enum hw_status agent_proposal_put(const char *dir, const char *node, const struct agent_proposal *p,
                                  char ref[AGENT_REF_MAX], struct hw_error *err)
{
    HW_AUTO_FREE char *owner = NULL;
    struct agent_state state = {0};
    int64_t base = p->base_revision;
    enum hw_status status;
    bool alive;

    status = check(p, err);
    if (status == HW_OK && (base == 0 || node == NULL)) {
        status = agent_store_peek(dir, node, &state, &owner, &alive, err);
        if (status == HW_ENOENT)
            return hw_fail(err, HW_ENOENT,
                           "no agent has ever had anything to do here: there is no %s/state.json",
                           dir);
    }
    if (status == HW_OK && base == 0)
        status = find_base(dir, &state.running, p->config, &base, err);
    if (status == HW_OK)
        status = agent_proposals_open(dir, err);
    if (status == HW_OK)
        status = write_proposal(dir, node != NULL ? node : owner, p, base, ref, err);
    return status;
}

enum hw_status agent_proposal_get(const char *dir, const char *ref, char **text, size_t *len,
                                  struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_of(dir, ref, WAITING);

    return hw_file_read(path, HW_PROPOSAL_VALUE_MOST, text, len, err);
}

enum hw_status agent_proposal_forget(const char *dir, const char *ref, struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_of(dir, ref, WAITING);

    return hw_file_remove(path, err);
}

/* ---- decisions ---- */

enum hw_status agent_decision_put(const char *dir, const struct agent_decision *d,
                                  struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_of(dir, d->ref, DECIDED);
    HW_AUTO_JSON json_t *value = json_pack(
        "{ss sI ss ss ss sI}", "ref", d->ref, "id", (json_int_t)d->id, "config", d->config, "state",
        d->state, "reason", d->reason, "revision", (json_int_t)d->revision);
    HW_AUTO_FREE char *text = hw_json_dump(value);
    size_t count;
    const enum hw_status status = hw_file_replace(path, text, strlen(text), 0644, err);
    char(*refs)[AGENT_REF_MAX] = list(dir, DECIDED, &count);

    for (size_t i = 0; i + AGENT_PROPOSALS_MAX < count; i++) {
        HW_AUTO_FREE char *old = path_of(dir, refs[i], DECIDED);

        (void)unlink(old);
    }
    free(refs);
    return status;
}

/* What NATS and files say goes into reports and logs: visible characters only. */
static void take(const struct hw_decision *said, struct agent_decision *d)
{
    *d = (struct agent_decision){.id = said->id, .revision = said->revision};
    agent_text_clean(d->ref, sizeof(d->ref), said->ref, strlen(said->ref));
    agent_text_clean(d->config, sizeof(d->config), said->config, strlen(said->config));
    agent_text_clean(d->state, sizeof(d->state), said->state, strlen(said->state));
    agent_text_clean(d->reason, sizeof(d->reason), said->reason, strlen(said->reason));
}

enum hw_status agent_decision_get(const char *dir, const char *ref, struct agent_decision *decision,
                                  struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_of(dir, ref, DECIDED);
    HW_AUTO_FREE char *text = NULL;
    HW_AUTO_JSON json_t *value = NULL;
    struct hw_decision said;
    enum hw_status status;
    size_t len;

    status = hw_file_read(path, HW_PROPOSAL_VALUE_MOST, &text, &len, err);
    if (status == HW_OK)
        status = hw_json_parse_object(text, len, &value, err);
    if (status == HW_OK)
        status = hw_decision_read(value, &said, err);
    if (status == HW_OK)
        take(&said, decision);
    return status;
}

enum hw_status agent_decision_find(const struct hw_entry *entry, const char *node, const char *ref,
                                   struct agent_decision *decision, struct hw_error *err)
{
    struct hw_decided_value value;
    struct hw_decision said;
    enum hw_status status;

    if (entry->deleted)
        return hw_fail(err, HW_ENOENT, "nothing is decided");
    if (hw_entry_check_fenced(entry, err) != HW_OK ||
        hw_decided_read(entry->value, entry->size, &value, err) != HW_OK)
        return HW_EINVAL;
    if (strcmp(value.node, node) == 0) {
        status = hw_decided_find(&value, ref, &said, err);
        if (status == HW_OK)
            take(&said, decision);
    } else {
        status = hw_fail(err, HW_EINVAL, "it is for the node \"%.128s\"", value.node);
    }
    hw_decided_clear(&value);
    return status;
}
