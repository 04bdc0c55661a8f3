#include "cli/client/http.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/client/reach.h"
#include "common/json.h"
#include "common/log.h"
#include "common/lsn.h"
#include "common/memory.h"
#include "common/version.h"

enum {
    CONNECT_TIMEOUT_MS = 10000,
    BACKOFF_LEAST_MS = 200,
    BACKOFF_MOST_MS = 5000,
    RETRY_MOST_S = 3600, /* that a server may ask for */
    REST_MS = 1000,      /* between two rests of a stream */
    SILENCE_MOST_S = 60, /* of a stream: the server's heart beats every 15 s */
};

struct cli_http {
    const struct cli_http_options *options;
    char *base; /* without the slash at the end */
    CURL *curl;
    char curl_error[CURL_ERROR_SIZE];
};

int64_t cli_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- opening ---- */

static char *url_part(CURLU *url, CURLUPart part)
{
    char *text = NULL, *copy = NULL;

    if (curl_url_get(url, part, &text, 0) == CURLUE_OK)
        copy = hw_strdup(text);
    curl_free(text);
    return copy;
}

static enum hw_status check_server(const struct cli_http_options *o, CURLU *url,
                                   struct hw_error *err)
{
    static const CURLUPart extra[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY,
                                      CURLUPART_FRAGMENT};

    if (curl_url_set(url, CURLUPART_URL, o->server, 0) != CURLUE_OK)
        return hw_fail(err, HW_EINVAL, "--server: \"%s\" is not a URL such as %s", o->server,
                       "http://127.0.0.1:8080");
    HW_AUTO_FREE char *scheme = url_part(url, CURLUPART_SCHEME);
    HW_AUTO_FREE char *host = url_part(url, CURLUPART_HOST);
    if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
        return hw_fail(err, HW_EINVAL, "--server: \"%s\" is neither http:// nor https://",
                       o->server);
    for (size_t i = 0; i < HW_COUNT(extra); i++) {
        HW_AUTO_FREE char *part = url_part(url, extra[i]);
        if (part != NULL)
            return hw_fail(err, HW_EINVAL,
                           "--server takes no user, password, query or fragment; a token goes into "
                           "HEADWATER_TOKEN or --token-file");
    }
    if (o->token != NULL && strcmp(scheme, "http") == 0 && strcmp(host, "localhost") != 0 &&
        strncmp(host, "127.", 4) != 0 && strcmp(host, "[::1]") != 0)
        hw_log_warn("the token travels unencrypted: use https://", HW_S("server", o->server));
    return HW_OK;
}

