/*
 * The output: where the running document is for others to read. One file; or a directory of
 * generations, r<revision>-<12 digits of the digest>, with a symbolic link "current" to the one
 * that runs; or nothing. Every change is whole and durable when it returns, and killed in between
 * it is either the old document or the new one.
 */
#ifndef HW_AGENT_OUTPUT_H
#define HW_AGENT_OUTPUT_H

#include <sys/types.h>

#include "agent/document.h"
#include "common/status.h"

struct agent_output {
    const char *file; /* borrowed; one of the two, or neither */
    const char *dir;
    unsigned keep; /* generations, at least 1 */
    mode_t mode;
    uid_t owner; /* (uid_t)-1, (gid_t)-1: not changed */
    gid_t group;
};

/* The name that others read it by; NULL where there is no output. Caller: free. */
char *agent_output_path(const struct agent_output *output);

/* Is it exactly the bytes of document? False also where it cannot be read. Without an output: true.
 */
bool agent_output_is(const struct agent_output *output, const struct agent_document *document);

/* Reads it, at most AGENT_DOCUMENT_MAX bytes; *document gets its size and digest, revision 0.
 * *bytes is malloc'ed; the caller frees it. HW_ENOENT where there is none. */
enum hw_status agent_output_read(const struct agent_output *output, struct agent_document *document,
                                 char **bytes, struct hw_error *err) HW_CHECKED;

/* Makes it the bytes of document. */
enum hw_status agent_output_put(const struct agent_output *output,
                                const struct agent_document *document, const void *data,
                                struct hw_error *err) HW_CHECKED;

/* What is seen of it, a missing one included, is on the disk, too: a killed agent may have left it
 * otherwise. */
enum hw_status agent_output_sync(const struct agent_output *output,
                                 struct hw_error *err) HW_CHECKED;

/* Makes it as if there never was one. */
enum hw_status agent_output_remove(const struct agent_output *output,
                                   struct hw_error *err) HW_CHECKED;

/* Removes the generations of the lowest revisions above the number to keep, never the current one.
 */
void agent_output_sweep(const struct agent_output *output);

#endif
