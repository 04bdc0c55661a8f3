/*
 * The words of a command line as the operator wrote it. No shell reads it.
 */
#ifndef AGENT_DAEMON_WORDS_H
#define AGENT_DAEMON_WORDS_H

#include "common/status.h"

/*
 * Splits a command line into words: blanks separate; 'single quotes' keep everything; "double
 * quotes" keep everything but \" and \\; elsewhere a backslash keeps the next character. Nothing is
 * expanded. *words is NULL-terminated and one allocation: the caller frees it. HW_EINVAL for an
 * open quote, a backslash at the end, or no word at all.
 */
enum hw_status agent_words_split(const char *line, char ***words, struct hw_error *err) HW_CHECKED;

/*
 * HW_EINVAL for what was written for a shell and is not in quotes: && || | ; & redirections, $NAME
 * ${ $( ` ~/ and NAME=value in front. *glob: where a pattern (* or [) stands that a shell would
 * expand, or NULL; some programs expand it themselves, so that it is not refused.
 */
enum hw_status agent_words_check(const char *line, const char **glob,
                                 struct hw_error *err) HW_CHECKED;

#endif
