/*
 * The words of a command line as the operator wrote it. No shell reads the line.
 */
#ifndef AGENT_DAEMON_WORDS_H
#define AGENT_DAEMON_WORDS_H

#include "base/status.h"

/*
 * Splits a command line into words. Blanks separate them; 'single quotes' keep everything; "double
 * quotes" keep everything but \" and \\; elsewhere a backslash keeps the next character. Nothing is
 * expanded. *words ends with NULL and is one block of memory, which the caller frees. HW_EINVAL: an
 * open quote, a backslash at the end, or no word at all.
 */
enum hw_status agent_words_split(const char *line, char ***words, struct hw_error *err) HW_CHECKED;

/*
 * HW_EINVAL for something outside of quotes that is meant for a shell: && || | ; & redirections,
 * $NAME ${ $( ` ~/ and NAME=value in front. A pattern (* or [) is not refused, because some
 * programs expand it themselves: *glob is its place, or NULL.
 */
enum hw_status agent_words_check(const char *line, const char **glob,
                                 struct hw_error *err) HW_CHECKED;

#endif
