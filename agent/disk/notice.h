/*
 * Notices that someone changed a file: inotify(7) watches the directories, and a timer makes a look
 * now and then, because inotify misses changes on a network file system and in a directory that did
 * not exist.
 */
#ifndef HW_AGENT_NOTICE_H
#define HW_AGENT_NOTICE_H

#include "common/loop.h"

struct agent_notice;

/* Called when something may have changed. The agent's own writes cause it, too. */
typedef void agent_notice_fn(void *arg);

/* Calls look soon after a change, if inotify may be used, and about every every_ms in any case. */
struct agent_notice *agent_notice_new(struct hw_loop *loop, int64_t every_ms, bool inotify,
                                      agent_notice_fn *look, void *arg);
void agent_notice_free(struct agent_notice *notice); /* NULL is fine */

/* Calls look within 20 ms. */
void agent_notice_soon(struct agent_notice *notice);

/* Watches the file name in dir, or everything in dir if name is NULL. The strings are copied. */
void agent_notice_add(struct agent_notice *notice, const char *dir, const char *name);

#endif
