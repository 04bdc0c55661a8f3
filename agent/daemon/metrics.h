/* What the daemon shows at --monitor: how it stands, and what it counted. Built on the library's
 * public status alone. */
#ifndef AGENT_DAEMON_METRICS_H
#define AGENT_DAEMON_METRICS_H

#include "agent/library/headwater_agent.h"
#include "http/monitor.h"

/* For struct hw_monitor_source; arg is the struct headwater_agent. Ready is an agent that NATS can
 * reach and that did not fail at what is desired. */
void agent_metrics_check(void *arg, struct hw_checks *checks);
void agent_metrics_write(void *arg, struct hw_buf *out);

#endif
