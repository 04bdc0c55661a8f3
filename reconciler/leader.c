#include "reconciler/leader.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "common/clock.h"
#include "common/version.h"
#include "protocol/subjects.h"

enum {
    YIELDED_MS = 200,  /* one that has yielded answers behind the one that leads, if any does … */
    YIELDED_MOST = 16, /* … and so many questions at once */
};

struct rec_leader {
    struct rec_leader_config config;
    struct hw_leader said;   /* what it says of itself; the database as it was asked last */
    struct hw_nats_sub *sub; /* NULL: it does not lead */
    int64_t since;           /* Unix nanoseconds */
    struct hw_error failure;
    int64_t failed_at;           /* Unix nanoseconds; 0: nothing failed yet */
    char *waiting[YIELDED_MOST]; /* where to answer when the time has come */
    size_t waiting_count;
    struct hw_timer timer;
};

/* ---- the document ---- */

static json_t *time_json(int64_t unix_ns)
{
    char text[HW_CLOCK_MAX];

    return json_string(hw_clock_format(unix_ns, 3, text));
}

static json_t *lsn_json(hw_lsn lsn)
{
    return lsn != HW_LSN_NONE ? json_string(HW_LSN(lsn)) : json_null();
}

static json_t *failure_json(const struct rec_leader *leader)
{
    if (leader->failed_at == 0)
        return json_null();
    return json_pack("{s:s, s:o}", "text", leader->failure.message, "at",
                     time_json(leader->failed_at));
}

static char *answer(struct rec_leader *leader)
{
    struct rec_leading l = {0};
    struct hw_leader said;

    leader->config.describe(leader->config.arg, &l);
    (void)rec_leader_database(leader);
    said = leader->said;
    said.rev = l.stored->rev;
    snprintf(said.nonce, sizeof(said.nonce), "%s", l.stored->nonce);
    HW_AUTO_JSON json_t *document = json_pack(
        "{s:s, s:I, s:o, s:s, s:I, s:o, s:o, s:f, s:I, s:I, s:I, s:b, s:o}", "version", HW_VERSION,
        "pid", (json_int_t)getpid(), "leading_since", time_json(leader->since), "state",
        *said.yielded != '\0' ? "yielded" : l.state, "epoch", (json_int_t)l.epoch, "received_lsn",
        lsn_json(l.received), "stored_lsn", lsn_json(l.stored->fence.lsn), "lag_seconds",
        l.lag_seconds, "pending", (json_int_t)l.pending, "nodes", (json_int_t)l.nodes, "objects",
        (json_int_t)l.objects, "keeps_archive", l.keeps_archive, "last_error",
        failure_json(leader));
    json_object_update_new(document, hw_leader_json(&said));
    return hw_json_dump(document);
}

/* ---- answering ---- */

/*
 * The server publishes a reply with our rights, to whatever subject the question named: that could
 * be a key of ours. So only subjects that can be nothing but an inbox are answered, of this account
 * or of another one.
 */
static bool is_inbox(const char *subject)
{
    static const char own[] = "_INBOX", foreign[] = "_R_.";

    return subject != NULL && (strncmp(subject, own, strlen(own)) == 0 ||
                               strncmp(subject, foreign, strlen(foreign)) == 0);
}

static void reply(struct rec_leader *leader, const char *subject)
{
    HW_AUTO_FREE char *text = NULL;

    if (!hw_nats_up(leader->config.nats))
        return;
    text = answer(leader);
    /* Whoever asked, and hears nothing, asks again. */
    (void)natsConnection_Publish(hw_nats_connection(leader->config.nats), subject, text,
                                 (int)strlen(text));
}

/* Those who still wait are answered as things stand now, or not at all. */
static void answer_waiting(void *arg)
{
    struct rec_leader *leader = arg;

    for (size_t i = 0; i < leader->waiting_count; i++) {
        if (leader->sub != NULL)
            reply(leader, leader->waiting[i]);
        free(leader->waiting[i]);
    }
    leader->waiting_count = 0;
}

