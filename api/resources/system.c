/*
 * /v1/system: one look at all parts, and what is wrong with them. Databases and NATS are asked at
 * the same time. Each question stands alone: what cannot be answered, for want of a schema or of a
 * privilege, is null, and the rest is there.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/diagnosis.h"
#include "api/handlers.h"
#include "api/migrate.h"
#include "api/nats.h"
#include "api/refusal.h"
#include "api/resources/fleet.h"
#include "api/row.h"
#include "base/memory.h"
#include "common/clock.h"
#include "common/version.h"
#include "http/answer.h"
#include "http/server.h"
#include "pg/pool.h"

enum { SERVER, SYSTEM_ID, SCHEMA, SLOTS, LAG, RECONCILERS, CHANGELOG, FLEET, QUESTIONS };

#define LOG_END                                                                                    \
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "                                 \
    "ELSE pg_current_wal_insert_lsn() END"

static const char *const questions[QUESTIONS] = {
    [SERVER] = "SELECT current_setting('server_version') AS server_version, "
               "current_database() AS name, pg_postmaster_start_time() AS started_at, "
               "pg_is_in_recovery() AS in_recovery, current_setting('wal_level') AS wal_level, "
               "" LOG_END " AS wal_lsn",
    [SYSTEM_ID] = "SELECT system_identifier AS system_id FROM pg_control_system()",
    [SCHEMA] = "SELECT max(version) AS actual FROM headwater.migration",
    /* $1: the slot. Archive slots are named after theirs (cdc/archive.h). */
    [SLOTS] = "SELECT w.name, s.slot_name IS NOT NULL AS \"exists\", s.active, "
              "s.database = current_database() AS of_this_database, s.restart_lsn, "
              "s.confirmed_flush_lsn AS confirmed_lsn, "
              "pg_wal_lsn_diff(" LOG_END ", s.confirmed_flush_lsn)::bigint AS lag_bytes, "
              "pg_wal_lsn_diff(" LOG_END ", s.restart_lsn)::bigint AS retained_bytes, "
              "s.wal_status, s.safe_wal_size AS safe_wal_bytes, "
              "s.confirmed_flush_lsn > first_value(s.confirmed_flush_lsn) OVER (ORDER BY w.place) "
              "AS ahead "
              "FROM (VALUES (1, $1::text), (2, $1::text || '_archive')) AS w (place, name) "
              "LEFT JOIN pg_replication_slots AS s ON s.slot_name = w.name ORDER BY w.place",
    /* The time since the oldest change that is not confirmed. Only the newest changes are looked
     * at, so that the search stays short. */
    [LAG] = "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(h.changed_at) "
            "FILTER (WHERE h.wal_lsn > s.confirmed_flush_lsn)), 0) AS lag_seconds "
            "FROM pg_replication_slots AS s LEFT JOIN (SELECT d.wal_lsn, d.changed_at "
            "FROM headwater.desired_history AS d, headwater.log_begin() AS log "
            "WHERE d.rev >= log.rev ORDER BY d.id DESC LIMIT 1000) AS h ON true "
            "WHERE s.slot_name = $1::text GROUP BY s.slot_name",
    [RECONCILERS] = "SELECT * FROM headwater.reconcilers() LIMIT 100",
    [CHANGELOG] = "SELECT rev, at FROM headwater.changelog ORDER BY rev DESC LIMIT 1",
    [FLEET] = "SELECT state, count(*) AS count, extract(epoch FROM max(lag) "
              "FILTER (WHERE held IS NULL)) AS lag FROM headwater.fleet GROUP BY state",
};

static const struct api_column server_columns[] = {
    {.name = "server_version", .type = API_COLUMN_STRING},
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "started_at", .type = API_COLUMN_TIME},
    {.name = "in_recovery", .type = API_COLUMN_BOOLEAN},
    {.name = "wal_level", .type = API_COLUMN_STRING},
    {.name = "wal_lsn", .type = API_COLUMN_STRING},
    {.name = NULL},
};

