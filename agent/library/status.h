/* What the program sees of the agent's state: made on the agent's thread, copied for the program.
 */
#ifndef HW_AGENT_LIBRARY_STATUS_H
#define HW_AGENT_LIBRARY_STATUS_H

#include "agent/library/handle.h"

/* agent_hooks.changed; arg is the handle. */
void library_status_update(void *arg);

#endif
