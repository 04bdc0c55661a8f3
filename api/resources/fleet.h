/* The states of the fleet. */
#ifndef API_RESOURCES_FLEET_H
#define API_RESOURCES_FLEET_H

#include <jansson.h>
#include <libpq-fe.h>

/* Rows of "state" and "count" as an object. Every state is named, also those that no node is in. */
json_t *api_fleet_counts(const PGresult *rows);

#endif
