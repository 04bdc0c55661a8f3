#include "agent/disk/state.h"

#include <string.h>

#include "base/json.h"
#include "base/memory.h"

#define FORMAT 1

static const char *const stage_names[] = {
    [AGENT_STAGE_FETCH] = "fetch",       [AGENT_STAGE_VERIFY] = "verify",
    [AGENT_STAGE_VALIDATE] = "validate", [AGENT_STAGE_APPLY] = "apply",
    [AGENT_STAGE_HEALTH] = "health",
};

const char *agent_stage_name(enum agent_stage stage)
{
    return stage_names[stage];
}

bool agent_state_running_failed(const struct agent_state *state)
{
    return state->failed.set && state->running.set &&
           hw_fence_compare(state->failed.document.fence, state->running.fence) == 0;
}

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

/* The members are written in a fixed order, so that the same state always gives the same text
 * (agent_store_save compares texts). */
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

/* Members that are not known are passed over, so that an older program can read the state of a
 * newer one with the same format number. */
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
