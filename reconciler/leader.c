#include "reconciler/leader.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "common/clock.h"
#include "common/version.h"
#include "protocol/subjects.h"

struct rec_leader {
    struct rec_leader_config config;
    struct hw_nats_sub *sub; /* NULL: it does not lead */
    int64_t since;           /* Unix nanoseconds */
    struct hw_error failure;
    int64_t failed_at; /* Unix nanoseconds; 0: nothing failed yet */
    /* of the database, as it was when it was asked last; "" or NULL: it was not yet */
    char name[64], started_at[HW_CLOCK_MAX];
    bool asked, is_writable;
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

static json_t *text_json(const char *text)
{
    return text != NULL && *text != '\0' ? json_string(text) : json_null();
}

static json_t *database_json(const struct rec_leader *leader, const struct rec_leading *leading)
{
    const bool connected = hw_db_up(leader->config.pg);
    HW_AUTO_FREE char *address = hw_db_address(leader->config.pg);
    HW_AUTO_FREE char *system_id = hw_sprintf("%" PRIu64, leading->system_id);
    json_t *writable =
        connected && !leader->asked ? json_null() : json_boolean(connected && leader->is_writable);

    return json_pack("{s:o, s:s, s:I, s:o, s:o, s:b, s:o}", "name", text_json(leader->name),
                     "system_id", system_id, "timeline", (json_int_t)leading->timeline, "address",
                     text_json(address), "started_at", text_json(leader->started_at), "connected",
                     connected, "writable", writable);
}

static json_t *failure_json(const struct rec_leader *leader)
{
    if (leader->failed_at == 0)
        return json_null();
    return json_pack("{s:s, s:o}", "text", leader->failure.message, "at",
                     time_json(leader->failed_at));
}

static char *answer(const struct rec_leader *leader)
{
    struct rec_leading l = {0};
    char host[256] = "";

    leader->config.describe(leader->config.arg, &l);
    if (gethostname(host, sizeof(host) - 1) != 0)
        host[0] = '\0';
    HW_AUTO_JSON json_t *document = json_pack(
        "{s:s, s:o, s:I, s:o, s:s, s:s, s:o, s:s, s:I, s:I, s:o}", "version", HW_VERSION, "host",
        text_json(host), "pid", (json_int_t)getpid(), "leading_since", time_json(leader->since),
        "bucket", leader->config.bucket, "slot", leader->config.slot, "database",
        database_json(leader, &l), "state", l.state, "epoch", (json_int_t)l.epoch, "rev",
        (json_int_t)l.stored->rev, "nonce", text_json(l.stored->nonce));
    json_object_set_new(document, "received_lsn", lsn_json(l.received));
    json_object_set_new(document, "stored_lsn", lsn_json(l.stored->fence.lsn));
    json_object_set_new(document, "lag_seconds", json_real(l.lag_seconds));
    json_object_set_new(document, "pending", json_integer((json_int_t)l.pending));
    json_object_set_new(document, "nodes", json_integer((json_int_t)l.nodes));
    json_object_set_new(document, "objects", json_integer((json_int_t)l.objects));
    json_object_set_new(document, "keeps_archive", json_boolean(l.keeps_archive));
    json_object_set_new(document, "last_error", failure_json(leader));
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

static void on_question(void *arg, natsMsg *msg)
{
    const struct rec_leader *leader = arg;
    const char *reply = natsMsg_GetReply(msg);

    if (!is_inbox(reply) || !hw_nats_up(leader->config.nats))
        return;
    HW_AUTO_FREE char *text = answer(leader);
    /* Whoever asked, and hears nothing, asks again. */
    (void)natsConnection_Publish(hw_nats_connection(leader->config.nats), reply, text,
                                 (int)strlen(text));
}

enum hw_status rec_leader_begin(struct rec_leader *leader, struct hw_error *err)
{
    HW_AUTO_FREE char *subject = hw_subject_leader(leader->config.bucket);

    leader->since = hw_clock_now();
    return hw_nats_subscribe(leader->config.nats, subject, on_question, leader, &leader->sub, err);
}

void rec_leader_end(struct rec_leader *leader)
{
    hw_nats_unsubscribe(HW_TAKE(leader->sub));
    leader->asked = false;
    leader->name[0] = leader->started_at[0] = '\0'; /* the next one may be another server */
}

void rec_leader_failed(struct rec_leader *leader, const struct hw_error *err)
{
    leader->failure = *err;
    leader->failed_at = hw_clock_now();
}

/* ---- the database ---- */

struct hw_db_query rec_leader_query(void)
{
    return (struct hw_db_query){
        .sql = "SELECT current_database(), to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', "
               "'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), "
               "NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"};
}

void rec_leader_take(struct rec_leader *leader, const PGresult *result)
{
    if (PQntuples(result) != 1 || PQnfields(result) != 3)
        return;
    snprintf(leader->name, sizeof(leader->name), "%s", PQgetvalue(result, 0, 0));
    snprintf(leader->started_at, sizeof(leader->started_at), "%s", PQgetvalue(result, 0, 1));
    leader->is_writable = *PQgetvalue(result, 0, 2) == 't';
    leader->asked = true;
}

/* ---- life ---- */

struct rec_leader *rec_leader_new(const struct rec_leader_config *config)
{
    struct rec_leader *leader = hw_alloc(sizeof(*leader));

    leader->config = *config;
    return leader;
}

void rec_leader_free(struct rec_leader *leader)
{
    if (leader == NULL)
        return;
    rec_leader_end(leader);
    free(leader);
}
