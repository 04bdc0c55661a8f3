/*
 * The one rule for an event that a state table does not list: it is a mistake in the program. A
 * build for tests (HW_STRICT: every sanitizer build, and FAULTS=1) says so on standard error and
 * aborts, so that the mistake is found; any other build logs a warning and leaves the state as it
 * is, for a service that goes on is worth more than one that stopped.
 *
 * An event that may come in a state and changes nothing there is listed as well, without an action.
 */
#ifndef HW_UNLISTED_H
#define HW_UNLISTED_H

/* machine: whose table it is, as "reconciler"; state and event: their names. */
void hw_unlisted_event(const char *machine, const char *state, const char *event);

/* The same for a library, which tells its program and does not write to the log itself. The strings
 * are valid during the call. */
typedef void hw_unlisted_fn(void *arg, const char *message, const char *detail);
void hw_unlisted_event_tell(const char *machine, const char *state, const char *event,
                            hw_unlisted_fn *tell, void *arg);

#endif
