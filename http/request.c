#include "http/request.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/selector.h"
#include "common/digest.h"
#include "common/json.h"
#include "common/json_text.h"
#include "common/log.h"
#include "common/memory.h"
#include "http/etag.h"
#include "http/server.h"

enum {
    LIMIT_DEFAULT = 100,
    LIMIT_MOST = 1000,
    STREAM_BLOCK = 1024,     /* without chunks: to clients of HTTP/1.0 */
    SMALL_ANSWER = 64 << 10, /* always allowed: what says that memory is short must fit */
};

const char *api_request_variable(const struct api_request *request, const char *name)
{
    return api_router_variable(request->route, &request->target, name);
}

const char *api_request_parameter(const struct api_request *request, const char *name)
{
    return api_target_parameter(&request->target, name);
}

const char *api_request_header(const struct api_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

void *api_request_keep(struct api_request *request, void *memory)
{
    request->kept = hw_realloc(request->kept, (request->kept_count + 1) * sizeof(*request->kept));
    request->kept[request->kept_count++] = memory;
    return memory;
}

/* ---- shared parameters ---- */

/* Reads digits alone, at most most; -1 for anything else. */
static int64_t read_number(const char *text, int64_t most)
{
    int64_t value = 0;

    if (*text == '\0')
        return -1;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        value = 10 * value + (*text - '0');
        if (value > most)
            return -1;
    }
    return value;
}

bool api_request_limit(struct api_request *request, int *limit, const char **text)
{
    const char *given = api_request_parameter(request, "limit");
    const int64_t value = given != NULL ? read_number(given, LIMIT_MOST) : LIMIT_DEFAULT;

    if (value < 1) {
        api_answer_problem(request, API_INVALID_PARAMETER, "limit: must be a number from 1 to %d",
                           LIMIT_MOST);
        return false;
    }
    *limit = (int)value;
    *text = api_request_keep(request, hw_sprintf("%d", *limit + 1));
    return true;
}

bool api_request_flag(struct api_request *request, const char *name, bool *flag)
{
    const char *given = api_request_parameter(request, name);

    if (given != NULL && strcmp(given, "true") != 0 && strcmp(given, "false") != 0) {
        api_answer_problem(request, API_INVALID_PARAMETER, "%s: must be true or false", name);
        return false;
    }
    *flag = given != NULL && strcmp(given, "true") == 0;
    return true;
}

bool api_request_alternatives(struct api_request *request, json_t **alternatives)
{
    const char *given = api_request_parameter(request, "selector");
    struct hw_error err;

    if (api_selector_parse(given != NULL ? given : "", alternatives, &err) == HW_OK)
        return true;
    api_answer_problem(request, API_INVALID_PARAMETER, "selector: %s", err.message);
    return false;
}

bool api_request_selector(struct api_request *request, const char **array)
{
    HW_AUTO_JSON json_t *alternatives = NULL;

    if (!api_request_alternatives(request, &alternatives))
        return false;
    *array = api_request_keep(request, api_selector_array(alternatives));
    return true;
}

bool api_request_number(struct api_request *request, const char *name, const char **text)
{
    const char *given = api_request_parameter(request, name);

    if (given != NULL && read_number(given, INT32_MAX) < 1) {
        api_answer_problem(request, API_INVALID_PARAMETER, "%s: must be a number from 1 to %d",
                           name, INT32_MAX);
        return false;
    }
    *text = given;
    return true;
}

bool api_request_precondition(struct api_request *request, struct api_precondition *condition)
{
    const char *match = api_request_header(request, MHD_HTTP_HEADER_IF_MATCH);
    const char *none_match = api_request_header(request, MHD_HTTP_HEADER_IF_NONE_MATCH);

    if (match != NULL && !api_etag_list_valid(match)) {
        api_answer_problem(request, API_MALFORMED_REQUEST,
                           "If-Match: must be * or a list of tags such as \"17\"");
        return false;
    }
    if (none_match != NULL && strcmp(none_match, "*") != 0) {
        api_answer_problem(request, API_MALFORMED_REQUEST,
                           "If-None-Match: a write takes * alone: create, never replace");
        return false;
    }
    *condition = (struct api_precondition){
        .if_match = match,
        .must_not_exist = none_match != NULL ? "t" : "f",
        .versions = match != NULL ? api_request_keep(request, api_etag_versions(match)) : NULL,
    };
    return true;
}

/* ---- answers ---- */

void api_answer_header(struct api_request *request, const char *name, const char *value)
{
    if (request->header_count == API_REQUEST_HEADERS)
        abort(); /* no handler sets that many */
    request->headers[request->header_count].name = name;
    request->headers[request->header_count++].value = api_request_keep(request, hw_strdup(value));
}

void api_answer_etag(struct api_request *request, const char *fmt, ...)
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

static bool is_read(const struct api_request *request)
{
    return strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
}

/* What a proxy or a browser must not make of an answer. */
static void add_general_headers(struct MHD_Response *response, const char *media_type)
{
    if (media_type != NULL &&
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, media_type) != MHD_YES)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
}

static void add_headers(struct api_request *request, const char *media_type)
{
    struct MHD_Response *response = request->response;

    add_general_headers(response, media_type);
    if (request->etag[0] != '\0')
        MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, request->etag);
    for (int i = 0; i < request->header_count; i++)
        MHD_add_response_header(response, request->headers[i].name, request->headers[i].value);
}

