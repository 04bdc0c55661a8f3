#include "http/answer.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/digest.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "common/log.h"
#include "common/loop.h"
#include "http/etag.h"

enum {
    STREAM_BLOCK = 1024,     /* bytes that are read at a time for clients of HTTP/1.0: no chunks */
    SMALL_ANSWER = 64 << 10, /* is always allowed: the answer that memory is short must fit */
};

void http_answer_header(struct http_request *request, const char *name, const char *value)
{
    if (request->header_count == HTTP_ANSWER_HEADERS)
        abort(); /* no handler sets that many */
    request->headers[request->header_count].name = name;
    request->headers[request->header_count++].value = http_request_keep(request, hw_strdup(value));
}

const char *http_answer_header_set(const struct http_request *request, const char *name)
{
    for (int i = 0; i < request->header_count; i++)
        if (strcmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    return NULL;
}

void http_answer_etag(struct http_request *request, const char *fmt, ...)
{
    va_list args;
    int len;

    request->etag[0] = '"';
    va_start(args, fmt);
    len = vsnprintf(request->etag + 1, sizeof(request->etag) - 2, fmt, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(request->etag) - 2) {
        request->etag[0] = '\0';
        return;
    }
    strcpy(request->etag + 1 + len, "\"");
}

void http_answer_etag_of(struct http_request *request, const char *bytes, size_t len)
{
    struct hw_digest digest;
    char hex[HW_DIGEST_HEX_MAX];

    hw_digest_of(bytes, len, &digest);
    http_answer_etag(request, "%.32s", hw_digest_hex(&digest, hex));
}

void http_answer_etag_weak_of(struct http_request *request, const char *bytes, size_t len)
{
    HW_AUTO_FREE char *strong = NULL;

    http_answer_etag_of(request, bytes, len);
    strong = hw_strdup(request->etag);
    snprintf(request->etag, sizeof(request->etag), "W/%s", strong);
}

/* Keeps proxies from storing an answer without asking, unless it has a rule of its own for that,
 * and browsers from guessing its type. */
static void add_general_headers(struct MHD_Response *response, const char *media_type,
                                bool has_cache_control)
{
    if (media_type != NULL &&
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, media_type) != MHD_YES)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    if (!has_cache_control)
        MHD_add_response_header(response, HTTP_CACHE_CONTROL, "no-cache");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
}

static void add_headers(struct http_request *request, const char *media_type)
{
    struct MHD_Response *response = request->response;

    add_general_headers(response, media_type,
                        http_answer_header_set(request, HTTP_CACHE_CONTROL) != NULL);
    if (request->etag[0] != '\0')
        MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, request->etag);
    for (int i = 0; i < request->header_count; i++)
        MHD_add_response_header(response, request->headers[i].name, request->headers[i].value);
}

