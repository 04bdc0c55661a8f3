#include "reconciler/intake/intake.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/map.h"
#include "base/memory.h"
#include "base/names.h"
#include "common/log.h"
#include "common/outage.h"
#include "common/pace.h"
#include "common/warning.h"
#include "protocol/keys.h"

enum {
    BATCH_BYTES = 4 << 20,
    WAITING_BYTES = 32 << 20, /* beyond it entries are left in the bucket until there is room */
    RETRY_MS = 1000,
    /* Batches in a row that failed until their messages are sent one by one: most failures are not
     * about a message, and those of locks and of time the least. */
    FAILURES = 2,
    FAILURES_OF_OTHERS = 5,
    ASIDE_FIRST_MS = 1000,  /* a refused message is tried again after so long, … */
    ASIDE_MOST_MS = 300000, /* … and, doubled each time, after so long at most */
};

/* A node with messages that wait is in one of three lines: it may write its first one; not yet; or
 * the database has refused that one, which is tried again, and there is no newer one. */
enum line { NONE, READY, PACED, ASIDE };
TAILQ_HEAD(nodes, node);

struct node {
    char *name;
    uint64_t seen;                 /* entries up to this one were read */
    struct rec_item *first, *last; /* messages that wait; if the first is no change, it is alone */
    size_t count;
    struct rec_item *writing;  /* the one in the batch */
    struct hw_digest standing; /* of the newest message */
    bool has_standing;
    struct hw_pace pace;
    enum line line;
    int64_t due; /* when it may write, hw_loop_now(); in the lines PACED and ASIDE */
    /* The pause after the last message, which was refused; 0: it was not. What such a node sends is
     * in a batch of its own, where it harms no other. */
    int64_t aside_ms;
    TAILQ_ENTRY(node) link;
};

struct rec_intake {
    struct rec_intake_config config;
    struct hw_db *pg;
    struct hw_kv_watch *watch;
    int64_t created_ns;  /* of the stream */
    struct hw_map nodes; /* struct node by name */
    struct nodes ready;  /* in order of arrival */
    struct nodes paced;  /* roughly in the order in which they are due, a few seconds at most */
    struct nodes aside;  /* in no order */
    struct node **batch; /* being written */
    size_t batch_count;
    size_t waiting;          /* bytes */
    bool left;               /* some were left in the bucket */
    struct hw_error trouble; /* why the last attempt to write failed; HW_OK: it did not */
    struct hw_outage outage;
    int failures;    /* batches in a row */
    bool one_by_one; /* the database refuses one of those that wait: find out which */
    struct hw_timer retry_aside;
    struct hw_timer retry;
    struct hw_timer release; /* of the first that is paced */
};

static void write_batch(void *arg);

/* ---- what waits ---- */

static struct node *node_of(struct rec_intake *intake, const char *name)
{
    struct node *node = hw_map_get(&intake->nodes, name);

    if (node == NULL) {
        node = hw_alloc(sizeof(*node));
        node->name = hw_strdup(name);
        hw_map_add(&intake->nodes, node->name, node);
    }
    return node;
}

static void drop(struct rec_intake *intake, struct rec_item *item)
{
    if (item == NULL)
        return;
    intake->waiting -= item->size;
    free(item->text);
    free(item);
}

static struct rec_item *take_first(struct node *node)
{
    struct rec_item *item = node->first;

    node->first = item->next;
    if (node->first == NULL)
        node->last = NULL;
    node->count--;
    item->next = NULL;
    return item;
}

static void leave_line(struct rec_intake *intake, struct node *node)
{
    if (node->line == READY)
        TAILQ_REMOVE(&intake->ready, node, link);
    else if (node->line == PACED)
        TAILQ_REMOVE(&intake->paced, node, link);
    else if (node->line == ASIDE)
        TAILQ_REMOVE(&intake->aside, node, link);
    node->line = NONE;
}

static int64_t wait_of(const struct rec_intake *intake, const struct node *node, bool is_change)
{
    const struct rec_intake_pace *pace = &intake->config.pace;

    return hw_pace_wait(&node->pace, pace->each_ms, is_change ? pace->changes : pace->most,
                        hw_loop_now());
}

static void release(void *arg);