static enum hw_status check_token(const char *token, struct hw_error *err)
{
    if (token == NULL)
        return HW_OK;
    for (const char *p = token; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            return hw_fail(err, HW_EINVAL,
                           "the token holds a character that no token has (it is not shown)");
    return *token != '\0' ? HW_OK : hw_fail(err, HW_EINVAL, "the token is empty");
}

enum hw_status cli_http_open(const struct cli_http_options *options, struct cli_http **out,
                             struct hw_error *err)
{
    struct cli_http *http;
    CURLU *url;
    size_t len;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return hw_fail(err, HW_ELIMIT, "libcurl does not start");
    url = curl_url();
    enum hw_status st = check_server(options, url, err);
    if (st == HW_OK)
        st = check_token(options->token, err);
    curl_url_cleanup(url);
    if (st != HW_OK)
        return st;
    http = hw_alloc(sizeof(*http));
    http->options = options;
    http->curl = curl_easy_init();
    http->base = hw_strdup(options->server);
    len = strlen(http->base);
    while (len > 0 && http->base[len - 1] == '/')
        http->base[--len] = '\0';
    if (http->curl == NULL) {
        cli_http_close(http);
        return hw_fail(err, HW_ELIMIT, "no memory for a connection");
    }
    *out = http;
    return HW_OK;
}

void cli_http_close(struct cli_http *http)
{
    if (http == NULL)
        return;
    curl_easy_cleanup(http->curl);
    free(http->base);
    free(http);
    curl_global_cleanup();
}

/* ---- paths ---- */

static void add_encoded(struct hw_buf *out, const char *text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

    for (const char *p = text; *p != '\0'; p++) {
        if (strchr(plain, *p) != NULL)
            hw_buf_putc(out, *p);
        else
            hw_buf_printf(out, "%%%02X", (unsigned char)*p);
    }
}

void cli_path_add(struct hw_buf *path, const char *segment)
{
    hw_buf_putc(path, '/');
    add_encoded(path, segment);
}

void cli_query_add(struct hw_buf *path, const char *name, const char *value)
{
    if (value == NULL)
        return;
    hw_buf_putc(path, strchr(path->data, '?') == NULL ? '?' : '&');
    hw_buf_puts(path, name);
    hw_buf_putc(path, '=');
    add_encoded(path, value);
}

/* ---- one exchange ---- */

void cli_answer_free(struct cli_answer *answer)
{
    free(answer->body);
    free(answer->media_type);
    free(answer->etag);
    free(answer->lsn);
    json_decref(answer->details);
    *answer = (struct cli_answer){0};
}

struct header_list {
    struct curl_slist *list;
};

static void add_header(struct header_list *headers, const char *name, const char *value)
{
    HW_AUTO_FREE char *line = hw_sprintf("%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(headers->list, line);

    if (longer == NULL)
        abort();
    headers->list = longer;
}

/* What every request has. */
static void prepare(struct cli_http *http, const char *path, struct header_list *headers)
{
    const struct cli_http_options *o = http->options;
    CURL *curl = http->curl;
    HW_AUTO_FREE char *url = hw_sprintf("%s%s", http->base, path);

    curl_easy_reset(curl);
    http->curl_error[0] = '\0';
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, http->curl_error);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "headwater/" HW_VERSION);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    if (o->ca_file != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, o->ca_file);
    if (o->cert != NULL)
        curl_easy_setopt(curl, CURLOPT_SSLCERT, o->cert);
    if (o->key != NULL)
        curl_easy_setopt(curl, CURLOPT_SSLKEY, o->key);
    if (o->token != NULL) {
        HW_AUTO_FREE char *value = hw_sprintf("Bearer %s", o->token);
        add_header(headers, "Authorization", value);
    }
}

/* Copies a header field of the answer, or NULL. */
static char *header_value(struct cli_http *http, const char *name)
{
    struct curl_header *header;

    if (curl_easy_header(http->curl, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return NULL;
    return hw_strdup(header->value);
}

/* "17" or W/"17" becomes 17. */
static char *unquote(char *etag)
{
    char *from = etag, *end;

    if (etag == NULL)
        return NULL;
    if (strncmp(from, "W/", 2) == 0)
        from += 2;
    from += *from == '"';
    end = strrchr(from, '"');
    if (end != NULL)
        *end = '\0';
    memmove(etag, from, strlen(from) + 1);
    return etag;
}

static enum hw_status transport_error(struct cli_http *http, CURLcode code, struct hw_error *err)
{
    const char *what = http->curl_error[0] != '\0' ? http->curl_error : curl_easy_strerror(code);
    const char *advice = cli_reach_advice(http->base, http->curl, code);
    enum hw_status status = HW_EUNAVAIL;

    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        status = HW_ETIMEOUT;
        break;
    case CURLE_OUT_OF_MEMORY:
        status = HW_ELIMIT;
        break;
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PEER_FAILED_VERIFICATION:
        status = HW_EDENIED;
        break;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
        status = HW_EPROTO;
        break;
    default:
        break;
    }
    return hw_fail(err, status, "%s: %s%s%s", http->base, what, advice != NULL ? "; " : "",
                   advice != NULL ? advice : "");
}

static enum hw_status status_of(int code)
{
    switch (code) {
    case 401:
    case 403:
        return HW_EDENIED;
    case 404:
        return HW_ENOENT;
    case 409:
    case 412:
        return HW_ECONFLICT;
    case 429:
    case 502:
    case 503:
        return HW_EUNAVAIL;
    case 504:
        return HW_ETIMEOUT;
    default:
        return code >= 400 && code < 500 ? HW_EINVAL : HW_EPROTO;
    }
}

static bool is_json(const char *media_type)
{
    static const char *const types[] = {"application/json", "application/problem+json"};

    for (size_t i = 0; media_type != NULL && i < HW_COUNT(types); i++) {
        const size_t len = strlen(types[i]);
        if (strncasecmp(media_type, types[i], len) == 0 &&
            (media_type[len] == '\0' || media_type[len] == ';' || media_type[len] == ' '))
            return true;
    }
    return false;
}

static const char *text_member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "";
}

