#include "reconciler/compare/documents.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "nats/objstore.h"

static const char wanted_sql[] =
    "SELECT DISTINCT digest FROM headwater.desired WHERE digest = ANY ($1::text[])";

static enum hw_status check_object(struct rec_session *session, struct rec_snapshot_object *object,
                                   struct hw_error *err)
{
    const char *name = object->digest + strlen("sha256:");
    char text[HW_DIGEST_STR_MAX];
    unsigned char *data = NULL;
    struct hw_digest digest;
    struct hw_error why;
    size_t size = 0;
    const enum hw_status status = hw_obj_get(session->nats, session->config->bucket, name,
                                             (size_t)object->size, &data, &size, &digest, &why);

    free(data);
    switch (status) {
    case HW_OK:
        hw_digest_format(&digest, text);
        if (strcmp(text, object->digest) != 0 || size != (size_t)object->size)
            object->says = hw_sprintf("%s, %zu bytes", text, size);
        return HW_OK;
    case HW_ENOENT:
    case HW_ECORRUPT:
    case HW_ELIMIT:
        object->says = hw_strdup(why.message);
        return HW_OK;
    default:
        return hw_fail(err, status, "%s", why.message);
    }
}

/* Which of these digests does a node still need? An object that nobody needs any more may be gone.
 */
static enum hw_status look_up_wanted(struct rec_snapshot *snapshot, struct rec_session *session,
                                     const char *digests, struct hw_error *err)
{
    PGresult *result = NULL;
    const enum hw_status status = rec_session_ask(session, wanted_sql, 1, &digests, &result, err);

    if (status != HW_OK)
        return status;
    for (int i = 0; i < PQntuples(result); i++) {
        struct rec_snapshot_object *object =
            hw_map_get(&snapshot->objects, PQgetvalue(result, i, 0));

        if (object != NULL)
            object->wanted = true;
    }
    PQclear(result);
    return HW_OK;
}

static enum hw_status read_all(struct rec_snapshot *snapshot, struct rec_session *session,
                               struct hw_error *err)
{
    int64_t last_turn = hw_loop_now();
    enum hw_status status = HW_OK;
    struct rec_snapshot_object *object;
    size_t at = 0, done = 0;

    while (status == HW_OK && (object = hw_map_next(&snapshot->objects, &at)) != NULL) {
        status = check_object(session, object, err);
        rec_session_sign(session, "objects", ++done, snapshot->objects.count);
        if (status == HW_OK && hw_loop_now() - last_turn >= REC_SESSION_POLL_MS) {
            status = rec_session_sleep(session, 1, err);
            last_turn = hw_loop_now();
        }
    }
    return status;
}

static enum hw_status look_up_all_wanted(struct rec_snapshot *snapshot, struct rec_session *session,
                                         struct hw_error *err)
{
    enum hw_status status = HW_OK;
    struct hw_buf digests = {0};
    const struct rec_snapshot_object *object;
    size_t at = 0, count = 0;

    do {
        object = hw_map_next(&snapshot->objects, &at);
        if (object != NULL && object->says != NULL) {
            rec_snapshot_add_name(&digests, object->digest);
            count++;
        }
        if (count == REC_SESSION_BATCH || (object == NULL && count > 0)) {
            hw_buf_putc(&digests, '}');
            status = look_up_wanted(snapshot, session, hw_buf_str(&digests), err);
            hw_buf_reset(&digests);
            count = 0;
        }
    } while (object != NULL && status == HW_OK);
    hw_buf_free(&digests);
    return status;
}

enum hw_status rec_documents_check(struct rec_snapshot *snapshot, struct rec_session *session,
                                   struct rec_differences *differences, struct hw_error *err)
{
    const struct rec_snapshot_object *object;
    enum hw_status status = read_all(snapshot, session, err);
    size_t at = 0;

    if (status == HW_OK)
        status = look_up_all_wanted(snapshot, session, err);
    while (status == HW_OK && (object = hw_map_next(&snapshot->objects, &at)) != NULL) {
        HW_AUTO_FREE char *sql = hw_sprintf("%" PRId64 " bytes", object->size);

        if (object->says != NULL && object->wanted)
            rec_differences_add(differences, session, "object", object->node,
                                object->digest + strlen("sha256:"), sql, object->says);
    }
    return status;
}
