/* The figures that the daemon shows at --monitor. They are built on the library's public status
 * alone. */
#ifndef AGENT_DAEMON_METRICS_H
#define AGENT_DAEMON_METRICS_H

#include "agent/library/headwater_agent.h"
#include "http/monitor.h"

/* For struct hw_monitor_source; arg is the struct headwater_agent. The agent is ready when NATS is
 * reached and the desired document did not fail. */
void agent_metrics_check(void *arg, struct hw_checks *checks);
void agent_metrics_write(void *arg, struct hw_buf *out);

#endif
