/* Every route that there is. docs/http.md describes each. */
#include "api/routes.h"

#include "api/handlers.h"

const struct http_route api_routes[] = {
    {"GET", "/healthz", api_health_live, "", HTTP_BODY_NONE, API_ROLE_NONE},
    {"GET", "/readyz", api_health_ready, "", HTTP_BODY_NONE, API_ROLE_NONE},
    {"GET", "/metrics", api_metrics_get, "", HTTP_BODY_NONE, API_ROLE_VIEWER},

    {"GET", "/openapi.json", api_openapi_get, "", HTTP_BODY_NONE, API_ROLE_NONE},
    {"GET", "/v1", api_openapi_routes, "", HTTP_BODY_NONE, API_ROLE_NONE},
    {"GET", "/v1/reference", api_openapi_reference, "", HTTP_BODY_NONE, API_ROLE_NONE},

    {"GET", "/v1/system", api_system_get, "", HTTP_BODY_NONE, API_ROLE_VIEWER},

    {"GET", "/v1/nodes", api_nodes_list, "selector fields limit after", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"GET", "/v1/nodes/{name}", api_nodes_get, "", HTTP_BODY_NONE, API_ROLE_VIEWER},
    {"PUT", "/v1/nodes/{name}", api_nodes_put, "message dry_run", HTTP_BODY_JSON,
     API_ROLE_OPERATOR},
    {"DELETE", "/v1/nodes/{name}", api_nodes_delete, "message dry_run", HTTP_BODY_NONE,
     API_ROLE_OPERATOR},
    {"GET", "/v1/nodes/{name}/desired", api_desired_get, "at", HTTP_BODY_NONE, API_ROLE_VIEWER},
    {"GET", "/v1/nodes/{name}/desired/content", api_desired_content, "at", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"GET", "/v1/nodes/{name}/reported", api_reported_get, "at", HTTP_BODY_NONE, API_ROLE_VIEWER},
    {"PUT", "/v1/nodes/{name}/instance", api_instance_put, "message dry_run", HTTP_BODY_JSON,
     API_ROLE_OPERATOR},
    {"GET", "/v1/nodes/{name}/explain", api_explain_get, "path", HTTP_BODY_NONE, API_ROLE_VIEWER},

    {"GET", "/v1/unknown-nodes", api_unknown_list, "fields limit after", HTTP_BODY_NONE,
     API_ROLE_VIEWER},

    {"GET", "/v1/configs", api_configs_list, "fields limit after", HTTP_BODY_NONE, API_ROLE_VIEWER},
    {"GET", "/v1/configs/{name}", api_configs_get, "", HTTP_BODY_NONE, API_ROLE_VIEWER},
    {"PUT", "/v1/configs/{name}", api_configs_put, "message dry_run", HTTP_BODY_ANY,
     API_ROLE_OPERATOR},
    {"DELETE", "/v1/configs/{name}", api_configs_delete, "message dry_run", HTTP_BODY_NONE,
     API_ROLE_OPERATOR},
    {"GET", "/v1/configs/{name}/content", api_configs_content, "revision", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"GET", "/v1/configs/{name}/revisions", api_configs_revisions, "fields limit after",
     HTTP_BODY_NONE, API_ROLE_VIEWER},
    {"POST", "/v1/configs/{name}/rollback", api_configs_rollback, "message dry_run", HTTP_BODY_JSON,
     API_ROLE_OPERATOR},

    {"GET", "/v1/configs/{name}/schema", api_configs_schema_get, "", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"PUT", "/v1/configs/{name}/schema", api_configs_schema_put, "message dry_run",
     HTTP_BODY_JSON_SCHEMA, API_ROLE_OPERATOR},
    {"DELETE", "/v1/configs/{name}/schema", api_configs_schema_delete, "message dry_run",
     HTTP_BODY_NONE, API_ROLE_OPERATOR},

    {"GET", "/v1/assignments", api_assignments_list, "fields limit after", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"GET", "/v1/assignments/{name}", api_assignments_get, "", HTTP_BODY_NONE, API_ROLE_VIEWER},
    {"PUT", "/v1/assignments/{name}", api_assignments_put, "message dry_run", HTTP_BODY_JSON,
     API_ROLE_OPERATOR},
    {"DELETE", "/v1/assignments/{name}", api_assignments_delete, "message dry_run", HTTP_BODY_NONE,
     API_ROLE_OPERATOR},

    {"GET", "/v1/proposals", api_proposals_list, "node state fields limit after", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"GET", "/v1/proposals/{id}", api_proposals_get, "", HTTP_BODY_NONE, API_ROLE_VIEWER},
    {"GET", "/v1/proposals/{id}/content", api_proposals_content, "", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"POST", "/v1/proposals/{id}/approve", api_proposals_approve, "message dry_run", HTTP_BODY_JSON,
     API_ROLE_APPROVER},
    {"POST", "/v1/proposals/{id}/reject", api_proposals_reject, "message dry_run", HTTP_BODY_JSON,
     API_ROLE_APPROVER},

    {"POST", "/v1/apply", api_apply_post, "message dry_run set prune", HTTP_BODY_LARGE_JSON,
     API_ROLE_OPERATOR},

    {"GET", "/v1/fleet", api_fleet_get, "node state selector fields limit after", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"GET", "/v1/events", api_events_get, "node selector types last_event_id", HTTP_BODY_NONE,
     API_ROLE_VIEWER},
    {"GET", "/v1/wait", api_wait_get, "change lsn timeout", HTTP_BODY_NONE, API_ROLE_VIEWER},

    {"GET", "/v1/audit", api_audit_list, "kind name fields limit after", HTTP_BODY_NONE,
     API_ROLE_VIEWER},

    {"GET", "/v1/tokens", api_tokens_list, "fields limit after", HTTP_BODY_NONE, API_ROLE_ADMIN},
    {"GET", "/v1/tokens/{name}", api_tokens_get, "", HTTP_BODY_NONE, API_ROLE_ADMIN},
    {"POST", "/v1/tokens", api_tokens_post, "message", HTTP_BODY_JSON, API_ROLE_ADMIN},
    {"DELETE", "/v1/tokens/{name}", api_tokens_delete, "message", HTTP_BODY_NONE, API_ROLE_ADMIN},
    {0},
};
