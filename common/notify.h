/*
 * Messages to a service manager: readiness, a line of status, and signs of life, by the protocol of
 * sd_notify(3), which is stable and consists of plain datagrams. Without NOTIFY_SOCKET there is no
 * notifier: *notify is NULL, and every function here does nothing with it.
 *
 * Signs of life come from a timer of the loop, so a loop that is stuck gives none. Once the program
 * is ready, one comes every half WATCHDOG_USEC. Before that the start may take as long as a server
 * stays away, so each one extends the time that is left for the start.
 *
 * A message waits for the manager at most a second, and a sign of life not at all. One that fails
 * is passed over: the program has its work to do, and a manager that hears nothing acts on that.
 */
#ifndef HW_NOTIFY_H
#define HW_NOTIFY_H

#include "base/status.h"
#include "common/loop.h"

struct hw_notify;

/*
 * Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that commands of
 * the program do not have them. Call it before other threads start. HW_EINVAL: one of them is
 * malformed.
 */
enum hw_status hw_notify_open(struct hw_loop *loop, struct hw_notify **notify,
                              struct hw_error *err) HW_CHECKED;

/* The program does its work, for the first time or again after hw_notify_reloading. */
void hw_notify_ready(struct hw_notify *notify, const char *status);
/* Sends one line for people, unless it is the same as the last one. */
void hw_notify_status(struct hw_notify *notify, const char *status);
void hw_notify_reloading(struct hw_notify *notify);
void hw_notify_stopping(struct hw_notify *notify);

void hw_notify_close(struct hw_notify *notify); /* before the loop is freed */

#endif
