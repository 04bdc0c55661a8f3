#include "reconciler/publish/objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"
#include "common/log.h"

enum {
    COLLECTED_MOST = 100, /* objects removed behind one comparison */
    READ_MS = 5,          /* between two objects that are read whole */
};
#define OBJECT_MOST ((size_t)16 << 20) /* of a document, headwater.size_limit() */

struct rec_objects {
    struct rec_objects_config config;
    struct rec_objects_events events;
    struct hw_obj_watch *watch;
    bool loaded;
    struct hw_timer reading; /* objects are read one at a time … */
    size_t at;               /* … and this is where it is in the sink */
};

/* ---- what is there ---- */

static void on_entry(void *arg, const char *name, const char *nuid, bool there)
{
    struct rec_objects *objects = arg;
    struct rec_object *object = rec_sink_object(objects->config.sink, name);
    const bool drift = objects->loaded && object->there && !there;

    object->there = there;
    snprintf(object->nuid, sizeof(object->nuid), "%s", nuid);
    if (!drift)
        return;
    objects->config.counts->drift++;
    hw_log_warn("an object was changed or deleted by someone else", HW_S("object", name));
    objects->events.drift(objects->events.arg);
}

static void on_done(void *arg)
{
    struct rec_objects *objects = arg;

    objects->loaded = true;
    objects->events.loaded(objects->events.arg);
}

static void on_lost(void *arg, const struct hw_error *why)
{
    struct rec_objects *objects = arg;

    objects->events.lost(objects->events.arg, why);
}

/* ---- what nobody needs ---- */

static void on_removed(void *arg, const struct hw_ack *ack)
{
    (void)arg;
    /* Not a failure of ours: the next comparison tries again. */
    if (ack->status != HW_OK)
        hw_log_debug("an object could not be removed", HW_E(&ack->err));
}

/* The sink forgets the object before it is removed: a transaction that refers to it from now on has
 * it fetched and put anew, behind the removal. */
static bool drop(struct rec_objects *objects, struct rec_object *object)
{
    struct hw_error err;

    object->there = false;
    object->unused = 0;
    if (hw_obj_delete(objects->config.nats, objects->config.bucket, object->name, on_removed, NULL,
                      &err) == HW_OK)
        return true;
    hw_log_warn("an object could not be removed", HW_S("object", object->name), HW_E(&err));
    return false;
}

/* Removes objects that no row of desired has referred to for the whole time of grace. */
static void collect(struct rec_objects *objects)
{
    const uint64_t comparison = rec_sink_comparison(objects->config.sink);
    const int64_t now = hw_loop_now();
    struct rec_object *object;
    int removed = 0;
    size_t at = 0;

    while (objects->config.grace_ms > 0 && removed < COLLECTED_MOST &&
           (object = rec_sink_next_object(objects->config.sink, &at)) != NULL) {
        if (!object->there || object->used >= comparison) {
            object->unused = 0;
            continue;
        }
        if (object->unused == 0)
            object->unused = now;
        if (now - object->unused < objects->config.grace_ms)
            continue;
        hw_log_info("removing an object that nothing refers to any more",
                    HW_S("object", object->name));
        if (!drop(objects, object)) {
            object->there = true;
            return;
        }
        objects->config.counts->collected++;
        removed++;
    }
}

static bool is_described(void *arg, const char *nuid)
{
    return hw_map_get(arg, nuid) != NULL;
}

/* Removes chunks without metadata, such as a crash between the two leaves behind. */
static void collect_chunks(struct rec_objects *objects)
{
    struct hw_map described = {0};
    struct rec_object *object;
    struct hw_error err;
    int removed;
    size_t at = 0;

    if (objects->config.grace_ms == 0)
        return;
    while ((object = rec_sink_next_object(objects->config.sink, &at)) != NULL)
        if (object->nuid[0] != '\0' && hw_map_get(&described, object->nuid) == NULL)
            hw_map_add(&described, object->nuid, object);
    if (hw_obj_remove_orphans(objects->config.nats, objects->config.bucket,
                              objects->config.grace_ms, COLLECTED_MOST, is_described, &described,
                              &removed, &err) != HW_OK)
        hw_log_warn("chunks without an object could not be looked for", HW_E(&err));
    else if (removed > 0)
        hw_log_info("removed chunks that no object has", HW_I("objects", removed));
    hw_map_clear(&described);
}

/* ---- what is damaged: metadata says nothing about bytes ---- */

static enum hw_status check(const struct rec_objects *objects, const char *name,
                            struct hw_error *err)
{
    char hex[HW_DIGEST_HEX_MAX];
    unsigned char *data = NULL;
    struct hw_digest digest;
    enum hw_status status;
    size_t size;

    status = hw_obj_get(objects->config.nats, objects->config.bucket, name, OBJECT_MOST, &data,
                        &size, &digest, err);
    if (status != HW_OK)
        return status;
    free(data);
    if (strcmp(hw_digest_hex(&digest, hex), name) != 0)
        return hw_fail(err, HW_ECORRUPT, "its bytes are others than its name says");
    return HW_OK;
}

static void read_next(void *arg)
{
    struct rec_objects *objects = arg;
    const uint64_t comparison = rec_sink_comparison(objects->config.sink);
    struct rec_object *object;
    struct hw_error err;
    enum hw_status status;

    do
        object = rec_sink_next_object(objects->config.sink, &objects->at);
    while (object != NULL && (!object->there || object->arriving || object->used < comparison));
    if (object == NULL)
        return;
    hw_timer_start(objects->config.loop, &objects->reading, READ_MS, read_next, objects);
    status = check(objects, object->name, &err);
    if (status != HW_ECORRUPT && status != HW_ELIMIT && status != HW_ENOENT)
        return; /* sound; or NATS does not answer, and the next comparison has it read again */
    objects->config.counts->drift++;
    hw_log_warn("an object is damaged: it is put again", HW_S("object", object->name), HW_E(&err));
    if (status == HW_ENOENT)
        object->there = false;
    else
        (void)drop(objects, object);
    objects->events.drift(objects->events.arg);
}

void rec_objects_compared(struct rec_objects *objects)
{
    collect(objects);
    collect_chunks(objects);
    objects->at = 0;
    hw_timer_start(objects->config.loop, &objects->reading, READ_MS, read_next, objects);
}

/* ---- life ---- */

struct rec_objects *rec_objects_start(const struct rec_objects_config *config,
                                      const struct rec_objects_events *events)
{
    struct rec_objects *objects = hw_alloc(sizeof(*objects));
    const struct hw_obj_watch_events watch_events = {
        .entry = on_entry, .done = on_done, .lost = on_lost, .arg = objects};

    objects->config = *config;
    objects->events = *events;
    objects->watch = hw_obj_watch_start(config->nats, config->bucket, &watch_events);
    return objects;
}

void rec_objects_stop(struct rec_objects *objects)
{
    if (objects == NULL)
        return;
    hw_timer_stop(&objects->reading);
    hw_obj_watch_stop(objects->watch);
    free(objects);
}
