/*
 * The state directory: where an agent keeps what it must know after a restart.
 *
 *     state.json    the state (agent/disk/state.h), replaced as a whole and durably
 *     hold          while this file exists, new configuration waits; see agent/disk/hold.h
 *     blob/<hex>    copies of the documents that the state names; <hex> is their SHA-256
 *     blob/<hex>.sources    the configs that such a document was made of, as its entry listed them
 *     proposals/    the proposals of the node; see agent/proposal.h
 *     lock          locked by the agent that uses the directory
 *
 * Every write is durable before its function returns, and the order of writes keeps the state true
 * at each moment: a copy is written before the state that names it, and old copies are removed only
 * after the state that no longer names them is on disk.
 */
#ifndef HW_AGENT_STORE_H
#define HW_AGENT_STORE_H

#include "agent/disk/state.h"
#include "base/status.h"

struct agent_store;

/* Makes the directory where it is missing and locks it: HW_ECONFLICT while another agent holds it.
 * The state is empty until agent_store_load. */
enum hw_status agent_store_open(const char *dir, struct agent_store **store,
                                struct hw_error *err) HW_CHECKED;
void agent_store_close(struct agent_store *store); /* NULL is fine */

/* Is path, which need not exist, one of the files that an agent keeps in the state directory dir,
 * or in a directory of its own there? Such a path cannot be an output. Other names in the directory
 * can. */
bool agent_store_owns(const char *dir, const char *path);

/*
 * Reads the state. Without a file the state is empty. HW_ECORRUPT: the file is damaged; it is
 * renamed to state.json.bad, and the state is empty. HW_ECONFLICT: it belongs to another node.
 * HW_EIO: there is a directory or a device in its place, which no crash leaves; it is not touched.
 */
enum hw_status agent_store_load(struct agent_store *store, const char *node,
                                struct hw_error *err) HW_CHECKED;

/* The state on disk, as of the last load or save. */
const struct agent_state *agent_store_state(const struct agent_store *store);

/* Makes next the state on disk. It writes nothing when next says the same as the last save. When
 * the write fails, the old state stays the state. */
enum hw_status agent_store_save(struct agent_store *store, const struct agent_state *next,
                                struct hw_error *err) HW_CHECKED;

/* The path at which the copy of a document is kept, whether or not it exists. Caller: free. */
char *agent_store_path(const struct agent_store *store, const struct agent_document *document);

/* Does a copy of the right size exist? Its digest is not computed. */
bool agent_store_has(const struct agent_store *store, const struct agent_document *document);

/* Keeps a copy of a document's bytes, which the caller has verified. Makes the directory again
 * where someone removed it. */
enum hw_status agent_store_put(struct agent_store *store, const struct agent_document *document,
                               const void *data, struct hw_error *err) HW_CHECKED;

/* Keeps the sources of a document (JSON) beside its copy, and writes nothing when the same text is
 * there. They only help with proposals, so they need not survive a power loss. */
enum hw_status agent_store_put_sources(struct agent_store *store,
                                       const struct agent_document *document, const char *sources,
                                       struct hw_error *err) HW_CHECKED;
/* Reads those sources in the state directory dir; malloc'ed, or NULL. */
char *agent_store_sources(const char *dir, const struct agent_document *document);

/* Reads the bytes of a kept document: HW_ENOENT, or HW_ECORRUPT when size or digest differ.
 * *data is malloc'ed; the caller frees it. */
enum hw_status agent_store_get(struct agent_store *store, const struct agent_document *document,
                               char **data, struct hw_error *err) HW_CHECKED;

/* Removes the copies that the state does not name. */
void agent_store_sweep(struct agent_store *store);

/* Reads the state of a directory that another process owns: HW_ENOENT where there is none. node
 * NULL: the state may be that of any node; *owner says which, and the caller frees it. *running:
 * an agent uses the directory now. */
enum hw_status agent_store_peek(const char *dir, const char *node, struct agent_state *state,
                                char **owner, bool *running, struct hw_error *err) HW_CHECKED;

#endif