static void answer(struct http_request *request, int status, void *data, size_t len,
                   const char *media_type)
{
    const char *none_match = http_request_header(request, HTTP_IF_NONE_MATCH);

    if (request->response != NULL || request->held.status != 0)
        abort(); /* a handler answered twice */
    if (request->holding) {
        request->held.status = status;
        request->held.data = data;
        request->held.len = len;
        request->held.media_type = media_type;
        return;
    }
    if (status == HTTP_OK && http_request_is_read(request) && request->etag[0] != '\0' &&
        none_match != NULL && http_etag_list_has(none_match, request->etag)) {
        free(data);
        data = NULL;
        len = 0;
        media_type = NULL;
        status = HTTP_NOT_MODIFIED;
    }
    if (len > SMALL_ANSWER && !request->transport->charge(request, len, request->owed)) {
        free(data);
        http_answer_problem(request, &http_overloaded,
                            "The answers that are being sent take all the memory that they may");
        return;
    }
    request->status = status;
    request->response = MHD_create_response_from_buffer(
        len, data, data != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (request->response == NULL)
        abort(); /* out of memory */
    add_headers(request, media_type);
    request->transport->wake(request);
}

void http_answer_owe(struct http_request *request)
{
    request->owed = true;
    free(HW_TAKE(request->body));
}

void http_answer_hold(struct http_request *request)
{
    request->holding = true;
}

void http_answer_release(struct http_request *request)
{
    const int status = request->held.status;

    request->holding = false;
    request->held.status = 0;
    if (status == 0)
        return; /* the answer is still to come */
    answer(request, status, HW_TAKE(request->held.data), request->held.len,
           request->held.media_type);
}

void http_answer_drop(struct http_request *request)
{
    request->holding = false;
    request->held.status = 0;
    free(HW_TAKE(request->held.data));
    request->etag[0] = '\0';
    request->header_count = 0;
}

void http_answer_bytes(struct http_request *request, int status, void *data, size_t len,
                       const char *media_type)
{
    answer(request, status, data, len, media_type);
}

void http_answer_empty(struct http_request *request, int status)
{
    answer(request, status, NULL, 0, NULL);
}

static ssize_t read_stream(void *arg, uint64_t position, char *out, size_t room)
{
    struct http_request *request = arg;
    const ssize_t len =
        request->is_gone ? -1 : request->stream.read(request->stream.arg, out, room);

    (void)position;
    if (len < 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    request->transport->streaming(request, len > 0);
    return len;
}

void http_answer_stream(struct http_request *request, const char *media_type,
                        http_stream_read_fn *read, void (*ended)(void *arg), void *arg)
{
    request->stream.read = read;
    request->stream.ended = ended;
    request->stream.arg = arg;
    request->status = HTTP_OK;
    request->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK,
                                                          read_stream, request, NULL);
    if (request->response == NULL)
        abort(); /* out of memory */
    add_headers(request, media_type);
    request->gone = NULL;
    request->transport->watch(request);
    request->transport->wake(request);
}

static ssize_t read_nothing(void *arg, uint64_t position, char *out, size_t room)
{
    (void)arg;
    (void)position;
    (void)out;
    (void)room;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

void http_answer_stream_head(struct http_request *request, const char *media_type)
{
    request->status = HTTP_OK;
    request->response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_nothing, NULL, NULL);
    if (request->response == NULL)
        abort(); /* out of memory */
    /* With chunks, version 0.9.75 of the library would send the last one behind the head. So this
     * answer ends with its connection. */
    MHD_set_response_options(request->response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    add_headers(request, media_type);
    request->transport->wake(request);
}

void http_answer_more(struct http_request *request)
{
    request->transport->wake(request);
}

/* value is taken over. */
static char *dump_line(json_t *value, size_t *len)
{
    char *text = hw_json_text(value, false);

    json_decref(value);
    *len = strlen(text);
    text = hw_realloc(text, *len + 2);
    strcpy(text + (*len)++, "\n");
    return text;
}

void http_answer_json(struct http_request *request, int status, json_t *value)
{
    http_answer_json_as(request, status, value, "application/json");
}

void http_answer_json_as(struct http_request *request, int status, json_t *value,
                         const char *media_type)
{
    size_t len;
    char *text = dump_line(value, &len);

    if (status == HTTP_OK && http_request_is_read(request) && request->etag[0] == '\0')
        http_answer_etag_of(request, text, len);
    answer(request, status, text, len, media_type);
}

static void answer_problem(struct http_request *request, const struct http_problem *problem,
                           json_t *members, const char *fmt, va_list args) HW_PRINTF(4, 0);
static void answer_problem(struct http_request *request, const struct http_problem *problem,
                           json_t *members, const char *fmt, va_list args)
{
    HW_AUTO_FREE char *detail = NULL;
    char *text;
    size_t len;

    if (vasprintf(&detail, fmt, args) < 0)
        abort(); /* out of memory */
    if (problem->retry_after_s > 0) {
        char seconds[16];

        snprintf(seconds, sizeof(seconds), "%d", problem->retry_after_s);
        http_answer_header(request, HTTP_RETRY_AFTER, seconds);
    }
    request->etag[0] = '\0';
    text = dump_line(http_problem_document(problem, detail, members), &len);
    json_decref(members);
    answer(request, problem->status, text, len, "application/problem+json");
}

struct MHD_Response *http_answer_response(const struct http_problem *problem, const char *detail)
{
    struct MHD_Response *response;
    size_t len;
    char *text = dump_line(http_problem_document(problem, detail, NULL), &len);

    response = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        abort(); /* out of memory */
    add_general_headers(response, "application/problem+json", false);
    if (problem->retry_after_s > 0) {
        char seconds[16];

        snprintf(seconds, sizeof(seconds), "%d", problem->retry_after_s);
        MHD_add_response_header(response, HTTP_RETRY_AFTER, seconds);
    }
    return response;
}

void http_answer_problem(struct http_request *request, const struct http_problem *problem,
                         const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    answer_problem(request, problem, NULL, fmt, args);
    va_end(args);
}

void http_answer_problem_with(struct http_request *request, const struct http_problem *problem,
                              json_t *members, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    answer_problem(request, problem, members, fmt, args);
    va_end(args);
}

void http_answer_internal(struct http_request *request, const char *doing, const char *error)
{
    uint64_t id = 0;
    char text[17];

    if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
        id = (uint64_t)hw_loop_now();
    snprintf(text, sizeof(text), "%016" PRIx64, id);
    hw_log_error("request failed", HW_S("correlation_id", text), HW_S("method", request->method),
                 HW_S("doing", doing), HW_S("error", error));
    http_answer_problem_with(request, &http_internal, json_pack("{s:s}", "correlation_id", text),
                             "The service's log tells more under the correlation id");
}
