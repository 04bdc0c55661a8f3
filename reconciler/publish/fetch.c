#include "reconciler/publish/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/memory.h"
#include "pg/database.h"
#include "reconciler/publish/blob.h"

enum {
    BATCH_MOST = 200,      /* documents read at once … */
    BATCH_BYTES = 4 << 20, /* … or their bytes, but for a single one */
};

static const char blobs_sql[] =
    "SELECT digest, encoding, content FROM headwater.blob WHERE digest = ANY ($1::text[])";

struct want {
    char digest[HW_DIGEST_STR_MAX];
    size_t size;
    rec_fetch_fn *done;
    void *arg;
    struct want *next;
};

struct rec_fetch {
    struct hw_loop *loop;
    char *conninfo;
    struct hw_db *pg;
    struct want *first, *last; /* waiting */
    struct want *asked;        /* on their way */
    struct hw_timer next;
};

static void ask(void *arg);

static void end(struct want *want, enum hw_status status, const struct rec_blob *blob,
                const struct hw_error *err)
{
    want->done(want->arg, status, blob != NULL ? blob->data : NULL, blob != NULL ? blob->size : 0,
               err);
    free(want);
}

static void end_all(struct want *list, enum hw_status status, const struct hw_error *err)
{
    for (struct want *next; list != NULL; list = next) {
        next = list->next;
        end(list, status, NULL, err);
    }
}

static void give(struct want *want, const PGresult *result, int row)
{
    struct rec_blob blob;
    struct hw_error err;
    enum hw_status status;

    status = rec_blob_decode(PQgetvalue(result, row, 1), PQgetvalue(result, row, 2),
                             (size_t)PQgetlength(result, row, 2), &blob, &err);
    if (status != HW_OK) {
        end(want, status, NULL, &err);
        return;
    }
    end(want, HW_OK, &blob, NULL);
    rec_blob_clear(&blob);
}

static void on_blobs(void *arg, const struct hw_db_outcome *outcome)
{
    struct rec_fetch *fetch = arg;
    struct want *asked = HW_TAKE(fetch->asked);
    const PGresult *result;
    struct hw_error err;

    if (outcome->status != HW_OK) {
        err = outcome->err;
        hw_fail_in(&err, "reading documents from headwater.blob");
        end_all(asked, outcome->status, &err);
        return;
    }
    result = outcome->results[0];
    for (struct want *want = asked, *next; want != NULL; want = next) {
        int row = 0;

        next = want->next;
        while (row < PQntuples(result) && strcmp(PQgetvalue(result, row, 0), want->digest) != 0)
            row++;
        if (row < PQntuples(result)) {
            give(want, result, row);
        } else {
            hw_fail(&err, HW_EPROTO, "headwater.blob has no row for %s", want->digest);
            end(want, HW_EPROTO, NULL, &err);
        }
    }
    hw_timer_start(fetch->loop, &fetch->next, 0, ask, fetch);
}

static void ask(void *arg)
{
    struct rec_fetch *fetch = arg;
    struct want **tail = &fetch->asked;
    struct hw_buf list = {0};
    struct hw_error err;
    size_t bytes = 0;

    if (fetch->first == NULL || fetch->asked != NULL || !hw_db_idle(fetch->pg))
        return;
    hw_buf_putc(&list, '{');
    for (int n = 0; n < BATCH_MOST && fetch->first != NULL &&
                    (n == 0 || bytes + fetch->first->size <= BATCH_BYTES);
         n++) {
        struct want *want = fetch->first;

        fetch->first = want->next;
        want->next = NULL;
        *tail = want;
        tail = &want->next;
        bytes += want->size;
        hw_buf_printf(&list, n > 0 ? ",%s" : "%s", want->digest);
    }
    if (fetch->first == NULL)
        fetch->last = NULL;
    hw_buf_putc(&list, '}');
    const char *const values[] = {hw_buf_str(&list)};
    const struct hw_db_query query = {.sql = blobs_sql, .count = 1, .values = values};
    if (hw_db_run(fetch->pg, HW_DB_SEPARATE, &query, 1, NULL, on_blobs, fetch, &err) != HW_OK)
        end_all(HW_TAKE(fetch->asked), err.status, &err);
    hw_buf_free(&list);
}

static void on_up(void *arg)
{
    ask(arg);
}

struct rec_fetch *rec_fetch_new(struct hw_loop *loop, const char *conninfo)
{
    struct rec_fetch *fetch = hw_alloc(sizeof(*fetch));

    fetch->loop = loop;
    fetch->conninfo = hw_strdup(conninfo);
    return fetch;
}

void rec_fetch_want(struct rec_fetch *fetch, const char *hex, size_t size, rec_fetch_fn *done,
                    void *arg)
{
    const struct hw_db_events events = {.up = on_up, .arg = fetch};
    struct want *want = hw_alloc(sizeof(*want));
    struct hw_error err;

    *want = (struct want){.size = size, .done = done, .arg = arg};
    snprintf(want->digest, sizeof(want->digest), "sha256:%s", hex);
    if (fetch->last != NULL)
        fetch->last->next = want;
    else
        fetch->first = want;
    fetch->last = want;
    /* It cannot fail for a wrong connection string, for others were opened with the same one. */
    if (fetch->pg == NULL &&
        hw_db_open(fetch->loop, fetch->conninfo, "headwater-reconciler: documents", &events,
                   &fetch->pg, &err) != HW_OK)
        fetch->pg = NULL;
    if (fetch->pg != NULL)
        hw_timer_start(fetch->loop, &fetch->next, 0, ask, fetch);
}

void rec_fetch_reset(struct rec_fetch *fetch)
{
    struct want *asked = HW_TAKE(fetch->asked), *waiting = HW_TAKE(fetch->first);

    fetch->last = NULL;
    hw_timer_stop(&fetch->next);
    /* First, so that no answer comes any more. */
    hw_db_close(HW_TAKE(fetch->pg));
    end_all(asked, HW_ESTOPPED, NULL);
    end_all(waiting, HW_ESTOPPED, NULL);
}

void rec_fetch_free(struct rec_fetch *fetch)
{
    if (fetch == NULL)
        return;
    rec_fetch_reset(fetch);
    free(fetch->conninfo);
    free(fetch);
}