static void release_later(struct rec_intake *intake)
{
    const struct node *first = TAILQ_FIRST(&intake->paced);

    if (first != NULL && !hw_timer_running(&intake->release))
        hw_timer_start(intake->config.loop, &intake->release,
                       first->due > hw_loop_now() ? first->due - hw_loop_now() : 0, release,
                       intake);
}

/* Puts the node, whose messages may be others than before, in its line. */
static void line_up(struct rec_intake *intake, struct node *node)
{
    int64_t wait;

    if (node->first == NULL) {
        leave_line(intake, node);
        return;
    }
    wait = wait_of(intake, node, node->first->is_change);
    if (node->line == READY || (node->line == PACED && wait > 0))
        return;
    leave_line(intake, node);
    node->line = wait > 0 ? PACED : READY;
    node->due = hw_loop_now() + wait;
    if (node->line == READY)
        TAILQ_INSERT_TAIL(&intake->ready, node, link);
    else
        TAILQ_INSERT_TAIL(&intake->paced, node, link);
    release_later(intake);
}

static void release(void *arg)
{
    struct rec_intake *intake = arg;
    const int64_t now = hw_loop_now();
    struct node *node;

    while ((node = TAILQ_FIRST(&intake->paced)) != NULL && node->due <= now) {
        leave_line(intake, node);
        line_up(intake, node);
    }
    release_later(intake);
    write_batch(intake);
}

/* ---- what was refused ---- */

static void set_refused(struct rec_intake *intake, struct node *node, int64_t pause_ms)
{
    double *const count = intake->config.aside;

    if (count != NULL)
        *count += (pause_ms > 0) - (node->aside_ms > 0);
    node->aside_ms = pause_ms;
}

static void try_aside(void *arg)
{
    struct rec_intake *intake = arg;
    const int64_t now = hw_loop_now();
    struct node *node, *next;

    for (node = TAILQ_FIRST(&intake->aside); node != NULL; node = next) {
        next = TAILQ_NEXT(node, link);
        if (node->due > now)
            continue;
        leave_line(intake, node);
        line_up(intake, node);
    }
    if (!TAILQ_EMPTY(&intake->aside))
        hw_timer_start(intake->config.loop, &intake->retry_aside, ASIDE_FIRST_MS, try_aside,
                       intake);
    write_batch(intake);
}

/* The refused message waits alone until it is tried again. Where a newer one waits, that is tried
 * in its place: it says more, and perhaps it is taken. */
static void set_aside(struct rec_intake *intake, struct node *node, struct rec_item *item)
{
    const int64_t pause = node->aside_ms > 0 ? 2 * node->aside_ms : ASIDE_FIRST_MS;

    set_refused(intake, node, pause < ASIDE_MOST_MS ? pause : ASIDE_MOST_MS);
    if (node->first != NULL) {
        node->first->is_change |= item->is_change;
        drop(intake, item);
        line_up(intake, node);
        return;
    }
    node->first = node->last = item;
    node->count = 1;
    node->line = ASIDE;
    node->due = hw_loop_now() + node->aside_ms;
    TAILQ_INSERT_TAIL(&intake->aside, node, link);
    if (!hw_timer_running(&intake->retry_aside))
        hw_timer_start(intake->config.loop, &intake->retry_aside, ASIDE_FIRST_MS, try_aside,
                       intake);
}

/* What kept all from being written is over, so the others are not left to wait. */
static void try_all_aside(struct rec_intake *intake)
{
    struct node *node;

    TAILQ_FOREACH(node, &intake->aside, link)
        node->due = 0;
}

static void count(uint64_t *counter)
{
    if (counter != NULL)
        ++*counter;
}

/* A message that says the same as the one before it, or that is one too many, takes the place of
 * the last one that waits. */
