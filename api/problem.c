#include "api/problem.h"

#include <stddef.h>

#define PROBLEM(variable, name, status, title, retry_after_s)                                      \
    const struct http_problem variable = {name, status, title, retry_after_s}

PROBLEM(api_malformed_json, "malformed-json", 400, "The body is not valid JSON", 0);
PROBLEM(api_unauthenticated, "unauthenticated", 401, "A valid token is needed", 0);
PROBLEM(api_forbidden, "forbidden", 403, "The caller's role may not do this", 0);
PROBLEM(api_no_such_resource, "no-such-resource", 404, "There is no such resource", 0);
PROBLEM(api_conflict, "conflict", 409, "Other resources stand in the way", 0);
PROBLEM(api_apply_failed, "apply-failed", 409, "Some nodes could not apply their configuration", 0);
PROBLEM(api_idempotency_key_in_use, "idempotency-key-in-use", 409,
        "The first request with this key still runs", 1);
PROBLEM(api_precondition_failed, "precondition-failed", 412, "The resource is not as expected", 0);
PROBLEM(api_invalid_body, "invalid-body", 422, "A member of the body is wrong", 0);
PROBLEM(api_invalid_content, "invalid-content", 422, "The content does not fit its media type", 0);
PROBLEM(api_refused, "refused", 422, "The database refuses the values", 0);
PROBLEM(api_position_ahead, "position-ahead", 422, "The position does not exist yet", 0);
PROBLEM(api_idempotency_key_reused, "idempotency-key-reused", 422, "Another request had this key",
        0);
PROBLEM(api_rate_limited, "rate-limited", 429, "Too many wrong tokens from this address", 0);
PROBLEM(api_database_unavailable, "database-unavailable", 503, "The database cannot be reached", 2);
PROBLEM(api_not_ready, "not-ready", 503, "The service is not ready", 5);
PROBLEM(api_contention, "contention", 503, "Others hold what this needs", 1);
PROBLEM(api_commit_outcome_unknown, "commit-outcome-unknown", 503,
        "Whether the change was committed is not known", 2);
PROBLEM(api_shutting_down, "shutting-down", 503, "The service is stopping", 2);
PROBLEM(api_too_slow, "too-slow", 504, "The database ended this before it was done", 0);
PROBLEM(api_wait_timeout, "wait-timeout", 504, "Not every node was done in time", 0);

const struct http_problem *const api_problems[] = {
    &api_malformed_json,
    &api_unauthenticated,
    &api_forbidden,
    &api_no_such_resource,
    &api_conflict,
    &api_apply_failed,
    &api_idempotency_key_in_use,
    &api_precondition_failed,
    &api_invalid_body,
    &api_invalid_content,
    &api_refused,
    &api_position_ahead,
    &api_idempotency_key_reused,
    &api_rate_limited,
    &api_database_unavailable,
    &api_not_ready,
    &api_contention,
    &api_commit_outcome_unknown,
    &api_shutting_down,
    &api_too_slow,
    &api_wait_timeout,
    NULL,
};
