/*
 * Notices that files were changed by others: inotify(7) on the directories that hold them, and a
 * look now and then for what inotify misses (a network file system, a directory that was not
 * there).
 */
#ifndef HW_AGENT_NOTICE_H
#define HW_AGENT_NOTICE_H

#include "common/loop.h"

struct agent_notice;

/* Something may have changed: look. Our own writes count, too. */
typedef void agent_notice_fn(void *arg);

/* Calls look soon after a change (with inotify only), and every every_ms, more or less. */
struct agent_notice *agent_notice_new(struct hw_loop *loop, int64_t every_ms, bool inotify,
                                      agent_notice_fn *look, void *arg);
void agent_notice_free(struct agent_notice *notice); /* NULL is fine */

/* Calls look soon. */
void agent_notice_soon(struct agent_notice *notice);

/* Watches the file name in dir, or with NULL all of dir. The strings are copied. */
void agent_notice_add(struct agent_notice *notice, const char *dir, const char *name);

#endif
