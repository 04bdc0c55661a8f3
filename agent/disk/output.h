/*
 * The output: the place where other programs read the running document. It is one file; or a
 * directory of generations, r<revision>-<12 digits of the digest>, with a symbolic link "current"
 * to the one that runs; or nothing. Every change is whole and durable when its function returns. If
 * the agent is killed in between, the output is the old document or the new one.
 */
#ifndef HW_AGENT_OUTPUT_H
#define HW_AGENT_OUTPUT_H

#include <sys/types.h>

#include "agent/disk/document.h"
#include "base/status.h"

struct agent_output {
    const char *file; /* borrowed; file, or dir, or neither */
    const char *dir;
    unsigned keep; /* how many generations, at least 1 */
    mode_t mode;
    uid_t owner; /* (uid_t)-1, (gid_t)-1: stays as it is */
    gid_t group;
};

/* The path by which others read it; NULL where there is no output. Caller: free. */
char *agent_output_path(const struct agent_output *output);

/* What is there in its place that an operator may not want replaced by the first change: a symbolic
 * link where a file is to be, something else than the agent's link where "current" is to be. A
 * sentence for the log, or NULL. */
const char *agent_output_oddity(const struct agent_output *output);

/* Has it exactly the bytes of document? True where there is no output; false where it cannot be
 * read. */
bool agent_output_is(const struct agent_output *output, const struct agent_document *document);

/* Reads it, at most AGENT_DOCUMENT_MAX bytes; *document gets its size and digest, revision 0.
 * *bytes is malloc'ed; the caller frees it. HW_ENOENT where there is none. */
enum hw_status agent_output_read(const struct agent_output *output, struct agent_document *document,
                                 char **bytes, struct hw_error *err) HW_CHECKED;

/* Makes it the bytes of document. */
enum hw_status agent_output_put(const struct agent_output *output,
                                const struct agent_document *document, const void *data,
                                struct hw_error *err) HW_CHECKED;

/* Puts on the disk what is seen of it, also that it is missing. A killed agent may have left a
 * change that was not synced. */
enum hw_status agent_output_sync(const struct agent_output *output,
                                 struct hw_error *err) HW_CHECKED;

/* Removes it, as if there had never been one. */
enum hw_status agent_output_remove(const struct agent_output *output,
                                   struct hw_error *err) HW_CHECKED;

/* Removes the generations of the lowest revisions, so that as many stay as are to be kept. The
 * current one stays in any case. */
void agent_output_sweep(const struct agent_output *output);

#endif