static void on_question(void *arg, natsMsg *msg)
{
    struct rec_leader *leader = arg;
    const char *subject = natsMsg_GetReply(msg);

    if (!is_inbox(subject))
        return;
    if (*leader->said.yielded == '\0') {
        reply(leader, subject);
    } else if (leader->waiting_count < YIELDED_MOST) {
        if (leader->waiting_count == 0)
            hw_timer_start(hw_nats_loop(leader->config.nats), &leader->timer, YIELDED_MS,
                           answer_waiting, leader);
        leader->waiting[leader->waiting_count++] = hw_strdup(subject);
    }
}

/* ---- leading ---- */

enum hw_status rec_leader_begin(struct rec_leader *leader, struct hw_error *err)
{
    HW_AUTO_FREE char *subject = hw_subject_leader(leader->config.bucket);
    const bool led = leader->sub != NULL && *leader->said.yielded == '\0';

    if (!led)
        leader->since = hw_clock_now();
    leader->said.yielded[0] = '\0';
    if (leader->sub != NULL)
        return HW_OK;
    return hw_nats_subscribe(leader->config.nats, subject, on_question, leader, &leader->sub, err);
}

bool rec_leader_yield(struct rec_leader *leader, const char *why)
{
    if (leader->sub == NULL || *leader->said.yielded != '\0')
        return false;
    hw_utf8_copy(leader->said.yielded, sizeof(leader->said.yielded), why);
    return true;
}

void rec_leader_end(struct rec_leader *leader)
{
    hw_nats_unsubscribe(HW_TAKE(leader->sub));
    hw_timer_stop(&leader->timer);
    answer_waiting(leader);
    leader->said.yielded[0] = '\0';
}

void rec_leader_failed(struct rec_leader *leader, const struct hw_error *err)
{
    leader->failure = *err;
    leader->failed_at = hw_clock_now();
}

const char *rec_leader_instance(const struct rec_leader *leader)
{
    return leader->said.instance;
}

/* ---- the database ---- */

struct hw_db_query rec_leader_query(void)
{
    return (struct hw_db_query){
        .sql = "SELECT current_database(), to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', "
               "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"};
}

void rec_leader_take(struct rec_leader *leader, const PGresult *result)
{
    struct hw_leader_database *const database = &leader->said.database;

    if (PQntuples(result) != 1 || PQnfields(result) != 2)
        return;
    hw_utf8_copy(database->name, sizeof(database->name), PQgetvalue(result, 0, 0));
    snprintf(database->started_at, sizeof(database->started_at), "%s", PQgetvalue(result, 0, 1));
}

void rec_leader_server(struct rec_leader *leader, const struct cdc_server *server)
{
    leader->said.database.system_id = server->system_id;
    leader->said.database.timeline = server->timeline;
}

const struct hw_leader_database *rec_leader_database(struct rec_leader *leader)
{
    struct hw_leader_database *const database = &leader->said.database;
    HW_AUTO_FREE char *address = hw_db_address(leader->config.pg); /* NULL while it is away */

    if (address != NULL)
        hw_utf8_copy(database->address, sizeof(database->address), address);
    database->connected = hw_db_up(leader->config.pg);
    database->writable = database->connected && hw_db_refuses_writes(leader->config.pg) == NULL;
    return database;
}

/* ---- life ---- */

/* The kernel's own chance is renewed in a copy of a virtual machine; that of the C library is
 * copied with the memory. */
static void draw_instance(char *out, size_t size)
{
    uint64_t drawn;

    if (getrandom(&drawn, sizeof(drawn), 0) != (ssize_t)sizeof(drawn))
        arc4random_buf(&drawn, sizeof(drawn));
    snprintf(out, size, "%016" PRIx64, drawn);
}

struct rec_leader *rec_leader_new(const struct rec_leader_config *config)
{
    struct rec_leader *leader = hw_alloc(sizeof(*leader));
    struct hw_leader *const said = &leader->said;
    char host[sizeof(said->host)] = "";

    leader->config = *config;
    draw_instance(said->instance, sizeof(said->instance));
    if (gethostname(host, sizeof(host) - 1) == 0)
        hw_utf8_copy(said->host, sizeof(said->host), host);
    snprintf(said->bucket, sizeof(said->bucket), "%s", config->bucket);
    snprintf(said->slot, sizeof(said->slot), "%s", config->slot);
    return leader;
}

void rec_leader_free(struct rec_leader *leader)
{
    if (leader == NULL)
        return;
    rec_leader_end(leader);
    free(leader);
}
