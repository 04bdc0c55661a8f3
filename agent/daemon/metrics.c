#include "agent/daemon/metrics.h"

#include <string.h>

#include "agent/disk/state.h"
#include "common/metrics.h"
#include "common/stderr.h"

struct shown {
    uint64_t connects, applies, failures, rollbacks, heals, log_lines_lost, unread;
    double nats_up, in_sync, failed, held, drift, conflict, running, desired;
};

#define ROW(member, name, text)                                                                    \
    {                                                                                              \
        HW_METRIC(struct shown, member, "headwater_agent_" name, text)                             \
    }

static const struct hw_metric table[] = {
    ROW(applies, "applies_total", "Documents that were put in place."),
    ROW(failures, "failures_total", "Tries to do so that failed."),
    ROW(rollbacks, "rollbacks_total", "Ways back to the last known good document."),
    ROW(heals, "heals_total", "Outputs that others had changed and that were restored."),
    ROW(connects, "connects_total", "Times that NATS was reached."),
    ROW(log_lines_lost, "log_lines_lost_total", "Lines of the log that nobody got."),
    ROW(unread, "reads_failed_total", "Reads of what is desired that failed."),
    ROW(nats_up, "nats_up", "1 while NATS is connected."),
    ROW(in_sync, "in_sync", "1 while it runs what is desired, as far as it knows."),
    ROW(failed, "failed", "1 while what is desired could not be run."),
    ROW(held, "held", "1 while new configuration waits for a release."),
    ROW(drift, "drift", "1 while the output is not what runs."),
    ROW(conflict, "conflict", "1 while another agent reports under this node's name."),
    ROW(running, "running_revision", "The revision that runs; -1: none."),
    ROW(desired, "desired_revision", "The revision that is asked for; 0: none is known."),
    {0},
};

void agent_metrics_check(void *arg, struct hw_checks *checks)
{
    struct headwater_agent_status s;

    headwater_agent_get_status(arg, &s, sizeof(s));
    hw_check(checks, "nats", s.connected != 0, "%s%s%s",
             s.connected ? "connected" : "cannot be reached", s.nats_error[0] != '\0' ? ": " : "",
             s.nats_error);
    hw_check(checks, "desired", s.unread_error[0] == '\0', "%s%s",
             s.unread_error[0] == '\0' ? "read" : "cannot be read for a minute and more: ",
             s.unread_error);
    hw_check(checks, "configuration", s.failed_stage[0] == '\0', "%s%s%s",
             s.failed_stage[0] != '\0' ? s.failed_stage
             : s.nothing_desired       ? AGENT_NOTHING_DESIRED
                                       : headwater_agent_phase_name(s.phase),
             s.failed_stage[0] == '\0' ? "" : ": ",
             s.failed_stage[0] == '\0' ? "" : s.failed_error);
}

void agent_metrics_write(void *arg, struct hw_buf *out)
{
    struct headwater_agent_status s;

    headwater_agent_get_status(arg, &s, sizeof(s));
    const struct shown shown = {
        .connects = s.connects,
        .applies = s.applies,
        .failures = s.failures,
        .rollbacks = s.rollbacks,
        .heals = s.heals,
        .log_lines_lost = hw_stderr_lost(),
        .unread = s.unread,
        .nats_up = s.connected,
        .in_sync = s.running > 0 && s.running == s.desired,
        .failed = s.failed_stage[0] != '\0',
        .held = s.held,
        .drift = s.drift,
        .conflict = s.conflict[0] != '\0',
        .running = (double)s.running,
        .desired = (double)s.desired,
    };

    hw_metrics_write(&(struct hw_metrics){table, &shown}, out);
}