/* Says in our words why the answer is none of 2xx. */
static enum hw_status problem_error(const struct cli_request *request, struct cli_answer *answer,
                                    struct hw_error *err)
{
    static const char urn[] = "urn:headwater:problem:";
    const char *method = request->method != NULL ? request->method : "GET";
    const enum hw_status status = status_of(answer->status);

    if (is_json(answer->media_type))
        answer->details = json_loadb(answer->body, answer->len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(answer->details)) {
        const char *hint =
            answer->status / 100 == 3
                ? "; --server must name the API itself, redirections are not followed"
                : " without saying why; is it headwater-api?";
        return hw_fail(err, status, "%s %s: the server answered %d%s", method, request->path,
                       answer->status, hint);
    }
    const char *type = text_member(answer->details, "type");
    const char *detail = text_member(answer->details, "detail");
    const char *place = text_member(answer->details, "path");
    if (strncmp(type, urn, strlen(urn)) == 0)
        strncat(answer->problem, type + strlen(urn), sizeof(answer->problem) - 1);
    if (*detail == '\0')
        detail = text_member(answer->details, "title");
    if (strcmp(answer->problem, "no-such-route") == 0)
        return hw_fail(
            err, HW_EPROTO,
            "%s %s: the server has no such route; is it older than this program, or does "
            "--server name the wrong path?",
            method, request->path);
    if (strstr(detail, place) != NULL)
        place = ""; /* it is said already */
    (void)hw_fail(err, status, "%.500s (%s%s%.100s)%s", *detail != '\0' ? detail : "refused",
                  *answer->problem != '\0' ? answer->problem : "no name",
                  *place != '\0' ? ", at " : "", place,
                  answer->status == 401 && *answer->problem != '\0'
                      ? "; a token goes into HEADWATER_TOKEN or --token-file"
                      : "");
    return status;
}

static enum hw_status refusal_error(struct cli_http *http, const struct cli_request *request,
                                    struct cli_answer *answer, struct hw_error *err)
{
    const enum hw_status status = problem_error(request, answer, err);

    /* nginx, and servers written in Go, answer plain HTTP in front of TLS with a text of their own.
     */
    if (answer->status == 400 && answer->details == NULL && cli_reach_is_https(http->base))
        return hw_fail(err, HW_EPROTO, "%s: %s", http->base, cli_reach_https_advice);
    return status;
}

struct body {
    struct hw_buf bytes;
    bool too_large;
};

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct body *body = arg;

    if (body->bytes.len + size * count > CLI_ANSWER_MOST) {
        body->too_large = true;
        return 0;
    }
    hw_buf_add(&body->bytes, bytes, size * count);
    return size * count;
}