static void add_item(struct rec_intake *intake, struct node *node, struct rec_item *item)
{
    const struct rec_intake_config *config = &intake->config;
    struct rec_item *const last = node->last;

    item->is_change = !node->has_standing || !hw_digest_equal(&item->standing, &node->standing);
    node->standing = item->standing;
    node->has_standing = true;
    intake->waiting += item->size;
    if (node->line == ASIDE) {
        leave_line(intake, node);
        item->is_change |= node->first->is_change;
        drop(intake, take_first(node));
        node->first = node->last = item;
        node->count = 1;
        return;
    }
    if (last != NULL && (!item->is_change || !last->is_change ||
                         node->count >= config->waiting_most || wait_of(intake, node, true) > 0)) {
        count(config->replaced);
        if (item->is_change && last->is_change) {
            count(config->left_out);
            if (config->waiting_most > 1)
                hw_warn_about(node->name, "a node changes its state faster than is recorded",
                              HW_S("node", node->name), HW_S("of", config->what));
        }
        item->is_change = item->is_change || last->is_change;
        intake->waiting -= last->size;
        free(last->text);
        *last = *item; /* which is the last one, and has no next */
        free(item);
        return;
    }
    if (last != NULL)
        last->next = item;
    else
        node->first = item;
    node->last = item;
    node->count++;
}

static void on_entry(void *arg, struct hw_kv_entry *entry)
{
    struct rec_intake *intake = arg;
    const struct rec_intake_config *config = &intake->config;
    const char *name = hw_key_node(entry->key, config->prefix);
    struct hw_digest standing = {0};
    struct rec_item *item;
    struct node *node;
    char *text;

    if (entry->deleted || name == NULL)
        return;
    if (!hw_name_valid(name)) {
        hw_warn_about(name, "passing over a key that does not end with a node's name",
                      HW_S("key", entry->key), HW_I("revision", (int64_t)entry->seq));
        return;
    }
    node = node_of(intake, name);
    if (entry->seq <= node->seen)
        return; /* the watch began again */
    if (intake->waiting > WAITING_BYTES) {
        intake->left = true;
        return;
    }
    node->seen = entry->seq;
    text = config->read(config->arg, name, entry, &standing);
    if (text == NULL)
        return;
    item = hw_alloc(sizeof(*item));
    *item = (struct rec_item){.text = text,
                              .size = strlen(text),
                              .standing = standing,
                              .seq = entry->seq,
                              .created_ns = intake->created_ns};
    add_item(intake, node, item);
    line_up(intake, node);
    if (node->line == READY)
        hw_timer_start(config->loop, &intake->retry, 0, write_batch, intake);
}

/* ---- writing ---- */

/* What was in the batch waits again, in front of what came since. A message that says the same as
 * the one before it need not, when there is a newer one. */
static void put_back(struct rec_intake *intake)
{
    for (size_t i = 0; i < intake->batch_count; i++) {
        struct node *node = intake->batch[i];
        struct rec_item *item = HW_TAKE(node->writing);

        if (node->first != NULL && !item->is_change) {
            drop(intake, item);
            continue;
        }
        if (node->first != NULL && !node->first->is_change) {
            node->first->is_change = true; /* of the two that are one now */
            drop(intake, item);
        } else {
            item->next = node->first;
            node->first = item;
            if (node->last == NULL)
                node->last = item;
            node->count++;
        }
        line_up(intake, node);
    }
    intake->batch_count = 0;
}

/* The database has answered: rows, one for each message. NULL: it refused the only one. */
static void end_batch(struct rec_intake *intake, const PGresult *rows)
{
    const struct rec_intake_config *config = &intake->config;
    const size_t count = intake->batch_count;

    intake->batch_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct node *node = intake->batch[i];
        struct rec_item *item = HW_TAKE(node->writing);

        if (rows == NULL || (config->refused != NULL && config->refused(rows, (int)i))) {
            set_aside(intake, node, item);
        } else {
            set_refused(intake, node, 0);
            drop(intake, item);
            line_up(intake, node);
        }
    }
}

static void forget_trouble(struct rec_intake *intake)
{
    int64_t lasted;

    intake->trouble = (struct hw_error){0};
    if (hw_outage_ends(&intake->outage, hw_loop_now(), &lasted))
        hw_log_info("what nodes send goes into the database again", HW_S("of", intake->config.what),
                    HW_I("lasted_s", lasted / 1000));
}

/* Is it time to find out which message is refused? A limit, or data that cannot be read (SQLSTATE
 * classes 54 and 22), is about the messages, and never about the server. */
