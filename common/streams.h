/*
 * The three standard streams of a program. Whoever starts it may have closed them, or may have left
 * pipes there that nobody reads, and then:
 *
 *   - what the program opens itself never gets the number 0, 1 or 2, so nothing that is meant for a
 *     stream goes into a connection or a file;
 *   - an answer that cannot be written is a failure, with a message and an exit status: nobody
 *     takes it for done, and nobody dies of SIGPIPE;
 *   - nothing waits for the reader of stderr (common/stderr.h).
 *
 * stdout does wait for its reader, as with any filter: its reader sets the pace.
 */
#ifndef HW_STREAMS_H
#define HW_STREAMS_H

#include "base/status.h"

/* The first thing in main. From here on a program that returns from main, or calls exit, fails with
 * this exit status instead of 0 or 1 when not all of its stdout could be written, and says so.
 * program: its name, for that message. */
void hw_streams_open(const char *program, int failure);

/* Has all that was printed written now: for a program that must know it before it goes on. */
enum hw_status hw_stdout_flush(struct hw_error *err) HW_CHECKED;

#endif