static const struct api_column slot_columns[] = {
    {.name = "name", .type = API_COLUMN_STRING},
    {.name = "exists", .type = API_COLUMN_BOOLEAN},
    {.name = "active", .type = API_COLUMN_BOOLEAN},
    {.name = "of_this_database", .type = API_COLUMN_BOOLEAN},
    {.name = "restart_lsn", .type = API_COLUMN_STRING},
    {.name = "confirmed_lsn", .type = API_COLUMN_STRING},
    {.name = "lag_bytes", .type = API_COLUMN_INTEGER},
    {.name = "retained_bytes", .type = API_COLUMN_INTEGER},
    {.name = "wal_status", .type = API_COLUMN_STRING},
    {.name = "safe_wal_bytes", .type = API_COLUMN_INTEGER},
    {.name = NULL},
};

static const struct api_column session_columns[] = {
    {.name = "pid", .type = API_COLUMN_INTEGER},
    {.name = "application", .type = API_COLUMN_STRING},
    {.name = "role", .type = API_COLUMN_STRING},
    {.name = "address", .type = API_COLUMN_STRING},
    {.name = "connected_at", .type = API_COLUMN_TIME},
    {.name = "slot", .type = API_COLUMN_STRING},
    {.name = "state", .type = API_COLUMN_STRING},
    {.name = NULL},
};

static const struct api_column changelog_columns[] = {
    {.name = "rev", .type = API_COLUMN_INTEGER},
    {.name = "at", .type = API_COLUMN_TIME},
    {.name = NULL},
};

struct look {
    struct http_request *request;
    struct hw_pool_job job;
    struct hw_db_query queries[QUESTIONS];
    const char *values[1];
    bool has_sql, has_nats;
    json_t *document;
};

/* ---- what SQL says ---- */

/* All members of these columns, null each. */
static json_t *unknown(const struct api_column *columns)
{
    json_t *object = json_object();

    for (const struct api_column *c = columns; c->name != NULL; c++)
        json_object_set_new(object, c->name, json_null());
    return object;
}

/* NULL for a statement that failed. */
static const PGresult *answer_to(const struct hw_db_outcome *outcome, int question)
{
    const PGresult *result =
        outcome != NULL && outcome->results != NULL ? outcome->results[question] : NULL;

    return PQresultStatus(result) == PGRES_TUPLES_OK ? result : NULL;
}

static json_t *row_or_unknown(const PGresult *result, int row, const struct api_column *columns)
{
    return result != NULL && row < PQntuples(result) ? api_row_object(result, row, columns)
                                                     : unknown(columns);
}

static json_t *value_or_null(const PGresult *result, const char *name, enum api_column_type type)
{
    return result != NULL && PQntuples(result) > 0 ? api_row_value(result, 0, name, type)
                                                   : json_null();
}

/* A signed number in SQL, of which all 64 bits count. */
static json_t *system_id_json(const PGresult *result)
{
    const char *text = result != NULL ? api_row_text(result, 0, "system_id") : NULL;

    return text != NULL ? json_sprintf("%" PRIu64, (uint64_t)strtoll(text, NULL, 10)) : json_null();
}

/* 0 when there is no schema at all. */
static json_t *schema_json(const struct hw_db_outcome *outcome)
{
    const PGresult *failed =
        outcome != NULL && outcome->results != NULL ? outcome->results[SCHEMA] : NULL;
    const char *sqlstate = PQresultErrorField(failed, PG_DIAG_SQLSTATE);

    if (sqlstate != NULL && strcmp(sqlstate, "42P01") == 0)
        return json_integer(0);
    return value_or_null(answer_to(outcome, SCHEMA), "actual", API_COLUMN_INTEGER);
}

