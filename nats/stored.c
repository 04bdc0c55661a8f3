#include "nats/stored.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/number.h"
#include "common/clock.h"

enum { SUBJECT_MOST = 1024 };

void hw_stored_clear(struct hw_stored *stored)
{
    natsMsg_Destroy(stored->msg);
    *stored = (struct hw_stored){0};
}

/* The last value of a header field is the server's own: it adds its fields behind those that were
 * stored. */
static const char *given(natsMsg *msg, const char *name)
{
    const char **values = NULL, *last = NULL;
    int count = 0;

    if (natsMsgHeader_Values(msg, name, &values, &count) == NATS_OK && count > 0)
        last = values[count - 1];
    free(values);
    return last;
}

/* Turns what the server says instead of a message into an error. */
static enum hw_status refusal(natsMsg *msg, struct hw_error *err)
{
    const char *status = given(msg, "Status");
    const char *words = given(msg, "Description");

    if (status == NULL)
        return hw_fail(err, HW_EPROTO, "the server's answer is not understood");
    if (strcmp(status, "404") == 0)
        return hw_fail(err, HW_ENOENT, "there is none");
    if (strcmp(status, "503") == 0)
        return hw_fail(err, HW_EUNAVAIL,
                       "nobody answers; the bucket is missing or JetStream is off");
    return hw_fail(err, HW_EPROTO, "%s %s", status, words != NULL ? words : "");
}

/* A block that the library cannot read is stored by somebody: the server writes none. Only the
 * first look tells; later ones see what came before the fault, which may be a status. */
static bool readable(natsMsg *msg)
{
    const char *value;
    const natsStatus s = natsMsgHeader_Get(msg, "Nats-Sequence", &value);

    return s == NATS_OK || s == NATS_NOT_FOUND;
}

enum hw_status hw_stored_read(natsMsg *msg, struct hw_stored *stored, struct hw_error *err)
{
    struct hw_stored read = {.msg = msg};
    const char *time;

    if (!readable(msg)) {
        natsMsg_Destroy(msg);
        return hw_fail(err, HW_EPROTO, "the header of the message cannot be read");
    }
    if (!hw_number_parse(given(msg, "Nats-Sequence"), &read.seq) || read.seq == 0) {
        const enum hw_status status = refusal(msg, err);

        natsMsg_Destroy(msg);
        return status;
    }
    read.subject = given(msg, "Nats-Subject");
    time = given(msg, "Nats-Time-Stamp");
    if (read.subject == NULL || time == NULL || !hw_clock_parse(time, &read.time_ns)) {
        natsMsg_Destroy(msg);
        return hw_fail(err, HW_EPROTO, "the server's answer lacks subject or time");
    }
    *stored = read;
    return HW_OK;
}

/* what: names the message in errors. body may be NULL. */
static enum hw_status get(struct hw_nats *nats, const char *subject, const char *body,
                          const char *what, const char *stream, struct hw_stored *stored,
                          struct hw_error *err)
{
    natsMsg *answer = NULL;
    enum hw_status status =
        hw_nats_request(nats, subject, body, body != NULL ? strlen(body) : 0, &answer, err);

    if (status == HW_OK)
        status = hw_stored_read(answer, stored, err);
    if (status != HW_OK)
        /* Nobody answers for a stream that does not exist, so that error is a timeout. */
        hw_fail_in(err, "reading %s from stream %s%s", what, stream,
                   status == HW_ETIMEOUT ? " (is there such a bucket? The reconciler makes it)"
                                         : "");
    return status;
}

enum hw_status hw_stored_last(struct hw_nats *nats, const char *stream, const char *subject,
                              struct hw_stored *stored, struct hw_error *err)
{
    char request[SUBJECT_MOST];

    snprintf(request, sizeof(request), "$JS.API.DIRECT.GET.%s.%s", stream, subject);
    return get(nats, request, NULL, subject, stream, stored, err);
}

enum hw_status hw_stored_at(struct hw_nats *nats, const char *stream, uint64_t seq,
                            struct hw_stored *stored, struct hw_error *err)
{
    char request[SUBJECT_MOST], body[48], what[40];

    snprintf(request, sizeof(request), "$JS.API.DIRECT.GET.%s", stream);
    snprintf(body, sizeof(body), "{\"seq\":%" PRIu64 "}", seq);
    snprintf(what, sizeof(what), "message %" PRIu64, seq);
    return get(nats, request, body, what, stream, stored, err);
}

enum hw_status hw_stored_next(struct hw_nats *nats, const char *stream, const char *subject,
                              uint64_t seq, struct hw_stored *stored, struct hw_error *err)
{
    char request[SUBJECT_MOST];
    struct hw_buf body = {0};
    enum hw_status status;

    snprintf(request, sizeof(request), "$JS.API.DIRECT.GET.%s", stream);
    hw_buf_printf(&body, "{\"seq\":%" PRIu64 ",\"next_by_subj\":", seq);
    hw_buf_json_string(&body, subject, strlen(subject));
    hw_buf_putc(&body, '}');
    status = get(nats, request, hw_buf_str(&body), subject, stream, stored, err);
    hw_buf_free(&body);
    return status;
}
