/* Warnings about effects of a write that its author probably did not mean: the rows of
 * headwater.warnings(), as a member of the answer. */
#ifndef API_WARNINGS_H
#define API_WARNINGS_H

#include <jansson.h>
#include <libpq-fe.h>

/* The statement, which must stand behind those that change something. */
extern const char api_warnings_sql[];

/* [{"code", "kind", "name", "message"}], from its rows. */
json_t *api_warnings_json(const PGresult *rows);

#endif