static json_t *database_json(const struct hw_db_outcome *outcome, const char *trouble)
{
    json_t *database = row_or_unknown(answer_to(outcome, SERVER), 0, server_columns);
    json_t *text = trouble != NULL ? json_string(trouble) : NULL; /* NULL too: it is not UTF-8 */

    json_object_set_new(database, "reachable", json_boolean(trouble == NULL));
    json_object_set_new(database, "error", text != NULL ? text : json_null());
    json_object_set_new(database, "system_id", system_id_json(answer_to(outcome, SYSTEM_ID)));
    json_object_set_new(
        database, "schema",
        json_pack("{s:i, s:o}", "wanted", api_migrate_version(), "actual", schema_json(outcome)));
    return database;
}

/* The session that streams from a slot; NULL when it is not known. Borrowed. */
static json_t *holder_of(const json_t *sessions, const char *slot)
{
    const char *held;
    json_t *session;
    size_t i;

    json_array_foreach(sessions, i, session) {
        held = json_string_value(json_object_get(session, "slot"));
        if (held != NULL && strcmp(held, slot) == 0)
            return session;
    }
    return NULL;
}

static json_t *slot_json(const struct look *look, const struct hw_db_outcome *outcome, bool archive)
{
    const PGresult *slots = answer_to(outcome, SLOTS);
    json_t *slot = row_or_unknown(slots, archive, slot_columns);

    json_object_set_new(
        slot, "name", json_sprintf("%s%s", api_of(look->request)->slot, archive ? "_archive" : ""));
    if (archive)
        json_object_set_new(slot, "ahead",
                            slots != NULL ? api_row_value(slots, 1, "ahead", API_COLUMN_BOOLEAN)
                                          : json_null());
    else
        json_object_set_new(
            slot, "lag_seconds",
            value_or_null(answer_to(outcome, LAG), "lag_seconds", API_COLUMN_NUMBER));
    return slot;
}

static json_t *sessions_json(const struct hw_db_outcome *outcome)
{
    const PGresult *rows = answer_to(outcome, RECONCILERS);
    json_t *sessions;

    if (rows == NULL)
        return json_null();
    sessions = json_array();
    for (int i = 0; i < PQntuples(rows); i++)
        json_array_append_new(sessions, api_row_object(rows, i, session_columns));
    return sessions;
}

/* Each process has one session that holds no slot; the leader's is one of them. */
static json_t *reconcilers_json(json_t *sessions, const char *slot)
{
    json_int_t connected = 0;
    json_t *session;
    size_t i;

    if (json_is_null(sessions))
        return json_pack("{s:n, s:n, s:o}", "connected", "standing_by", "sessions", sessions);
    json_array_foreach(sessions, i, session) {
        connected += json_is_null(json_object_get(session, "slot"));
    }
    const bool led = holder_of(sessions, slot) != NULL;
    return json_pack("{s:I, s:I, s:o}", "connected", connected, "standing_by",
                     led && connected > 0 ? connected - 1 : 0, "sessions", sessions);
}

static json_t *fleet_json(const PGresult *rows)
{
    json_t *counts, *count;
    const char *state;
    json_int_t nodes = 0;
    double lag = 0;

    if (rows == NULL)
        return json_null();
    counts = api_fleet_counts(rows);
    json_object_foreach(counts, state, count) {
        nodes += json_integer_value(count);
    }
    for (int i = 0; i < PQntuples(rows); i++) {
        const char *text = api_row_text(rows, i, "lag");

        if (text != NULL && strtod(text, NULL) > lag)
            lag = strtod(text, NULL);
    }
    return json_pack("{s:I, s:o, s:f}", "nodes", nodes, "counts", counts, "worst_lag_seconds", lag);
}