static bool is_refusal(const struct rec_intake *intake, const struct hw_db_outcome *outcome)
{
    const bool is_others = outcome->status == HW_ECONFLICT || outcome->status == HW_ETIMEOUT;

    if (outcome->status == HW_EUNAVAIL)
        return false;
    return strncmp(outcome->sqlstate, "22", 2) == 0 || strncmp(outcome->sqlstate, "54", 2) == 0 ||
           intake->one_by_one || intake->batch[0]->aside_ms > 0 ||
           intake->failures >= (is_others ? FAILURES_OF_OTHERS : FAILURES);
}

static void take_failure(struct rec_intake *intake, const struct hw_db_outcome *outcome)
{
    const struct rec_intake_config *config = &intake->config;
    const bool is_alone = intake->batch_count == 1;
    const bool is_known = intake->batch[0]->aside_ms > 0;

    intake->failures++;
    if (!is_refusal(intake, outcome)) {
        intake->trouble = outcome->err;
        if (hw_outage_goes_on(&intake->outage, outcome->err.message, hw_loop_now()))
            hw_log_warn("what nodes sent could not be written, trying again",
                        HW_S("of", config->what), HW_I("count", (int64_t)intake->batch_count),
                        HW_E(&outcome->err));
        put_back(intake);
        rec_intake_write_later(intake);
        return;
    }
    if (!is_alone) {
        intake->one_by_one = true;
        put_back(intake);
    } else {
        if (!is_known)
            intake->trouble = outcome->err; /* until another one goes in */
        hw_warn_about(intake->batch[0]->name,
                      "the database refuses what a node sent: set aside, tried again later",
                      HW_S("node", intake->batch[0]->name), HW_S("of", config->what),
                      HW_E(&outcome->err));
        end_batch(intake, NULL);
    }
    write_batch(intake);
}

static void on_written(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_intake *intake = arg;

    if (outcome->status != HW_OK) {
        take_failure(intake, outcome);
        return;
    }
    if (intake->trouble.status != HW_OK)
        try_all_aside(intake);
    intake->failures = 0;
    forget_trouble(intake);
    intake->config.answered(intake->config.arg, outcome->results[0]);
    end_batch(intake, outcome->results[0]);
    write_batch(intake);
}

static void add(const struct rec_intake_config *config, const struct rec_item *item,
                struct hw_buf *json)
{
    if (config->add != NULL)
        config->add(config->arg, item, json);
    else
        hw_buf_add(json, item->text, item->size);
}

static void write_batch(void *arg)
{
    struct rec_intake *intake = arg;
    const struct rec_intake_config *config = &intake->config;
    const size_t most = intake->one_by_one ? 1 : config->batch_most;
    struct hw_buf json = {0};

    if (intake->batch_count > 0 || !hw_db_idle(intake->pg) ||
        hw_db_refuses_writes(intake->pg) != NULL)
        return;
    if (config->first != NULL && config->first(config->arg, intake->pg))
        return;
    if (TAILQ_EMPTY(&intake->ready)) {
        intake->one_by_one = false;
        if (intake->left && intake->waiting <= WAITING_BYTES / 2) {
            intake->left = false;
            hw_kv_watch_restart(intake->watch);
        }
        return;
    }
    if (config->ready != NULL && !config->ready(config->arg, intake->pg))
        return;
    while (!TAILQ_EMPTY(&intake->ready) && intake->batch_count < most && json.len < BATCH_BYTES) {
        struct node *node = TAILQ_FIRST(&intake->ready);

        if (node->aside_ms > 0 && intake->batch_count > 0)
            break;
        leave_line(intake, node);
        node->writing = take_first(node);
        hw_pace_spend(&node->pace, config->pace.each_ms, hw_loop_now());
        hw_buf_putc(&json, json.len == 0 ? '[' : ',');
        add(config, node->writing, &json);
        intake->batch[intake->batch_count++] = node;
        if (node->aside_ms > 0)
            break;
    }
    hw_buf_putc(&json, ']');
    const char *const values[] = {hw_buf_str(&json)};
    const struct hw_db_query query = {.sql = config->sql, .count = 1, .values = values};
    /* When the connection is down, the batch is written as soon as it is up again. */
    if (hw_db_run(intake->pg, HW_DB_ATOMIC, &query, 1, NULL, on_written, intake, NULL) != HW_OK)
        put_back(intake);
    hw_buf_free(&json);
}

