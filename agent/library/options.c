#include "agent/library/options.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/disk/store.h"
#include "base/memory.h"
#include "base/names.h"
#include "nats/kv.h"
#include "nats/url.h"

#define POLL_MS      300000
#define HEARTBEAT_MS 30000
#define KEEP         5

enum hw_status library_options_check(const struct headwater_agent_options *o, struct hw_error *err)
{
    if (o->size < offsetof(struct headwater_agent_options, arg) + sizeof(o->arg))
        return hw_fail(err, HW_EINVAL,
                       "options.size is %zu: headwater_agent_options_init() sets it", o->size);
    if (hw_name_check(o->node, err) != HW_OK)
        return hw_fail_in(err, "node");
    if (o->nats_url != NULL && hw_nats_url_check(o->nats_url, err) != HW_OK)
        return hw_fail_in(err, "nats_url");
    if (o->bucket != NULL && !hw_kv_bucket_valid(o->bucket))
        return hw_fail(err, HW_EINVAL,
                       "bucket: \"%s\" is not a bucket name: letters, digits, - "
                       "and _",
                       o->bucket);
    if (o->size > offsetof(struct headwater_agent_options, nats_prefix) && o->nats_prefix != NULL &&
        !hw_kv_key_valid(o->nats_prefix))
        return hw_fail(err, HW_EINVAL, "nats_prefix: \"%s\" is not the beginning of a subject",
                       o->nats_prefix);
    if (o->state_dir == NULL || o->state_dir[0] == '\0')
        return hw_fail(err, HW_EINVAL, "state_dir is required");
    if (o->output != NULL && o->output_dir != NULL)
        return hw_fail(err, HW_EINVAL, "output and output_dir: only one of them can be had");
    if ((o->output != NULL && agent_store_owns(o->state_dir, o->output)) ||
        (o->output_dir != NULL && agent_store_owns(o->state_dir, o->output_dir)))
        return hw_fail(err, HW_EINVAL,
                       "%s: %.300s is the agent's own in its state directory %.300s",
                       o->output != NULL ? "output" : "output_dir",
                       o->output != NULL ? o->output : o->output_dir, o->state_dir);
    if (o->output == NULL && o->output_dir == NULL && o->apply == NULL)
        return hw_fail(err, HW_EINVAL,
                       "an output, an output_dir or apply is needed: nothing would "
                       "get the configuration");
    if (o->poll_ms < 0 || o->splay_ms < 0 || o->confirm_within_ms < 0)
        return hw_fail(err, HW_EINVAL, "times must not be negative");
    if ((o->mode & ~(mode_t)0777) != 0)
        return hw_fail(err, HW_EINVAL, "mode %o: must be at most 0777", (unsigned)o->mode);
    return HW_OK;
}

static const size_t strings[] = {
    offsetof(struct headwater_agent_options, nats_url),
    offsetof(struct headwater_agent_options, node),
    offsetof(struct headwater_agent_options, bucket),
    offsetof(struct headwater_agent_options, state_dir),
    offsetof(struct headwater_agent_options, output),
    offsetof(struct headwater_agent_options, output_dir),
    offsetof(struct headwater_agent_options, nats_ca),
    offsetof(struct headwater_agent_options, nats_cert),
    offsetof(struct headwater_agent_options, nats_key),
    offsetof(struct headwater_agent_options, nats_creds),
    offsetof(struct headwater_agent_options, nats_nkey),
    offsetof(struct headwater_agent_options, trust),
    offsetof(struct headwater_agent_options, nats_prefix),
};

static const char **string_at(struct headwater_agent_options *options, size_t i)
{
    return (const char **)(void *)((char *)options + strings[i]);
}

void library_options_copy(struct headwater_agent_options *to,
                          const struct headwater_agent_options *from)
{
    memset(to, 0, sizeof(*to));
    memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
    if (to->nats_url == NULL)
        to->nats_url = "nats://127.0.0.1:4222";
    if (to->bucket == NULL)
        to->bucket = "headwater";
    for (size_t i = 0; i < HW_COUNT(strings); i++) {
        const char **const text = string_at(to, i);

        *text = *text != NULL ? hw_strdup(*text) : NULL;
    }
}

void library_options_clear(struct headwater_agent_options *options)
{
    for (size_t i = 0; i < HW_COUNT(strings); i++)
        free((void *)(uintptr_t)*string_at(options, i));
}

static int64_t heartbeat_of(const struct headwater_agent_options *o)
{
    if (o->heartbeat_ms < 0)
        return 0;
    return o->heartbeat_ms > 0 ? o->heartbeat_ms : HEARTBEAT_MS;
}

struct agent_options library_options_core(const struct headwater_agent_options *o)
{
    return (struct agent_options){.url = o->nats_url,
                                  .nats_files = {.ca = o->nats_ca,
                                                 .cert = o->nats_cert,
                                                 .key = o->nats_key,
                                                 .creds = o->nats_creds,
                                                 .nkey = o->nats_nkey},
                                  .node = o->node,
                                  .bucket = o->bucket,
                                  .state_dir = o->state_dir,
                                  .trust = o->trust,
                                  .nats_prefix = o->nats_prefix,
                                  .output = {.file = o->output,
                                             .dir = o->output_dir,
                                             .keep = o->keep > 0 ? o->keep : KEEP,
                                             .mode = o->mode != 0 ? o->mode : 0644,
                                             .owner = o->owner,
                                             .group = o->group},
                                  .poll_ms = o->poll_ms > 0 ? o->poll_ms : POLL_MS,
                                  .splay_ms = o->splay_ms,
                                  .confirm_ms = o->confirm_within_ms,
                                  .heartbeat_ms = heartbeat_of(o),
                                  .heal = !o->report_drift_only};
}
