#include "agent/proposal.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/disk/store.h"
#include "common/base64.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/utf8.h"

#define WAITING     ".json"
#define DECIDED     ".decided"
#define TEXT_MAX    ((size_t)1 << 20)
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
    if (p->config == NULL || !hw_kv_name_valid(p->config))
        return hw_fail(err, HW_EINVAL,
                       "\"%.140s\" is not a config's name: at most %d letters, digits, - and _, in "
                       "parts joined by single dots",
                       p->config != NULL ? p->config : "", HW_NAME_MOST);
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
    json_array_foreach(sources, i, source)
    {
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

static void add_string(struct hw_buf *text, const char *before, const char *s, size_t len)
{
    hw_buf_puts(text, before);
    hw_buf_json_string(text, s, len);
}

/* As text where it is some, and escapes do not make more of it than base64 would. */
static void add_content(struct hw_buf *text, const struct agent_proposal *p)
{
    const char *const data = p->data != NULL ? p->data : "";
    const size_t before = text->len, limit = 4 * ((p->size + 2) / 3) + 64;

    if (hw_utf8_valid(data, p->size, NULL) && memchr(data, '\0', p->size) == NULL) {
        add_string(text, ",\"encoding\":\"utf-8\",\"content\":", data, p->size);
        if (text->len - before <= limit)
            return;
        text->len = before;
    }
    HW_AUTO_FREE char *encoded = hw_base64_encode(data, p->size);
    add_string(text, ",\"encoding\":\"base64\",\"content\":", encoded, strlen(encoded));
}

static enum hw_status write_proposal(const char *dir, const char *node,
                                     const struct agent_proposal *p, int64_t base,
                                     char ref[AGENT_REF_MAX], struct hw_error *err)
{
    HW_AUTO_FREE char *path = NULL;
    struct hw_buf text = {0};
    enum hw_status status;
    size_t count;

    free(list(dir, WAITING, &count));
    if (count >= AGENT_PROPOSALS_MAX)
        return hw_fail(err, HW_ELIMIT, "%zu proposals of this node wait already: that is the limit",
                       count);
    snprintf(ref, AGENT_REF_MAX, "%016llx-%08x", (unsigned long long)hw_clock_now(),
             (unsigned)arc4random());
    add_string(&text, "{\"node\":", node, strlen(node));
    add_string(&text, ",\"ref\":", ref, strlen(ref));
    add_string(&text, ",\"config\":", p->config, strlen(p->config));
    hw_buf_printf(&text, ",\"base_revision\":%lld", (long long)base);
    if (p->media_type != NULL)
        add_string(&text, ",\"media_type\":", p->media_type, strlen(p->media_type));
    if (p->message != NULL)
        add_string(&text, ",\"message\":", p->message, strlen(p->message));
    add_content(&text, p);
    hw_buf_putc(&text, '}');
    path = path_of(dir, ref, WAITING);
    status = hw_file_replace(path, text.data, text.len, 0644, err);
    hw_buf_free(&text);
    return status;
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

    return hw_file_read(path, TEXT_MAX, text, len, err);
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

static enum hw_status decode(json_t *value, struct agent_decision *out, struct hw_error *err)
{
    const char *ref, *state, *config = NULL, *reason = "";
    json_t *config_value, *revision;
    struct agent_decision d = {0};
    json_int_t id;

    if (hw_json_unpack(value, err, "{ss sI ss so so ss *}", "ref", &ref, "id", &id, "state", &state,
                       "config", &config_value, "revision", &revision, "reason", &reason) != HW_OK)
        return err->status;
    config = json_string_value(config_value);
    agent_text_clean(d.ref, sizeof(d.ref), ref, strlen(ref));
    agent_text_clean(d.state, sizeof(d.state), state, strlen(state));
    agent_text_clean(d.reason, sizeof(d.reason), reason, strlen(reason));
    if (config != NULL)
        agent_text_clean(d.config, sizeof(d.config), config, strlen(config));
    d.id = id;
    d.revision = json_integer_value(revision);
    *out = d;
    return HW_OK;
}

enum hw_status agent_decision_get(const char *dir, const char *ref, struct agent_decision *decision,
                                  struct hw_error *err)
{
    HW_AUTO_FREE char *path = path_of(dir, ref, DECIDED);
    HW_AUTO_FREE char *text = NULL;
    HW_AUTO_JSON json_t *value = NULL;
    enum hw_status status;
    size_t len;

    status = hw_file_read(path, TEXT_MAX, &text, &len, err);
    if (status == HW_OK)
        status = hw_json_parse_object(text, len, &value, err);
    return status == HW_OK ? decode(value, decision, err) : status;
}

enum hw_status agent_decision_find(const struct hw_kv_entry *entry, const char *node,
                                   const char *ref, struct agent_decision *decision,
                                   struct hw_error *err)
{
    HW_AUTO_JSON json_t *value = NULL;
    json_t *decisions, *item;
    const char *owner;
    size_t i;

    if (entry->deleted)
        return hw_fail(err, HW_ENOENT, "nothing is decided");
    if (!entry->fenced)
        return hw_fail(err, HW_EINVAL,
                       "the headers " HW_HEADER_EPOCH " and " HW_HEADER_LSN
                       " are missing or not valid");
    if (hw_json_parse_object(entry->value, entry->size, &value, err) != HW_OK ||
        hw_json_unpack(value, err, "{ss so *}", "node", &owner, "decisions", &decisions) != HW_OK)
        return err->status;
    if (strcmp(owner, node) != 0)
        return hw_fail(err, HW_EINVAL, "it is for the node \"%.128s\"", owner);
    json_array_foreach(decisions, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "ref"));

        if (name != NULL && strcmp(name, ref) == 0)
            return decode(item, decision, err);
    }
    return hw_fail(err, HW_ENOENT, "nothing is said of %s", ref);
}
