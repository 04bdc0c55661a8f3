/*
 * What a service manager is told: readiness, a line of status, and signs of life, by the protocol
 * of sd_notify(3), which is a stable one of plain datagrams. Started without NOTIFY_SOCKET there is
 * no notifier: *notify is NULL, and with that every function here does nothing.
 *
 * Signs of life come from a timer of the loop, so a loop that is stuck gives none: every half
 * WATCHDOG_USEC once the program is ready, and before that, where start-up may take as long as a
 * server stays away, as an extension of the time that is left for it.
 *
 * A send waits for the manager at most a second, a sign of life not at all, and one that fails is
 * passed over: the program has its work to do, and a manager that hears nothing acts on that.
 */
#ifndef HW_NOTIFY_H
#define HW_NOTIFY_H

#include "common/loop.h"
#include "common/status.h"

struct hw_notify;

/*
 * Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that commands that
 * the program runs do not have them: before other threads start. HW_EINVAL when one is malformed.
 */
enum hw_status hw_notify_open(struct hw_loop *loop, struct hw_notify **notify,
                              struct hw_error *err) HW_CHECKED;

/* The program does its work, for the first time or again after hw_notify_reloading. */
void hw_notify_ready(struct hw_notify *notify, const char *status);
/* One line for people; nothing is sent while it stays the same. */
void hw_notify_status(struct hw_notify *notify, const char *status);
void hw_notify_reloading(struct hw_notify *notify);
void hw_notify_stopping(struct hw_notify *notify);

void hw_notify_close(struct hw_notify *notify); /* before the loop is freed */

#endif