static void read_answer(struct cli_http *http, struct body *body, struct cli_answer *answer)
{
    long status = 0;

    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    answer->status = (int)status;
    answer->media_type = header_value(http, "Content-Type");
    answer->etag = unquote(header_value(http, "ETag"));
    answer->lsn = header_value(http, "Headwater-LSN");
    HW_AUTO_FREE char *retry_after = header_value(http, "Retry-After");
    if (retry_after != NULL) {
        const long seconds = strtol(retry_after, NULL, 10);
        if (seconds > 0)
            answer->retry_after_ms = (seconds < RETRY_MOST_S ? seconds : RETRY_MOST_S) * 1000;
    }
    answer->body = hw_strdup(hw_buf_str(&body->bytes));
    if (body->bytes.len > 0) {
        free(answer->body);
        answer->body = HW_TAKE(body->bytes.data);
    }
    answer->len = body->bytes.len;
}

/* One exchange. *lost: the connection broke, so that nobody knows what became of the request;
 * *unreached: the server was never reached. */
static enum hw_status exchange(struct cli_http *http, const struct cli_request *r,
                               int64_t timeout_ms, struct cli_answer *answer, bool *lost,
                               bool *unreached, struct hw_error *err)
{
    const char *method = r->method != NULL ? r->method : "GET";
    struct header_list headers = {0};
    struct body body = {0};
    const int64_t start = cli_now_ms();
    hw_lsn lsn;

    prepare(http, r->path, &headers);
    if (r->if_match != NULL) {
        HW_AUTO_FREE char *tag =
            strcmp(r->if_match, "*") == 0 ? hw_strdup("*") : hw_sprintf("\"%s\"", r->if_match);
        add_header(&headers, "If-Match", tag);
    }
    if (r->create)
        add_header(&headers, "If-None-Match", "*");
    if (r->key != NULL)
        add_header(&headers, "Idempotency-Key", r->key);
    if (r->body != NULL) {
        add_header(&headers, "Content-Type", r->media_type);
        curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, r->body);
        curl_easy_setopt(http->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->len);
    }
    curl_easy_setopt(http->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers.list);
    curl_easy_setopt(http->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &body);
    const CURLcode code = curl_easy_perform(http->curl);
    enum hw_status st = HW_OK;

    *unreached = code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
                 code == CURLE_COULDNT_RESOLVE_PROXY;
    *lost = code != CURLE_OK && !*unreached;
    if (code == CURLE_OK) {
        read_answer(http, &body, answer);
        if (answer->status / 100 != 2)
            st = refusal_error(http, r, answer, err);
        else if (answer->lsn != NULL && hw_lsn_parse(answer->lsn, &lsn, err) != HW_OK)
            st = hw_fail(err, HW_EPROTO, "the answer's Headwater-LSN is no position");
    } else if (body.too_large) {
        st = hw_fail(err, HW_ELIMIT, "%s %s: the answer is larger than %zu MiB", method, r->path,
                     CLI_ANSWER_MOST >> 20);
    } else {
        st = transport_error(http, code, err);
    }
    hw_log_debug("request", HW_S("method", method), HW_S("path", r->path),
                 HW_I("status", answer->status), HW_I("ms", cli_now_ms() - start),
                 HW_S("problem", answer->problem));
    hw_buf_free(&body.bytes);
    curl_slist_free_all(headers.list);
    return st;
}

/* ---- again ---- */

static bool is_uncertain(const struct cli_answer *answer, bool lost)
{
    return lost || strcmp(answer->problem, "commit-outcome-unknown") == 0 ||
           strcmp(answer->problem, "idempotency-key-in-use") == 0;
}

enum hw_status cli_http_send(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, struct hw_error *err)
{
    const int64_t timeout =
        request->timeout_ms > 0 ? request->timeout_ms : http->options->timeout_ms;
    const int64_t deadline = cli_now_ms() + timeout;
    int64_t backoff = BACKOFF_LEAST_MS;
    bool sent = false, uncertain = false, lost, unreached;

