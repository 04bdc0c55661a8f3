/*
 * The program's own connection to the database, which serves no request. On it the program listens
 * for notifications (LISTEN), and the parts that follow what happens in the database ask about it:
 * the tokens, those who wait, the event streams. They never compete with requests for a connection
 * of the pool.
 *
 * Each part is a subscriber. It names channels and is told when something happened on one of them.
 * To ask something it gets in line, and asks when its turn comes, with what it knows by then. One
 * question runs at a time.
 */
#ifndef API_LISTENER_H
#define API_LISTENER_H

#include <stdbool.h>
#include <sys/queue.h>

#include "base/status.h"
#include "common/loop.h"
#include "pg/database.h"

/* All functions are called on the loop's thread; any may be NULL. */
struct api_subscriber {
    const char *const *channels; /* NULL ends the list */
    /* The channels are listened to, perhaps again: what happened meanwhile was not notified. */
    void (*up)(void *arg);
    /* They are not, or not any more. A question that ran was answered with HW_EUNAVAIL before. */
    void (*down)(void *arg, const struct hw_error *why);
    void (*notify)(void *arg);
    /* The connection is free: ask with api_listener_ask, or do nothing. */
    void (*turn)(void *arg);
    void *arg;

    /* the listener's own */
    TAILQ_ENTRY(api_subscriber) link, line_link;
    bool in_line;
};

struct api_listener;
struct hw_pool;
/* The pool tells the log why the database cannot be reached, and the listener why it alone cannot
 * be served. The pool is borrowed. */
enum hw_status api_listener_open(struct hw_loop *loop, const char *conninfo,
                                 const struct hw_pool *pool, struct api_listener **listener,
                                 struct hw_error *err) HW_CHECKED;
/* Ends the connection: no subscriber is called any more, and no question is answered. */
void api_listener_stop(struct api_listener *listener);
void api_listener_free(struct api_listener *listener); /* NULL is fine */

/* Before the loop runs. The subscriber is borrowed until the listener is stopped. */
void api_listener_subscribe(struct api_listener *listener, struct api_subscriber *subscriber);

bool api_listener_up(const struct api_listener *listener);
/* Why it is not, with what to do; no secret. */
const char *api_listener_trouble(const struct api_listener *listener);

/* Gets in line for a turn, which comes at once where nothing runs. Nothing happens while the
 * listener is not up: up tells when to get in line again. */
void api_listener_line_up(struct api_listener *listener, struct api_subscriber *subscriber);

/* Within a turn, once. False when the connection was lost just now; done is not called then. */
bool api_listener_ask(struct api_listener *listener, enum hw_db_mode mode,
                      const struct hw_db_query *queries, int count, hw_db_done_fn *done, void *arg);

#endif
