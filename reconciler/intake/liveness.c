#include "reconciler/intake/liveness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/map.h"
#include "common/memory.h"
#include "common/names.h"
#include "pg/database.h"
#include "protocol/subjects.h"

enum {
    WRITE_MS = 3000,
    STOOD_MS = 2 * WRITE_MS, /* a process that was away for longer has not listened */
    HEARD_MOST = 1 << 20,    /* names between two writes: more cannot be a fleet's */
};

struct rec_liveness {
    struct hw_loop *loop;
    struct hw_nats *nats;
    struct rec_counts *counts;
    size_t prefix; /* characters of a subject in front of the node's name */
    struct hw_db *pg;
    struct hw_nats_sub *sub;
    struct hw_nats_listener listener;
    struct hw_map heard; /* names, since the last write */
    int64_t since;       /* hw_loop_now(): listened without a break, and not written yet */
    struct hw_timer timer;
    bool failing; /* and told so */
};

static void on_beat(void *arg, natsMsg *msg)
{
    struct rec_liveness *live = arg;
    const char *const node = natsMsg_GetSubject(msg) + live->prefix;
    char *name;

    live->counts->heartbeats++;
    if (live->heard.count >= HEARD_MOST || !hw_name_valid(node) ||
        hw_map_get(&live->heard, node) != NULL)
        return;
    name = hw_strdup(node);
    hw_map_add(&live->heard, name, name);
}

static void forget(struct rec_liveness *live)
{
    size_t at = 0;
    char *name;

    while ((name = hw_map_next(&live->heard, &at)) != NULL)
        free(name);
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

/* A statement that fails is not sent again. The time of which it would have told then counts for
 * nobody as silence, and nodes go on beating. */
static void write_heard(void *arg)
{
    struct rec_liveness *live = arg;
    const int64_t now = hw_loop_now();
    const int64_t listened = now - live->since < STOOD_MS ? now - live->since : STOOD_MS;
    char ms[24];
    struct hw_buf names = {0};
    size_t at = 0;
    const char *name;

    hw_timer_start(live->loop, &live->timer, WRITE_MS, write_heard, live);
    if (!hw_db_idle(live->pg) || !hw_nats_up(live->nats))
        return;
    hw_buf_putc(&names, '{');
    while ((name = hw_map_next(&live->heard, &at)) != NULL)
        hw_buf_printf(&names, "%s\"%s\"", names.len > 1 ? "," : "", name);
    hw_buf_putc(&names, '}');
    snprintf(ms, sizeof(ms), "%" PRId64, listened);
    const char *const values[] = {names.data, ms};
    const struct hw_db_query query = {
        .sql = "SELECT headwater.hear($1::text[], $2::bigint)", .count = 2, .values = values};
    if (hw_db_run(live->pg, HW_DB_SEPARATE, &query, 1, NULL, on_written, live, NULL) == HW_OK) {
        forget(live);
        live->since = now;
    }
    hw_buf_free(&names);
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
