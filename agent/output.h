/* The output file, looked at: is it what it should be, and what is there before we ever wrote it?
 */
#ifndef HW_AGENT_OUTPUT_H
#define HW_AGENT_OUTPUT_H

#include "agent/document.h"
#include "common/status.h"

/* Does the file hold exactly the bytes of document? False also where it cannot be read. */
bool agent_output_is(const char *path, const struct agent_document *document);

/* Reads the file, of at most AGENT_DOCUMENT_MAX bytes; *document gets its size and digest, revision
 * 0. *bytes is malloc'ed; the caller frees it. HW_ENOENT where there is none. */
enum hw_status agent_output_read(const char *path, struct agent_document *document, char **bytes,
                                 struct hw_error *err) HW_CHECKED;

#endif
