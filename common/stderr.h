/*
 * Writing to stderr without ever waiting for whoever reads it.
 *
 * A log's reader that hangs leaves a full pipe behind, and write(2) to a full pipe waits: a program
 * that logged so would stand still with all that it does. So a line is written at once where that
 * needs no waiting. Otherwise it joins a queue of bounded size, which a thread of its own writes; a
 * program whose reader keeps up has no such thread. When the queue is full, lines are dropped and
 * counted, and once the reader takes lines again, one line says how many are missing. Lines that
 * cannot be written (a full disk, a reader that is gone, no stderr at all) are counted likewise.
 *
 * What stderr is decides how a line is written without waiting. O_NONBLOCK is not set on the
 * descriptor: the flag belongs to the open file, which other processes have as well.
 *
 *     socket        send(2) with MSG_DONTWAIT
 *     pipe, tty     through a second open file of the same pipe or terminal, by /proc/self/fd/2,
 *                   where O_NONBLOCK is ours alone; if it cannot be opened (another user's), the
 *                   thread writes every line
 *     file, device  write(2): a disk is no reader
 *
 * All functions may be called from any thread.
 */
#ifndef HW_STDERR_H
#define HW_STDERR_H

#include <stddef.h>
#include <stdint.h>

/* So many bytes may wait for the reader. */
#define HW_STDERR_WAITING_MOST ((size_t)256 * 1024)

/* Writes a text of whole lines, now or later. */
void hw_stderr_write(const char *text, size_t len);

/* How many texts were lost so far. */
uint64_t hw_stderr_lost(void);

/* Makes the line that tells of so many lost ones; malloc'ed, with its line end. */
typedef char *hw_stderr_notice_fn(uint64_t lost);
/* Without one, nothing tells of them but the count. */
void hw_stderr_on_loss(hw_stderr_notice_fn *notice);

/* Waits until nothing waits for the reader any more, at most so many milliseconds. */
void hw_stderr_finish(int64_t most_ms);

#endif
