#include "cdc/tool/signals.h"

#include <signal.h>
#include <stddef.h>

enum hw_status cdc_signals_end(struct hw_loop *loop, hw_signal_fn *fn, void *arg,
                               struct hw_error *err)
{
    struct sigaction was;
    enum hw_status status = hw_loop_on_signal(loop, SIGINT, fn, arg, err);

    if (status == HW_OK)
        status = hw_loop_on_signal(loop, SIGTERM, fn, arg, err);
    /* The loop blocks a signal to read it from a descriptor, and Linux hands a blocked signal over
     * even where it is ignored. So one that is ignored must not be taken. */
    if (status == HW_OK && sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
        status = hw_loop_on_signal(loop, SIGHUP, fn, arg, err);
    return status;
}
