#include "cli/client/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/json_text.h"
#include "base/lsn.h"
#include "base/memory.h"
#include "cli/client/reach.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/version.h"

enum {
    CONNECT_TIMEOUT_MS = 10000,
    RETRY_MOST_S = 3600, /* the longest pause that a server may ask for */
};

void cli_headers_add(struct cli_headers *headers, const char *name, const char *value)
{
    HW_AUTO_FREE char *line = hw_sprintf("%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(headers->list, line);

    if (longer == NULL)
        abort();
    headers->list = longer;
}

/* curl_easy_reset keeps the connection and its TLS session, and forgets everything else of the
 * last exchange. Redirections are not followed: a token would travel to a server that nobody
 * named. */
void cli_exchange_prepare(struct cli_http *http, const char *path, struct cli_headers *headers)
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
        cli_headers_add(headers, "Authorization", value);
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

enum hw_status cli_exchange_broken(struct cli_http *http, CURLcode code, struct hw_error *err)
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
    case CURLE_PARTIAL_FILE: /* it was cut short */
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

bool cli_exchange_is_json(const char *media_type)
{
    static const char *const types[] = {"application/json", "application/problem+json",
                                        "application/vnd.headwater.dry-run+json"};

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

/* Makes the error of an answer that is none of 2xx. */
static enum hw_status problem_error(const struct cli_request *request, struct cli_answer *answer,
                                    struct hw_error *err)
{
    static const char urn[] = "urn:headwater:problem:";
    const char *method = request->method != NULL ? request->method : "GET";
    const enum hw_status status = status_of(answer->status);

    if (cli_exchange_is_json(answer->media_type))
        answer->details = hw_json_load(answer->body, answer->len, JSON_REJECT_DUPLICATES, NULL);
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
        place = ""; /* the detail says it already */
    (void)hw_fail(err, status, "%.500s (%s%s%.100s)%s", *detail != '\0' ? detail : "refused",
                  *answer->problem != '\0' ? answer->problem : "no name",
                  *place != '\0' ? ", at " : "", place,
                  answer->status == 401 && *answer->problem != '\0'
                      ? "; a token goes into HEADWATER_TOKEN or --token-file"
                      : "");
    return status;
}

enum hw_status cli_exchange_refused(struct cli_http *http, const struct cli_request *request,
                                    struct cli_answer *answer, struct hw_error *err)
{
    const enum hw_status status = problem_error(request, answer, err);

    /* nginx, and servers written in Go, answer plain HTTP in front of TLS with a text of their own.
     */
    if (answer->status == 400 && answer->details == NULL && cli_reach_is_https(http->base))
        return hw_fail(err, HW_EPROTO, "%s: %s", http->base, cli_reach_https_advice);
    return status;
}

size_t cli_body_add(char *bytes, size_t size, size_t count, void *arg)
{
    struct cli_body *body = arg;

    if (body->bytes.len + size * count > CLI_ANSWER_MOST) {
        body->too_large = true;
        return 0;
    }
    hw_buf_add(&body->bytes, bytes, size * count);
    return size * count;
}

void cli_exchange_read(struct cli_http *http, struct cli_body *body, struct cli_answer *answer)
{
    long status = 0;

    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    answer->status = (int)status;
    answer->media_type = header_value(http, "Content-Type");
    answer->etag = unquote(header_value(http, "ETag"));
    answer->lsn = header_value(http, "Headwater-LSN");
    answer->change = header_value(http, "Headwater-Change");
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

enum hw_status cli_exchange_make(struct cli_http *http, const struct cli_request *r,
                                 int64_t timeout_ms, struct cli_answer *answer, bool *lost,
                                 bool *unreached, struct hw_error *err)
{
    const char *method = r->method != NULL ? r->method : "GET";
    struct cli_headers headers = {0};
    struct cli_body body = {0};
    const int64_t start = hw_loop_now();
    hw_lsn lsn;

    cli_exchange_prepare(http, r->path, &headers);
    if (r->if_match != NULL) {
        HW_AUTO_FREE char *tag =
            strcmp(r->if_match, "*") == 0 ? hw_strdup("*") : hw_sprintf("\"%s\"", r->if_match);
        cli_headers_add(&headers, "If-Match", tag);
    }
    if (r->create)
        cli_headers_add(&headers, "If-None-Match", "*");
    if (r->key != NULL)
        cli_headers_add(&headers, "Idempotency-Key", r->key);
    if (r->body != NULL) {
        cli_headers_add(&headers, "Content-Type", r->media_type);
        curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, r->body);
        curl_easy_setopt(http->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->len);
    }
    curl_easy_setopt(http->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers.list);
    curl_easy_setopt(http->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, cli_body_add);
    curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &body);
    const CURLcode code = curl_easy_perform(http->curl);
    enum hw_status st = HW_OK;

    *unreached = code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
                 code == CURLE_COULDNT_RESOLVE_PROXY;
    *lost = code != CURLE_OK && !*unreached;
    if (code == CURLE_OK) {
        cli_exchange_read(http, &body, answer);
        if (answer->status / 100 != 2)
            st = cli_exchange_refused(http, r, answer, err);
        else if (answer->lsn != NULL && hw_lsn_parse(answer->lsn, &lsn, err) != HW_OK)
            st = hw_fail(err, HW_EPROTO, "the answer's Headwater-LSN is no position");
        else if (answer->change != NULL && !cli_is_change(answer->change))
            st = hw_fail(err, HW_EPROTO, "the answer's Headwater-Change is no number");
    } else if (body.too_large) {
        st = hw_fail(err, HW_ELIMIT, "%s %s: the answer is larger than %zu MiB", method, r->path,
                     CLI_ANSWER_MOST >> 20);
    } else {
        st = cli_exchange_broken(http, code, err);
    }
    hw_log_debug("request", HW_S("method", method), HW_S("path", r->path),
                 HW_I("status", answer->status), HW_I("ms", hw_loop_now() - start),
                 HW_S("problem", answer->problem));
    hw_buf_free(&body.bytes);
    curl_slist_free_all(headers.list);
    return st;
}