/* outcome, or trouble, is NULL. */
static void take_sql(struct look *look, const struct hw_db_outcome *outcome, const char *trouble)
{
    json_t *sessions = sessions_json(outcome);
    json_t *slot = slot_json(look, outcome, false);
    const PGresult *changelog = answer_to(outcome, CHANGELOG);
    const char *name = api_of(look->request)->slot;
    json_t *holder = holder_of(sessions, name);

    json_object_set(slot, "holder", holder != NULL ? holder : json_null());
    json_object_set_new(look->document, "database", database_json(outcome, trouble));
    json_object_set_new(look->document, "changelog",
                        changelog != NULL && PQntuples(changelog) > 0
                            ? api_row_object(changelog, 0, changelog_columns)
                            : json_null());
    json_object_set_new(
        look->document, "replication",
        json_pack("{s:o, s:o}", "slot", slot, "archive", slot_json(look, outcome, true)));
    json_object_set_new(look->document, "reconcilers", reconcilers_json(sessions, name));
    json_object_set_new(look->document, "fleet", fleet_json(answer_to(outcome, FLEET)));
    look->has_sql = true;
}

/* ---- the whole ---- */

/* Who streams from the slot leads: true, false, or null where nobody knows. */
static json_t *leads(const json_t *document)
{
    const json_t *slot = json_object_get(json_object_get(document, "replication"), "slot");
    const json_t *leader = json_object_get(document, "leader");

    if (json_is_false(json_object_get(slot, "exists")))
        return json_false();
    if (json_is_false(json_object_get(slot, "of_this_database")))
        return json_null();
    if (json_is_null(json_object_get(slot, "exists")))
        return json_is_object(json_object_get(leader, "said")) ? json_true() : json_null();
    return json_incref(json_object_get(slot, "active"));
}

static void answer(struct look *look)
{
    struct http_request *request = look->request;
    json_t *document = look->document, *problems;

    if (!look->has_sql || !look->has_nats)
        return;
    json_object_set_new(json_object_get(document, "leader"), "leads", leads(document));
    problems = api_diagnosis(document);
    json_object_set_new(document, "healthy", json_boolean(json_array_size(problems) == 0));
    json_object_set_new(document, "problems", problems);
    http_answer_json(request, HTTP_OK, document);
    free(look);
}

static void on_nats(void *arg, json_t *nats, json_t *leader)
{
    struct look *look = arg;

    json_object_set(look->document, "nats", nats);
    json_object_set_new(look->document, "leader", json_copy(leader)); /* others are told the same */
    look->has_nats = true;
    answer(look);
}

static void on_sql(void *arg, const struct hw_db_outcome *outcome)
{
    struct look *look = arg;
    /* A question that failed alone is left unanswered; without a connection nothing is known. */
    const bool is_lost = outcome->status == HW_EUNAVAIL || outcome->status == HW_ETIMEOUT ||
                         outcome->status == HW_ESTOPPED || outcome->status == HW_ELIMIT;

    if (is_lost && answer_to(outcome, SERVER) == NULL)
        take_sql(look, NULL, outcome->err.message);
    else
        take_sql(look, outcome, NULL);
    answer(look);
}

static json_t *api_json(const struct api *api)
{
    char started_at[HW_CLOCK_MAX];

    return json_pack("{s:s, s:s, s:s}", "version", HW_VERSION, "address",
                     http_server_name(api->server), "started_at",
                     hw_clock_format(api->started_at, 3, started_at));
}

void api_system_get(struct http_request *request)
{
    struct api *api = api_of(request);
    struct look *look = hw_alloc(sizeof(*look));
    struct hw_error err;

    look->request = request;
    look->document = json_object();
    json_object_set_new(look->document, "api", api_json(api));
    look->values[0] = api->slot;
    for (int i = 0; i < QUESTIONS; i++)
        look->queries[i] = (struct hw_db_query){
            .sql = questions[i], .count = i == SLOTS || i == LAG, .values = look->values};
    look->job = (struct hw_pool_job){.lane = HW_POOL_READS,
                                     .mode = HW_DB_SEPARATE,
                                     .queries = look->queries,
                                     .count = QUESTIONS,
                                     .done = on_sql,
                                     .arg = look};
    if (hw_pool_submit(api->pool, &look->job, &err) != HW_OK)
        take_sql(look, NULL, err.message);
    api_nats_ask(api->nats, on_nats, look);
}
