#include "cli/client/stream.h"

#include <string.h>

#include "base/memory.h"
#include "common/loop.h"

enum {
    REST_MS = 1000,      /* the longest pause between two calls of rest */
    SILENCE_MOST_S = 60, /* seconds without a byte that end a stream: the server sends a sign of
                            life every 15 s */
};

struct stream {
    struct cli_http *http;
    const struct cli_stream *to;
    struct cli_body body; /* of an answer that is no stream */
    bool ended;           /* by take or rest */
};

static bool is_stream(struct cli_http *http)
{
    long status = 0;
    const char *type = NULL;

    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(http->curl, CURLINFO_CONTENT_TYPE, &type);
    return status == 200 && type != NULL && strncasecmp(type, "text/event-stream", 17) == 0;
}

static size_t on_stream(char *bytes, size_t size, size_t count, void *arg)
{
    struct stream *stream = arg;

    if (!is_stream(stream->http))
        return cli_body_add(bytes, size, count, &stream->body);
    stream->ended = !stream->to->take(stream->to->arg, bytes, size * count);
    return stream->ended ? 0 : size * count;
}

/* Runs the transfer. HW_ESTOPPED, HW_ETIMEOUT: it was told to end before its own end. */
static enum hw_status transfer(struct stream *stream, CURLM *multi, CURLcode *code)
{
    const struct cli_stream *to = stream->to;
    int running = 1, left;

    while (curl_multi_perform(multi, &running) == CURLM_OK && running > 0) {
        struct curl_waitfd stop = {.fd = to->stop_fd, .events = CURL_WAIT_POLLIN};
        const int64_t time = to->deadline_ms > 0 ? to->deadline_ms - hw_loop_now() : REST_MS;

        if (time <= 0)
            return HW_ETIMEOUT;
        if (is_stream(stream->http) && to->rest != NULL && !to->rest(to->arg)) {
            stream->ended = true;
            return HW_OK;
        }
        curl_multi_poll(multi, &stop, to->stop_fd >= 0 ? 1 : 0,
                        (int)(time < REST_MS ? time : REST_MS), NULL);
        if (stop.revents != 0)
            return HW_ESTOPPED;
    }
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    *code = message != NULL ? message->data.result : CURLE_OUT_OF_MEMORY;
    return HW_OK;
}

/* The outcome of a stream that was not told to end. */
static enum hw_status judge_stream(struct stream *stream, CURLcode code, const char *path,
                                   int *status, struct hw_error *err)
{
    const struct cli_request request = {.path = path};
    struct cli_answer answer = {0};
    enum hw_status st = HW_EPROTO;

    if (is_stream(stream->http))
        st = stream->ended
                 ? HW_OK
                 : hw_fail(err, HW_EUNAVAIL, "%s: the stream of events ended", stream->http->base);
    else if (code != CURLE_OK)
        st = cli_exchange_broken(stream->http, code, err);
    cli_exchange_read(stream->http, &stream->body, &answer);
    *status = answer.status;
    if (st == HW_EPROTO && answer.status / 100 == 2)
        st = hw_fail(err, HW_EPROTO, "GET %s: the answer is no stream of events", path);
    else if (code == CURLE_OK && answer.status / 100 != 2)
        st = cli_exchange_refused(stream->http, &request, &answer, err);
    cli_answer_free(&answer);
    return st;
}

/* The connection is one of its own, so that requests can be sent by the other one while the
 * stream goes on. */
enum hw_status cli_stream_follow(struct cli_http *http, const char *path, const char *last_event_id,
                                 const struct cli_stream *to, int *status, struct hw_error *err)
{
    struct cli_http own = {.options = http->options, .base = http->base};
    struct stream stream = {.http = &own, .to = to};
    struct cli_headers headers = {0};
    CURLM *multi = curl_multi_init();
    CURLcode code = CURLE_OK;

    *status = 0;
    own.curl = curl_easy_init();
    if (own.curl == NULL || multi == NULL) {
        curl_easy_cleanup(own.curl);
        curl_multi_cleanup(multi);
        return hw_fail(err, HW_ELIMIT, "no memory for a connection");
    }
    cli_exchange_prepare(&own, path, &headers);
    cli_headers_add(&headers, "Accept", "text/event-stream");
    if (last_event_id != NULL)
        cli_headers_add(&headers, "Last-Event-ID", last_event_id);
    curl_easy_setopt(own.curl, CURLOPT_HTTPHEADER, headers.list);
    curl_easy_setopt(own.curl, CURLOPT_WRITEFUNCTION, on_stream);
    curl_easy_setopt(own.curl, CURLOPT_WRITEDATA, &stream);
    curl_easy_setopt(own.curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(own.curl, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_MOST_S);
    curl_multi_add_handle(multi, own.curl);
    enum hw_status st = transfer(&stream, multi, &code);
    if (st == HW_OK) {
        st = judge_stream(&stream, code, path, status, err);
    } else {
        *status = is_stream(&own) ? 200 : 0;
        (void)hw_fail(err, st, "told to end");
    }
    curl_multi_remove_handle(multi, own.curl);
    curl_multi_cleanup(multi);
    curl_easy_cleanup(own.curl);
    hw_buf_free(&stream.body.bytes);
    curl_slist_free_all(headers.list);
    return st;
}
