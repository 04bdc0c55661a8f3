/* Follows the server's events, through reconnects, until something ends it. */
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
 * Follows the events of a path. When the connection breaks, it goes on behind the last event.
 * HW_OK: event or rest ended it; or ^C did, which does so from now on (a second ^C ends the program
 * at once); or the time of the flag --timeout is over, with *over set. Without the flag there is no
 * such time. An error that no reconnect can mend is returned, and so is that of a server that was
 * never reached.
 */
enum hw_status cli_follow(struct cli *cli, const char *path, const struct cli_follower *follower,
                          bool *over, struct hw_error *err) HW_CHECKED;

#endif
