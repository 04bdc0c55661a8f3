#include "reconciler/compare/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "reconciler/publish/content.h"
#include "reconciler/publish/sink.h"

static const char begin_sql[] = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/* The control file's timeline lags behind a promotion; the name of a WAL file does not. */
static const char moment_sql[] =
    "SELECT (SELECT max(rev) FROM headwater.changelog),"
    " (SELECT system_identifier FROM pg_control_system()),"
    " CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())"
    " ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,"
    " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
    " ELSE pg_current_wal_insert_lsn() END";
static const char cursor_sql[] = "DECLARE node_rows NO SCROLL CURSOR FOR " REC_SINK_ROWS;
static const char page_sql[] = "FETCH 1000 FROM node_rows";
static const char commit_sql[] = "COMMIT";

struct rec_snapshot_key *rec_snapshot_add(struct rec_snapshot *snapshot, const char *key)
{
    const size_t size = strlen(key) + 1;
    struct rec_snapshot_key *added = hw_alloc(sizeof(*added) + size);

    memcpy(added->key, key, size);
    added->decided = hw_decided_node(key) != NULL;
    added->name = added->decided ? hw_decided_node(added->key) : hw_desired_node(added->key);
    hw_map_add(&snapshot->keys, added->key, added);
    return added;
}

static void add_desired(struct rec_snapshot *snapshot, const struct hw_desired *row)
{
    HW_AUTO_FREE char *key = hw_sprintf(HW_KEY_DESIRED "%s", row->node);
    struct rec_snapshot_key *added = rec_snapshot_add(snapshot, key);
    struct rec_snapshot_object *object = hw_map_get(&snapshot->objects, row->digest);

    if (object == NULL) {
        object = hw_alloc(sizeof(*object));
        object->size = row->size;
        object->node = added->name;
        snprintf(object->digest, sizeof(object->digest), "%s", row->digest);
        hw_map_add(&snapshot->objects, object->digest, object);
    }
    rec_content_of_desired(row, &added->wanted);
    added->has_row = true;
    added->revision = row->revision;
    added->object = object;
    snapshot->desired++;
}

static void add_decided(struct rec_snapshot *snapshot, const struct hw_decided *row)
{
    HW_AUTO_FREE char *key = hw_sprintf(HW_KEY_DECIDED "%s", row->node);

    struct rec_snapshot_key *added = rec_snapshot_add(snapshot, key);

    rec_content_of_decided(row, &added->wanted);
    added->has_row = true;
}

static enum hw_status read_page(struct rec_snapshot *snapshot, struct rec_session *session,
                                bool *last, struct hw_error *err)
{
    PGresult *page = NULL;
    enum hw_status status = rec_session_ask(session, page_sql, 0, NULL, &page, err);

    if (status != HW_OK)
        return status;
    *last = PQntuples(page) == 0;
    for (int i = 0; i < PQntuples(page) && status == HW_OK; i++) {
        struct hw_desired desired;
        struct hw_decided decided;

        if (rec_sink_is_decided(page, i)) {
            status = rec_decided_from_result(page, i, &decided, err);
            if (status == HW_OK)
                add_decided(snapshot, &decided);
        } else {
            status = rec_desired_from_result(page, i, &desired, err);
            if (status == HW_OK)
                add_desired(snapshot, &desired);
        }
    }
    PQclear(page);
    rec_session_sign(session, "rows", snapshot->desired, 0);
    return status;
}

enum hw_status rec_snapshot_read(struct rec_snapshot *snapshot, struct rec_session *session,
                                 struct hw_error *err)
{
    PGresult *moment = NULL;
    bool last = false;
    enum hw_status status = rec_session_ask(session, begin_sql, 0, NULL, NULL, err);

    if (status == HW_OK)
        status = rec_session_ask(session, moment_sql, 0, NULL, &moment, err);
    if (status != HW_OK)
        return status;
    snapshot->rev = strtoll(PQgetvalue(moment, 0, 0), NULL, 10);
    /* A signed number in SQL. */
    snapshot->system_id = (uint64_t)strtoll(PQgetvalue(moment, 0, 1), NULL, 10);
    snapshot->timeline = (uint32_t)strtoul(PQgetvalue(moment, 0, 2), NULL, 10);
    status = hw_lsn_parse(PQgetvalue(moment, 0, 3), &snapshot->lsn, err);
    PQclear(moment);
    if (status == HW_OK)
        status = rec_session_ask(session, cursor_sql, 0, NULL, NULL, err);
    while (status == HW_OK && !last)
        status = read_page(snapshot, session, &last, err);
    return status == HW_OK ? rec_session_ask(session, commit_sql, 0, NULL, NULL, err) : status;
}

void rec_snapshot_add_name(struct hw_buf *array, const char *name)
{
    hw_buf_puts(array, array->len == 0 ? "{\"" : ",\"");
    hw_buf_puts(array, name);
    hw_buf_putc(array, '"');
}

void rec_snapshot_clear(struct rec_snapshot *snapshot)
{
    struct rec_snapshot_object *object;
    struct rec_snapshot_key *key;
    size_t at = 0;

    while ((key = hw_map_next(&snapshot->keys, &at)) != NULL) {
        free(key->says);
        free(key);
    }
    at = 0;
    while ((object = hw_map_next(&snapshot->objects, &at)) != NULL) {
        free(object->says);
        free(object);
    }
    hw_map_clear(&snapshot->keys);
    hw_map_clear(&snapshot->objects);
}
