/* The handlers of all routes, by the file in api/resources/ that has them. */
#ifndef API_HANDLERS_H
#define API_HANDLERS_H

#include "http/router.h"

/* nodes.c */
http_handler_fn api_nodes_list, api_nodes_get, api_nodes_put, api_nodes_delete;
/* unknown.c */
http_handler_fn api_unknown_list;
/* configs.c */
http_handler_fn api_configs_list, api_configs_get, api_configs_put, api_configs_delete,
    api_configs_content, api_configs_revisions, api_configs_rollback, api_configs_schema_get,
    api_configs_schema_put, api_configs_schema_delete;
/* assignments.c */
http_handler_fn api_assignments_list, api_assignments_get, api_assignments_put,
    api_assignments_delete;
/* apply.c */
http_handler_fn api_apply_post;
/* desired.c */
http_handler_fn api_desired_get, api_desired_content, api_reported_get;
/* explain.c */
http_handler_fn api_explain_get;
/* fleet.c */
http_handler_fn api_fleet_get;
/* instance.c */
http_handler_fn api_instance_put;
/* audit.c */
http_handler_fn api_audit_list;
/* proposals.c */
http_handler_fn api_proposals_list, api_proposals_get, api_proposals_content, api_proposals_approve,
    api_proposals_reject;
/* tokens.c */
http_handler_fn api_tokens_list, api_tokens_get, api_tokens_post, api_tokens_delete;
/* events.c */
http_handler_fn api_events_get;
/* wait.c */
http_handler_fn api_wait_get;
/* openapi.c */
http_handler_fn api_openapi_get, api_openapi_reference, api_openapi_routes;
/* health.c */
http_handler_fn api_health_live, api_health_ready;
/* system.c */
http_handler_fn api_system_get;
/* metrics.c */
http_handler_fn api_metrics_get;

#endif
