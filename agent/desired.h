/*
 * Desired entries: what the key cfg.desired.<node> asks this node to run, and whether it is new.
 * Nothing here trusts the bytes: an entry counts only when every part of it is right.
 */
#ifndef HW_AGENT_DESIRED_H
#define HW_AGENT_DESIRED_H

#include "agent/disk/state.h"
#include "protocol/entry.h"
#include "protocol/statement.h"

/*
 * Decodes an entry. A deletion gives a document that is not set, with the fence of the deletion.
 * HW_EINVAL says what is wrong with it. Members that are not known are passed over. trust: keys of
 * which one must have signed it; NULL: signatures are not looked at.
 */
enum hw_status agent_desired_decode(const struct hw_entry *entry, const char *node,
                                    const struct hw_trust *trust, struct agent_document *document,
                                    struct hw_error *err) HW_CHECKED;

/* What its document is made of, the entry's "sources", as JSON; malloc'ed, or NULL. */
char *agent_desired_sources(const struct hw_entry *entry);

enum agent_verdict {
    AGENT_DESIRED_STALE, /* older than what was accepted before: someone put an old entry back */
    AGENT_DESIRED_KNOWN, /* it is what runs, or what was tried and failed */
    AGENT_DESIRED_NONE,  /* nothing is desired any more; what runs stays */
    AGENT_DESIRED_ADOPT, /* what runs already has these bytes: only the record changes */
    AGENT_DESIRED_APPLY, /* to be fetched and applied */
};

/* Judges a decoded entry by its fence. A known one that failed is to be applied when again is set.
 */
enum agent_verdict agent_desired_judge(const struct agent_state *state,
                                       const struct agent_document *desired, bool again);

#endif
