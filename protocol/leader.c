#include "protocol/leader.h"

#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/number.h"
#include "base/utf8.h"

/* ---- writing ---- */

static json_t *text_json(const char *text)
{
    return *text != '\0' ? json_string(text) : json_null();
}

static json_t *database_json(const struct hw_leader_database *d)
{
    /* A system identifier has 64 bits, and most readers of JSON numbers keep 53. */
    HW_AUTO_FREE char *system_id = hw_sprintf("%" PRIu64, d->system_id);

    return json_pack("{s:o, s:s, s:I, s:o, s:o, s:b, s:b}", "name", text_json(d->name), "system_id",
                     system_id, "timeline", (json_int_t)d->timeline, "address",
                     text_json(d->address), "started_at", text_json(d->started_at), "connected",
                     d->connected, "writable", d->writable);
}

json_t *hw_leader_json(const struct hw_leader *l)
{
    return json_pack("{s:s, s:o, s:s, s:s, s:o, s:I, s:o, s:o}", "instance", l->instance, "host",
                     text_json(l->host), "bucket", l->bucket, "slot", l->slot, "database",
                     database_json(&l->database), "rev", (json_int_t)l->rev, "nonce",
                     text_json(l->nonce), "yielded", text_json(l->yielded));
}

/* ---- reading ---- */

/* A text that is missing, or of another type, is empty. */
static void take_text(const json_t *object, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));

    hw_utf8_copy(out, size, text != NULL ? text : "");
}

static enum hw_status take_database(const json_t *object, struct hw_leader_database *d,
                                    struct hw_error *err)
{
    const char *system_id = json_string_value(json_object_get(object, "system_id"));

    if (system_id == NULL || !hw_number_parse(system_id, &d->system_id))
        return hw_fail(err, HW_EPROTO, "the leader's answer names no database");
    d->timeline = (uint32_t)json_integer_value(json_object_get(object, "timeline"));
    take_text(object, "name", d->name, sizeof(d->name));
    take_text(object, "started_at", d->started_at, sizeof(d->started_at));
    take_text(object, "address", d->address, sizeof(d->address));
    d->connected = json_is_true(json_object_get(object, "connected"));
    d->writable = json_is_true(json_object_get(object, "writable"));
    return HW_OK;
}

enum hw_status hw_leader_parse(const char *text, size_t size, struct hw_leader *leader,
                               struct hw_error *err)
{
    HW_AUTO_JSON json_t *root = NULL;
    struct hw_leader found = {0};

    if (hw_json_parse_object(text, size, &root, err) != HW_OK)
        return hw_fail_in(err, "the leader's answer");
    if (take_database(json_object_get(root, "database"), &found.database, err) != HW_OK)
        return err->status;
    take_text(root, "instance", found.instance, sizeof(found.instance));
    take_text(root, "host", found.host, sizeof(found.host));
    take_text(root, "bucket", found.bucket, sizeof(found.bucket));
    take_text(root, "slot", found.slot, sizeof(found.slot));
    take_text(root, "nonce", found.nonce, sizeof(found.nonce));
    take_text(root, "yielded", found.yielded, sizeof(found.yielded));
    found.rev = json_integer_value(json_object_get(root, "rev"));
    *leader = found;
    return HW_OK;
}

/* ---- telling databases apart ---- */

bool hw_leader_same_database(const struct hw_leader_database *a, const struct hw_leader_database *b)
{
    return a->system_id == b->system_id && strcmp(a->name, b->name) == 0 &&
           strcmp(a->started_at, b->started_at) == 0;
}

char *hw_leader_database_text(const struct hw_leader_database *d)
{
    if (*d->address == '\0')
        return hw_sprintf("the database of system %" PRIu64 ", timeline %" PRIu32, d->system_id,
                          d->timeline);
    return hw_sprintf("the database %s (system %" PRIu64 ", timeline %" PRIu32 ")", d->address,
                      d->system_id, d->timeline);
}
