#include "reconciler/intake/liveness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/memory.h"
#include "base/names.h"
#include "common/log.h"
#include "pg/database.h"
#include "protocol/subjects.h"

enum {
    WRITE_MS = 3000,
    STOOD_MS = 2 * WRITE_MS, /* a process that was away for longer has not listened */
    HEARD_MOST = 1 << 20,    /* names between two writes: more cannot be a fleet's */
    INSTANCES_MOST = 4,      /* of one name: who invents more takes no room from others */
};

/* Who gave signs of life for one name. */
struct heard {
    char *node;
    char *instances[INSTANCES_MOST]; /* up to the first NULL; none: an old agent */
};

struct rec_liveness {
    struct hw_loop *loop;
    struct hw_nats *nats;
    struct rec_counts *counts;
    size_t prefix; /* characters of a subject in front of the node's name */
    struct hw_db *pg;
    struct hw_nats_sub *sub;
    struct hw_nats_listener listener;
    struct hw_map heard; /* struct heard by node, since the last write */
    int64_t since;       /* hw_loop_now(): listened without a break, and not written yet */
    struct hw_timer timer;
    bool failing; /* and told so */
};

/* The instance that a message names; "" where its data is no name. */
static void read_instance(natsMsg *msg, char instance[static HW_NAME_MOST + 1])
{
    const int size = natsMsg_GetDataLength(msg);

    *instance = '\0';
    if (size <= 0 || size > HW_NAME_MOST)
        return;
    memcpy(instance, natsMsg_GetData(msg), (size_t)size);
    instance[size] = '\0';
    if (strlen(instance) != (size_t)size || !hw_name_valid(instance))
        *instance = '\0';
}

static void add_instance(struct heard *heard, const char *instance)
{
    for (size_t i = 0; i < INSTANCES_MOST; i++) {
        if (heard->instances[i] == NULL) {
            heard->instances[i] = hw_strdup(instance);
            return;
        }
        if (strcmp(heard->instances[i], instance) == 0)
            return;
    }
}

static void on_beat(void *arg, natsMsg *msg)
{
    struct rec_liveness *live = arg;
    const char *const node = natsMsg_GetSubject(msg) + live->prefix;
    char instance[HW_NAME_MOST + 1];
    struct heard *heard = hw_map_get(&live->heard, node);

    live->counts->heartbeats++;
    if (heard == NULL) {
        if (live->heard.count >= HEARD_MOST || !hw_name_valid(node))
            return;
        heard = hw_alloc(sizeof(*heard));
        heard->node = hw_strdup(node);
        hw_map_add(&live->heard, heard->node, heard);
    }
    read_instance(msg, instance);
    if (*instance != '\0')
        add_instance(heard, instance);
}

static void forget(struct rec_liveness *live)
{
    size_t at = 0;
    struct heard *heard;

    while ((heard = hw_map_next(&live->heard, &at)) != NULL) {
        for (size_t i = 0; i < INSTANCES_MOST; i++)
            free(heard->instances[i]);
        free(heard->node);
        free(heard);
    }
    hw_map_clear(&live->heard);
}

/* Nothing was heard while NATS was away. */
static void on_up(void *arg)
{
    struct rec_liveness *live = arg;

    live->since = hw_loop_now();
}

static void on_written(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_liveness *live = arg;

    if (outcome->status != HW_OK && !live->failing)
        hw_log_warn("signs of life could not be written, trying again", HW_E(&outcome->err));
    live->failing = outcome->status != HW_OK;
}

/* Adds an item to each of two arrays. Without quotes, NULL is a null. */
static void add_pair(struct hw_buf *nodes, struct hw_buf *instances, const char *node,
                     const char *instance)
{
    const char *const comma = nodes->len > 1 ? "," : "";

    hw_buf_printf(nodes, "%s\"%s\"", comma, node);
    if (instance != NULL)
        hw_buf_printf(instances, "%s\"%s\"", comma, instance);
    else
        hw_buf_printf(instances, "%sNULL", comma);
}

/* A statement that fails is not sent again. The time of which it would have told then counts for
 * nobody as silence, and nodes go on beating. */
static void write_heard(void *arg)
{
    struct rec_liveness *live = arg;
    const int64_t now = hw_loop_now();
    const int64_t listened = now - live->since < STOOD_MS ? now - live->since : STOOD_MS;
    char ms[24];
    struct hw_buf names = {0}, instances = {0};
    size_t at = 0;
    const struct heard *heard;

    hw_timer_start(live->loop, &live->timer, WRITE_MS, write_heard, live);
    if (!hw_db_idle(live->pg) || hw_db_refuses_writes(live->pg) != NULL || !hw_nats_up(live->nats))
        return;
    hw_buf_putc(&names, '{');
    hw_buf_putc(&instances, '{');
    while ((heard = hw_map_next(&live->heard, &at)) != NULL) {
        size_t i = 0;

        do
            add_pair(&names, &instances, heard->node, heard->instances[i]);
        while (++i < INSTANCES_MOST && heard->instances[i] != NULL);
    }
    hw_buf_putc(&names, '}');
    hw_buf_putc(&instances, '}');
    snprintf(ms, sizeof(ms), "%" PRId64, listened);
    const char *const values[] = {names.data, ms, instances.data};
    const struct hw_db_query query = {
        .sql = "SELECT headwater.hear($1::text[], $2::bigint, $3::text[])",
        .count = 3,
        .values = values};
    if (hw_db_run(live->pg, HW_DB_SEPARATE, &query, 1, NULL, on_written, live, NULL) == HW_OK) {
        forget(live);
        live->since = now;
    }
    hw_buf_free(&names);
    hw_buf_free(&instances);
}

enum hw_status rec_liveness_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                  const char *bucket, struct rec_counts *counts,
                                  struct rec_liveness **out, struct hw_error *err)
{
    HW_AUTO_FREE char *subject = hw_subject_alive(bucket, ">");
    struct rec_liveness *live = hw_alloc(sizeof(*live));
    const struct hw_db_events events = {.arg = live};
    enum hw_status status;

    live->loop = loop;
    live->nats = nats;
    live->counts = counts;
    live->prefix = strlen(subject) - 1;
    live->since = hw_loop_now();
    live->listener = (struct hw_nats_listener){.up = on_up, .arg = live};
    hw_nats_listen(nats, &live->listener);
    status = hw_db_open(loop, conninfo, "headwater-reconciler: liveness", &events, &live->pg, err);
    if (status == HW_OK)
        status = hw_nats_subscribe(nats, subject, on_beat, live, &live->sub, err);
    if (status != HW_OK) {
        rec_liveness_stop(live);
        return status;
    }
    hw_timer_start(loop, &live->timer, WRITE_MS, write_heard, live);
    *out = live;
    return HW_OK;
}

void rec_liveness_stop(struct rec_liveness *live)
{
    if (live == NULL)
        return;
    hw_nats_unlisten(live->nats, &live->listener);
    hw_nats_unsubscribe(live->sub);
    hw_db_close(live->pg);
    hw_timer_stop(&live->timer);
    forget(live);
    free(live);
}
