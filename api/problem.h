/* The problems of the API, beside those of http/problem.h. docs/http.md explains each. */
#ifndef API_PROBLEM_H
#define API_PROBLEM_H

#include "http/problem.h"

extern const struct http_problem api_malformed_json, api_unauthenticated, api_forbidden,
    api_no_such_resource, api_conflict, api_apply_failed, api_idempotency_key_in_use,
    api_precondition_failed, api_invalid_body, api_invalid_content, api_refused, api_position_ahead,
    api_idempotency_key_reused, api_rate_limited, api_database_unavailable, api_not_ready,
    api_contention, api_commit_outcome_unknown, api_shutting_down, api_too_slow, api_wait_timeout;

/* All of them; NULL ends the list. */
extern const struct http_problem *const api_problems[];

#endif
