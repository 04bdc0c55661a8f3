/*
 * The instance: what one running agent calls itself, so that two agents with one node's name are
 * told apart. It is drawn anew at each start and is kept on no disk, since a disk can be copied. It
 * begins with the name of the machine, for people who look for it.
 */
#ifndef HW_AGENT_INSTANCE_H
#define HW_AGENT_INSTANCE_H

#include "base/names.h"

/* Such as "daq-7-3f09c2d1a4b8"; a name by the rule of base/names.h. */
void agent_instance_draw(char instance[static HW_NAME_MOST + 1]);

#endif
