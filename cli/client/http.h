/*
 * The Management API over HTTP, one request after another on one connection. Blocks.
 *
 * What the server answers is not believed: its size is bounded, its problems are turned into our
 * errors (see cli_http_send). What it says of itself goes through cli/text.h before it is
 * shown.
 */
#ifndef HW_CLI_HTTP_H
#define HW_CLI_HTTP_H

#include "cli/client/request.h"
#include "common/status.h"

struct cli_http;

/* The strings must outlive it. */
enum hw_status cli_http_open(const struct cli_http_options *options, struct cli_http **http,
                             struct hw_error *err) HW_CHECKED;
void cli_http_close(struct cli_http *http); /* NULL is fine */

/*
 * HW_OK for 2xx only. *answer is filled in as far as one came, in any case: the caller frees it.
 * HW_ENOENT 404 of a resource; HW_ECONFLICT 409, 412; HW_EINVAL other 4xx; HW_EDENIED 401, 403;
 * HW_ETIMEOUT 504 or no answer in time; HW_EUNAVAIL 429, 502, 503, nobody there, or a connection
 * that broke; HW_EPROTO, HW_ELIMIT whatever else.
 *
 * A request with a key is sent again after HW_EUNAVAIL and a lost connection, until its time is
 * over, but not when the server cannot be reached in the first place.
 */
enum hw_status cli_http_send(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, struct hw_error *err) HW_CHECKED;

/* The same for an answer that must be a JSON object; the caller frees *object. */
enum hw_status cli_http_json(struct cli_http *http, const struct cli_request *request,
                             struct cli_answer *answer, json_t **object,
                             struct hw_error *err) HW_CHECKED;

#endif
