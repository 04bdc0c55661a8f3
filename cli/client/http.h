/*
 * The Management API over HTTP: one request after another on one connection. Every function blocks.
 *
 * Nothing in an answer is believed: its size is bounded, and its problem becomes our error (see
 * cli_http_send). The server's words go through cli/text.h before they are shown.
 */
#ifndef HW_CLI_HTTP_H
#define HW_CLI_HTTP_H

#include "base/status.h"
#include "cli/client/request.h"

struct cli_http;

/* The strings must outlive it. */
enum hw_status cli_http_open(const struct cli_http_options *options, struct cli_http **http,
                             struct hw_error *err) HW_CHECKED;
void cli_http_close(struct cli_http *http); /* NULL is fine */

/*
 * Sends a request. HW_OK is for 2xx only. *answer is filled in as far as one came, in any case, and
 * the caller frees it. HW_ENOENT: 404 of a resource; HW_ECONFLICT: 409, 412; HW_EINVAL: other 4xx;
 * HW_EDENIED: 401, 403; HW_ETIMEOUT: 504, or no answer in time; HW_EUNAVAIL: 429, 502, 503, nobody
 * there, or a connection that broke; HW_EPROTO, HW_ELIMIT: anything else.
 *
 * A request with a key is sent again after HW_EUNAVAIL and after a lost connection, until its time
 * is over; but not if the server cannot be reached in the first place.
 */
enum hw_status cli_http_send(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, struct hw_error *err) HW_CHECKED;

/* The same for an answer that must be a JSON object; the caller frees *object. */
enum hw_status cli_http_json(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, json_t **object,
                             struct hw_error *err) HW_CHECKED;

#endif
