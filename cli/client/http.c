#include "cli/client/http.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/client/exchange.h"
#include "common/log.h"
#include "common/loop.h"

enum { BACKOFF_LEAST_MS = 200, BACKOFF_MOST_MS = 5000 };

static char *url_part(CURLU *url, CURLUPart part)
{
    char *text = NULL, *copy = NULL;

    if (curl_url_get(url, part, &text, 0) == CURLUE_OK)
        copy = hw_strdup(text);
    curl_free(text);
    return copy;
}

/* A token must not travel in the clear to another machine without a word. It is a warning and no
 * error, because the network in between may be trusted. */
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
    HW_AUTO_FREE char *port = url_part(url, CURLUPART_PORT);
    if (port != NULL && strcmp(port, "0") == 0)
        return hw_fail(err, HW_EINVAL, "--server: \"%s\" has no port, which is 1 to 65535",
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

/* ---- again ---- */

/* Was the request perhaps carried out although no answer says so? The connection may have broken
 * behind the commit; the server may not know itself; or another request with the same key is
 * under way. */
static bool is_uncertain(const struct cli_answer *answer, bool lost)
{
    return lost || strcmp(answer->problem, "commit-outcome-unknown") == 0 ||
           strcmp(answer->problem, "idempotency-key-in-use") == 0;
}

/* A request with a key is safe to send again, because the server carries out each key once and
 * then repeats its answer. One that never reached a server is not sent again: a wrong address
 * should be told at once. */
enum hw_status cli_http_send(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, struct hw_error *err)
{
    const int64_t timeout =
        request->timeout_ms > 0 ? request->timeout_ms : http->options->timeout_ms;
    const int64_t deadline = hw_loop_now() + timeout;
    int64_t backoff = BACKOFF_LEAST_MS;
    bool sent = false, uncertain = false, lost, unreached;

    for (;;) {
        const int64_t left = deadline - hw_loop_now();
        const enum hw_status st =
            cli_exchange_make(http, request, left > 1 ? left : 1, answer, &lost, &unreached, err);

        sent |= !unreached;
        /* An answer settles whether it was done. An attempt that did not get through changes
         * nothing about that. */
        if (answer->status != 0 || lost)
            uncertain = is_uncertain(answer, lost);
        const bool again =
            request->key != NULL && sent &&
            (st == HW_EUNAVAIL || lost || strcmp(answer->problem, "idempotency-key-in-use") == 0);
        int64_t pause = answer->retry_after_ms > backoff ? answer->retry_after_ms : backoff;
        if (st == HW_OK)
            return st;
        if (again && hw_loop_now() + pause < deadline) {
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
    if (!cli_exchange_is_json(answer->media_type))
        return hw_fail(err, HW_EPROTO, "%s %s: the answer is %s, not JSON; is it headwater-api?",
                       method, request->path,
                       answer->media_type != NULL ? answer->media_type : "of no type");
    st = hw_json_parse_exact(answer->body, answer->len, object, err);
    if (st == HW_OK)
        return st;
    err->status = HW_EPROTO;
    return hw_fail_in(err, "%s %s: the answer is broken", method, request->path);
}
