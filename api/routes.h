/* The table of the API's routes. */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "api/access/role.h"
#include "http/router.h"

/* The last one has no method. role is an enum api_role. */
extern const struct http_route api_routes[];

#endif
