/* The server's events, through reconnects, until something ends it. */
#ifndef HW_CLI_FOLLOW_H
#define HW_CLI_FOLLOW_H

#include "cli/cli.h"
#include "cli/client/events.h"

struct cli_follower {
    cli_event_fn *event;     /* false ends it */
    bool (*rest)(void *arg); /* as in struct cli_stream */
    void *arg;
};

/*
 * Events of a path, which goes on behind the last one when the connection breaks. HW_OK when event
 * or rest ended it; at ^C, which does so from now on (a second one at once); and when the time is
 * over (*over) that the flag --timeout gave: without the flag there is none. What it cannot come
 * over is an error, and so is a server that was never reached.
 */
enum hw_status cli_follow(struct cli *cli, const char *path, const struct cli_follower *follower,
                          bool *over, struct hw_error *err) HW_CHECKED;

#endif
