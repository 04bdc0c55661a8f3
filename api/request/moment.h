/* ?at=: the time or position for which a state of the past is asked. */
#ifndef API_REQUEST_MOMENT_H
#define API_REQUEST_MOMENT_H

#include <stdbool.h>

#include "http/request.h"

enum api_moment_kind { API_MOMENT_NOW, API_MOMENT_TIME, API_MOMENT_LSN };

struct api_moment {
    enum api_moment_kind kind;
    const char *text; /* as PostgreSQL takes it; NULL for now */
};

/* Takes an LSN or a time of RFC 3339; none is now. False when the request was answered. */
bool api_moment_read(struct http_request *request, struct api_moment *moment);

#endif