static void answer(struct api_request *request, int status, void *data, size_t len,
                   const char *media_type)
{
    const char *none_match = api_request_header(request, MHD_HTTP_HEADER_IF_NONE_MATCH);

    if (request->response != NULL || request->held.status != 0)
        abort(); /* a handler answered twice */
    if (request->holding) {
        request->held.status = status;
        request->held.data = data;
        request->held.len = len;
        request->held.media_type = media_type;
        return;
    }
    if (status == MHD_HTTP_OK && is_read(request) && request->etag[0] != '\0' &&
        none_match != NULL && api_etag_list_has(none_match, request->etag)) {
        free(data);
        data = NULL;
        len = 0;
        media_type = NULL;
        status = MHD_HTTP_NOT_MODIFIED;
    }
    if (len > SMALL_ANSWER && !api_server_charge(request, len)) {
        free(data);
        api_answer_problem(request, API_OVERLOADED,
                           "The answers that are being sent take all the memory that they may");
        return;
    }
    request->status = status;
    request->response = MHD_create_response_from_buffer(
        len, data, data != NULL ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (request->response == NULL)
        abort(); /* out of memory */
    add_headers(request, media_type);
    api_server_answered(request);
}

void api_answer_hold(struct api_request *request)
{
    request->holding = true;
}

void api_answer_release(struct api_request *request)
{
    const int status = request->held.status;

    request->holding = false;
    request->held.status = 0;
    answer(request, status, HW_TAKE(request->held.data), request->held.len,
           request->held.media_type);
}

void api_answer_drop(struct api_request *request)
{
    request->holding = false;
    request->held.status = 0;
    free(HW_TAKE(request->held.data));
    request->etag[0] = '\0';
    request->header_count = 0;
}

void api_answer_bytes(struct api_request *request, int status, void *data, size_t len,
                      const char *media_type)
{
    answer(request, status, data, len, media_type);
}

void api_answer_empty(struct api_request *request, int status)
{
    answer(request, status, NULL, 0, NULL);
}

static ssize_t read_stream(void *arg, uint64_t position, char *out, size_t room)
{
    struct api_request *request = arg;
    const ssize_t len = request->stream.read(request->stream.arg, out, room);

    (void)position;
    if (len < 0)
        return MHD_CONTENT_READER_END_OF_STREAM;
    api_server_streaming(request, len > 0);
    return len;
}

void api_answer_stream(struct api_request *request, const char *media_type,
                       api_stream_read_fn *read, void (*ended)(void *arg), void *arg)
{
    request->stream.read = read;
    request->stream.ended = ended;
    request->stream.arg = arg;
    request->status = MHD_HTTP_OK;
    request->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK,
                                                          read_stream, request, NULL);
    if (request->response == NULL)
        abort(); /* out of memory */
    add_headers(request, media_type);
    api_server_answered(request);
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

/* What has no version of its own is known by its bytes. */
static void tag_bytes(struct api_request *request, const char *text, size_t len)
{
    struct hw_digest digest;
    char hex[HW_DIGEST_HEX_MAX];

    hw_digest_of(text, len, &digest);
    api_answer_etag(request, "%.32s", hw_digest_hex(&digest, hex));
}

void api_answer_json(struct api_request *request, int status, json_t *value)
{
    size_t len;
    char *text = dump_line(value, &len);

    if (status == MHD_HTTP_OK && is_read(request) && request->etag[0] == '\0')
        tag_bytes(request, text, len);
    answer(request, status, text, len, "application/json");
}

static void answer_problem(struct api_request *request, enum api_problem problem, json_t *members,
                           const char *fmt, va_list args) HW_PRINTF(4, 0);
static void answer_problem(struct api_request *request, enum api_problem problem, json_t *members,
                           const char *fmt, va_list args)
{
    const struct api_problem_kind *kind = api_problem_kind(problem);
    HW_AUTO_FREE char *detail = NULL;
    char *text;
    size_t len;

    if (vasprintf(&detail, fmt, args) < 0)
        abort(); /* out of memory */
    if (kind->retry_after_s > 0) {
        char seconds[16];

        snprintf(seconds, sizeof(seconds), "%d", kind->retry_after_s);
        api_answer_header(request, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    request->etag[0] = '\0';
    text = dump_line(api_problem_document(problem, detail, members), &len);
    json_decref(members);
    answer(request, kind->status, text, len, "application/problem+json");
}

struct MHD_Response *api_problem_response(enum api_problem problem, const char *detail)
{
    const int retry_after_s = api_problem_kind(problem)->retry_after_s;
    struct MHD_Response *response;
    size_t len;
    char *text = dump_line(api_problem_document(problem, detail, NULL), &len);

    response = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        abort(); /* out of memory */
    add_general_headers(response, "application/problem+json");
    if (retry_after_s > 0) {
        char seconds[16];

        snprintf(seconds, sizeof(seconds), "%d", retry_after_s);
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    return response;
}

void api_answer_problem(struct api_request *request, enum api_problem problem, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    answer_problem(request, problem, NULL, fmt, args);
    va_end(args);
}

void api_answer_problem_with(struct api_request *request, enum api_problem problem, json_t *members,
                             const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    answer_problem(request, problem, members, fmt, args);
    va_end(args);
}

void api_answer_internal(struct api_request *request, const char *doing, const char *error)
{
    uint64_t id = 0;
    char text[17];

    if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
        id = (uint64_t)hw_loop_now();
    snprintf(text, sizeof(text), "%016" PRIx64, id);
    hw_log_error("request failed", HW_S("correlation_id", text), HW_S("method", request->method),
                 HW_S("doing", doing), HW_S("error", error));
    api_answer_problem_with(request, API_INTERNAL, json_pack("{s:s}", "correlation_id", text),
                            "The service's log tells more under the correlation id");
}
