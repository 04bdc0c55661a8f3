#include "reconciler/compare/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "reconciler/compare/differences.h"
#include "reconciler/compare/documents.h"
#include "reconciler/compare/keys.h"
#include "reconciler/compare/session.h"
#include "reconciler/compare/snapshot.h"
#include "reconciler/publish/checkpoint.h"

static const char nonce_sql[] =
    "SELECT nonce::text FROM headwater.changelog WHERE rev = $1::bigint";

struct verify {
    struct rec_session session;
    struct rec_snapshot snapshot;
    struct rec_differences differences;
    bool has_checkpoint;
    struct rec_checkpoint checkpoint;
};

/* ---- the checkpoint ---- */

struct finding {
    bool good;
    char sql[100], nats[HW_ERROR_MAX];
};

static enum hw_status check_nonce(struct verify *v, struct finding *f, struct hw_error *err)
{
    const struct rec_checkpoint *c = &v->checkpoint;
    HW_AUTO_FREE char *rev = hw_sprintf("%" PRId64, c->rev);
    PGresult *result = NULL;
    enum hw_status status =
        rec_session_ask(&v->session, nonce_sql, 1, (const char *[]){rev}, &result, err);

    if (status != HW_OK)
        return status;
    const char *nonce = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
    if (strcmp(nonce, c->nonce) != 0) {
        f->good = false;
        snprintf(f->sql, sizeof(f->sql), *nonce != '\0' ? "change %s is %s" : "no change %s", rev,
                 nonce);
        snprintf(f->nats, sizeof(f->nats), "change %s is %s: of another history of the database",
                 rev, c->nonce);
    }
    PQclear(result);
    return HW_OK;
}

static enum hw_status look_at_checkpoint(struct verify *v, struct finding *f, struct hw_error *err)
{
    struct rec_checkpoint *c = &v->checkpoint;
    const enum hw_status status =
        rec_checkpoint_read(v->session.nats, v->session.config->bucket, c, err);

    *f = (struct finding){.good = false};
    v->has_checkpoint = status == HW_OK;
    if (status == HW_ENOENT || status == HW_ECORRUPT) {
        snprintf(f->sql, sizeof(f->sql), "change %" PRId64, v->snapshot.rev);
        snprintf(f->nats, sizeof(f->nats), "%s",
                 status == HW_ECORRUPT ? err->message
                 : c->seq > 0          ? "the checkpoint was deleted"
                                       : "there is no checkpoint");
        return HW_OK;
    }
    if (status != HW_OK)
        return status;
    if (c->system_id != v->snapshot.system_id) {
        snprintf(f->sql, sizeof(f->sql), "system %" PRIu64, v->snapshot.system_id);
        snprintf(f->nats, sizeof(f->nats), "system %" PRIu64 ": of another database", c->system_id);
        return HW_OK;
    }
    if (c->timeline != v->snapshot.timeline) {
        snprintf(f->sql, sizeof(f->sql), "timeline %" PRIu32, v->snapshot.timeline);
        snprintf(f->nats, sizeof(f->nats), "timeline %" PRIu32, c->timeline);
        return HW_OK;
    }
    f->good = c->rev >= v->snapshot.rev;
    if (!f->good) {
        snprintf(f->sql, sizeof(f->sql), "change %" PRId64, v->snapshot.rev);
        snprintf(f->nats, sizeof(f->nats),
                 "change %" PRId64 ": the reconciler is %" PRId64 " behind", c->rev,
                 v->snapshot.rev - c->rev);
    }
    return c->rev > 0 ? check_nonce(v, f, err) : HW_OK;
}

/* Gives the reconciler time to publish everything that the snapshot saw. What NATS lacks after that
 * is a difference. */
static enum hw_status wait_for_checkpoint(struct verify *v, struct hw_error *err)
{
    const int64_t until = hw_loop_now() + v->session.config->timeout_ms;
    struct finding finding;

    for (;;) {
        enum hw_status status = look_at_checkpoint(v, &finding, err);

        if (status != HW_OK || finding.good)
            return status;
        if (hw_loop_now() >= until)
            break;
        rec_session_sign(&v->session, "waiting for the checkpoint", 0, 0);
        status = rec_session_sleep(&v->session, REC_SESSION_POLL_MS, err);
        if (status != HW_OK)
            return status;
    }
    rec_differences_add(&v->differences, &v->session, "checkpoint", NULL, NULL, finding.sql,
                        finding.nats);
    return HW_OK;
}

/* ---- the whole ---- */

static enum hw_status compare(struct verify *v, struct hw_error *err)
{
    enum hw_status status = rec_snapshot_read(&v->snapshot, &v->session, err);

    if (status == HW_OK)
        status = wait_for_checkpoint(v, err);
    if (status == HW_OK)
        status = rec_keys_compare(&v->snapshot, &v->session, err);
    if (status != HW_OK)
        return status;
    rec_keys_tell(&v->snapshot, &v->session, &v->differences);
    return rec_documents_check(&v->snapshot, &v->session, &v->differences, err);
}

static void print_json(const struct verify *v, double seconds, const struct hw_error *failure)
{
    HW_AUTO_FREE char *checkpoint =
        v->has_checkpoint ? rec_checkpoint_value(&v->checkpoint) : hw_strdup("null");
    struct hw_buf text = {0};

    hw_buf_printf(&text, "{\"ok\":%s",
                  failure == NULL && v->differences.count == 0 ? "true" : "false");
    if (failure != NULL) {
        hw_buf_puts(&text, ",\"error\":");
        hw_buf_json_string(&text, failure->message, strlen(failure->message));
    }
    hw_buf_printf(&text,
                  ",\"nodes\":%zu,\"objects\":%zu,\"rev\":%" PRId64 ",\"seconds\":%.3f"
                  ",\"difference_count\":%zu,\"differences\":[%s],\"checkpoint\":%s}",
                  v->snapshot.desired, v->snapshot.objects.count, v->snapshot.rev, seconds,
                  v->differences.count, hw_buf_str(&v->differences.list), checkpoint);
    puts(hw_buf_str(&text));
    hw_buf_free(&text);
}

static void print_summary(const struct verify *v, double seconds)
{
    if (v->differences.count > REC_DIFFERENCES_SHOWN)
        printf("... and %zu more\n", v->differences.count - REC_DIFFERENCES_SHOWN);
    printf("%zu nodes, %zu objects, %zu differences, %.3f seconds, change %" PRId64 "\n",
           v->snapshot.desired, v->snapshot.objects.count, v->differences.count, seconds,
           v->snapshot.rev);
}

enum hw_status rec_verify_run(const struct rec_verify_config *config, bool *equal,
                              struct hw_error *err)
{
    const int64_t began = hw_loop_now();
    struct verify v = {0};
    enum hw_status status = rec_session_begin(&v.session, config, err);

    if (status == HW_OK)
        status = compare(&v, err);
    rec_session_clear_sign(&v.session);
    const double seconds = (double)(hw_loop_now() - began) / 1000;
    if (config->json)
        print_json(&v, seconds, status == HW_OK ? NULL : err);
    else if (status == HW_OK)
        print_summary(&v, seconds);
    *equal = v.differences.count == 0;
    rec_session_end(&v.session);
    rec_differences_clear(&v.differences);
    rec_snapshot_clear(&v.snapshot);
    return status;
}
