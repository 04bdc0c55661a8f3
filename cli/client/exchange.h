/*
 * One exchange with the server: a request is made ready for libcurl, and its answer is judged.
 * Nothing in the answer is believed: its size is bounded, and its problem becomes our error.
 */
#ifndef HW_CLI_CLIENT_EXCHANGE_H
#define HW_CLI_CLIENT_EXCHANGE_H

#include <curl/curl.h>

#include "base/status.h"
#include "cli/client/request.h"

/* A connection, by which one exchange after another is made. */
struct cli_http {
    const struct cli_http_options *options;
    char *base; /* without the slash at the end */
    CURL *curl;
    char curl_error[CURL_ERROR_SIZE];
};

struct cli_headers {
    struct curl_slist *list;
};
void cli_headers_add(struct cli_headers *headers, const char *name, const char *value);

/* The body of an answer, as far as it came. */
struct cli_body {
    struct hw_buf bytes;
    bool too_large; /* more than CLI_ANSWER_MOST */
};
/* For CURLOPT_WRITEFUNCTION; arg: a struct cli_body. */
size_t cli_body_add(char *bytes, size_t size, size_t count, void *arg);

/* Sets what every request to this server has. */
void cli_exchange_prepare(struct cli_http *http, const char *path, struct cli_headers *headers);

/* Takes status, fields and body of the answer that came. */
void cli_exchange_read(struct cli_http *http, struct cli_body *body, struct cli_answer *answer);

/* The error for an exchange that libcurl could not make. */
enum hw_status cli_exchange_broken(struct cli_http *http, CURLcode code, struct hw_error *err);

/* The error for an answer that is none of 2xx. */
enum hw_status cli_exchange_refused(struct cli_http *http, const struct cli_request *request,
                                    struct cli_answer *answer, struct hw_error *err);

/* Makes one exchange. *lost: the connection broke, so nobody knows what became of the request.
 * *unreached: the server was never reached. */
enum hw_status cli_exchange_make(struct cli_http *http, const struct cli_request *request,
                                 int64_t timeout_ms, struct cli_answer *answer, bool *lost,
                                 bool *unreached, struct hw_error *err) HW_CHECKED;

/* Is this media type JSON? NULL is none. */
bool cli_exchange_is_json(const char *media_type);

#endif