void rec_intake_write(struct rec_intake *intake)
{
    write_batch(intake);
}

void rec_intake_write_later(struct rec_intake *intake)
{
    hw_timer_start(intake->config.loop, &intake->retry, RETRY_MS, write_batch, intake);
}

/* ---- life ---- */

/* A stream that was made anew, or put back from a copy, gives its numbers once more. */
static enum hw_status on_starting(void *arg, struct hw_error *err)
{
    struct rec_intake *intake = arg;
    const struct rec_intake_config *config = &intake->config;
    struct hw_kv_stream stream;
    struct node *node;
    size_t at = 0;

    const enum hw_status status = config->identify != NULL
                                      ? config->identify(config->arg, &stream, err)
                                      : hw_kv_stat(config->nats, config->bucket, &stream, err);
    if (status != HW_OK)
        return status;
    while ((node = hw_map_next(&intake->nodes, &at)) != NULL)
        if (stream.created_ns != intake->created_ns || node->seen > stream.last_seq)
            node->seen = 0;
    intake->created_ns = stream.created_ns;
    return HW_OK;
}

static void on_caught_up(void *arg)
{
    const struct rec_intake *intake = arg;

    hw_log_debug("caught up with what nodes sent", HW_S("bucket", intake->config.bucket),
                 HW_S("of", intake->config.what), HW_I("nodes", (int64_t)intake->nodes.count));
}

static void on_pg_up(void *arg)
{
    struct rec_intake *intake = arg;

    intake->trouble = (struct hw_error){0};
    write_batch(intake);
}

static void on_pg_down(void *arg, const struct hw_error *why)
{
    struct rec_intake *intake = arg;

    intake->trouble = *why;
}

static void on_pg_writes(void *arg, const char *refusal)
{
    if (refusal == NULL)
        write_batch(arg);
}

bool rec_intake_works(const struct rec_intake *intake, const char **why)
{
    *why = hw_db_refuses_writes(intake->pg);
    if (*why == NULL && intake->trouble.status != HW_OK)
        *why = intake->trouble.message;
    return *why == NULL;
}

enum hw_status rec_intake_start(const struct rec_intake_config *config, struct rec_intake **out,
                                struct hw_error *err)
{
    HW_AUTO_FREE char *application = hw_sprintf("headwater-reconciler: %s", config->what);
    HW_AUTO_FREE char *filter = hw_sprintf("%s>", config->prefix);
    struct rec_intake *intake = hw_alloc(sizeof(*intake));
    const struct hw_db_events pg_events = {
        .up = on_pg_up, .down = on_pg_down, .writes = on_pg_writes, .arg = intake};
    const struct hw_kv_watch_events watch_events = {.starting = on_starting,
                                                    .entry = on_entry,
                                                    .caught_up = on_caught_up,
                                                    .arg = intake,
                                                    .of = config->what};
    enum hw_status status;

    intake->config = *config;
    TAILQ_INIT(&intake->ready);
    TAILQ_INIT(&intake->paced);
    TAILQ_INIT(&intake->aside);
    intake->batch = hw_alloc(config->batch_most * sizeof(struct node *));
    status = hw_db_open(config->loop, config->database, application, &pg_events, &intake->pg, err);
    if (status == HW_OK)
        status = hw_kv_watch_start(config->nats, config->bucket, filter, HW_DELIVER_LAST,
                                   &watch_events, &intake->watch, err);
    if (status != HW_OK) {
        rec_intake_stop(intake);
        return status;
    }
    *out = intake;
    return HW_OK;
}

void rec_intake_stop(struct rec_intake *intake)
{
    struct node *node;
    size_t at = 0;

    if (intake == NULL)
        return;
    hw_kv_watch_stop(intake->watch);
    hw_db_close(intake->pg);
    hw_timer_stop(&intake->retry);
    hw_timer_stop(&intake->release);
    hw_timer_stop(&intake->retry_aside);
    while ((node = hw_map_next(&intake->nodes, &at)) != NULL) {
        while (node->first != NULL)
            drop(intake, take_first(node));
        drop(intake, node->writing);
        free(node->name);
        free(node);
    }
    hw_map_clear(&intake->nodes);
    free(intake->batch);
    free(intake);
}
