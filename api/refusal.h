/* The answer to a request whose batch failed: a problem, in the database's own words. */
#ifndef API_REFUSAL_H
#define API_REFUSAL_H

#include <stdbool.h>

#include "http/request.h"
#include "pg/database.h"

/* Answers the request. write: was something to be committed? */
void api_refusal_answer(struct http_request *request, const struct hw_db_outcome *outcome,
                        bool write);

#endif
