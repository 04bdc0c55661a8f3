/* What a write did and hardly meant: headwater.warnings(), as a member of its answer. */
#ifndef API_WARNINGS_H
#define API_WARNINGS_H

#include <jansson.h>
#include <libpq-fe.h>

struct api_transaction;

/* Adds the statement, behind those that change something. */
void api_warnings_ask(struct api_transaction *tx);

/* [{"code", "kind", "name", "message"}], from its rows. */
json_t *api_warnings_json(const PGresult *rows);

#endif