    for (;;) {
        const int64_t left = deadline - cli_now_ms();
        const enum hw_status st =
            exchange(http, request, left > 1 ? left : 1, answer, &lost, &unreached, err);

        sent |= !unreached;
        /* An answer settles it, an attempt that did not get through leaves it as it was. */
        if (answer->status != 0 || lost)
            uncertain = is_uncertain(answer, lost);
        const bool again =
            request->key != NULL && sent &&
            (st == HW_EUNAVAIL || lost || strcmp(answer->problem, "idempotency-key-in-use") == 0);
        int64_t pause = answer->retry_after_ms > backoff ? answer->retry_after_ms : backoff;
        if (st == HW_OK)
            return st;
        if (again && cli_now_ms() + pause < deadline) {
            hw_log_debug("again", HW_I("pause_ms", pause), HW_E(err));
            cli_answer_free(answer);
            poll(NULL, 0, (int)pause);
            backoff = backoff * 2 < BACKOFF_MOST_MS ? backoff * 2 : BACKOFF_MOST_MS;
            continue;
        }
        answer->uncertain = uncertain;
        return st;
    }
}

enum hw_status cli_http_json(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, json_t **object, struct hw_error *err)
{
    const char *method = request->method != NULL ? request->method : "GET";
    enum hw_status st = cli_http_send(http, request, answer, err);

    if (st != HW_OK)
        return st;
    if (!is_json(answer->media_type))
        return hw_fail(err, HW_EPROTO, "%s %s: the answer is %s, not JSON; is it headwater-api?",
                       method, request->path,
                       answer->media_type != NULL ? answer->media_type : "of no type");
    st = hw_json_parse_object(answer->body, answer->len, object, err);
    if (st == HW_OK)
        return st;
    err->status = HW_EPROTO;
    return hw_fail_in(err, "%s %s: the answer is broken", method, request->path);
}

/* ---- streams ---- */

struct stream {
    struct cli_http *http;
    const struct cli_stream *to;
    struct body body; /* of an answer that is no stream */
    bool ended;       /* by take or rest */
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
        return on_body(bytes, size, count, &stream->body);
    stream->ended = !stream->to->take(stream->to->arg, bytes, size * count);
    return stream->ended ? 0 : size * count;
}

/* How the transfer ended; HW_ESTOPPED, HW_ETIMEOUT: before its end, because we were told to. */
static enum hw_status transfer(struct stream *stream, CURLM *multi, CURLcode *code)
{
    const struct cli_stream *to = stream->to;
    int running = 1, left;

    while (curl_multi_perform(multi, &running) == CURLM_OK && running > 0) {
        struct curl_waitfd stop = {.fd = to->stop_fd, .events = CURL_WAIT_POLLIN};
        const int64_t time = to->deadline_ms > 0 ? to->deadline_ms - cli_now_ms() : REST_MS;

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

/* Whatever came of it but a stream that was told to end. */
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
        st = transport_error(stream->http, code, err);
    read_answer(stream->http, &stream->body, &answer);
    *status = answer.status;
    if (st == HW_EPROTO && answer.status / 100 == 2)
        st = hw_fail(err, HW_EPROTO, "GET %s: the answer is no stream of events", path);
    else if (code == CURLE_OK && answer.status / 100 != 2)
        st = refusal_error(stream->http, &request, &answer, err);
    cli_answer_free(&answer);
    return st;
}

enum hw_status cli_http_stream(struct cli_http *http, const char *path, const char *last_event_id,
                               const struct cli_stream *to, int *status, struct hw_error *err)
{
    struct cli_http own = {.options = http->options, .base = http->base};
    struct stream stream = {.http = &own, .to = to};
    struct header_list headers = {0};
    CURLM *multi = curl_multi_init();
    CURLcode code = CURLE_OK;

    *status = 0;
    own.curl = curl_easy_init();
    if (own.curl == NULL || multi == NULL) {
        curl_easy_cleanup(own.curl);
        curl_multi_cleanup(multi);
        return hw_fail(err, HW_ELIMIT, "no memory for a connection");
    }
    prepare(&own, path, &headers);
    add_header(&headers, "Accept", "text/event-stream");
    if (last_event_id != NULL)
        add_header(&headers, "Last-Event-ID", last_event_id);
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
