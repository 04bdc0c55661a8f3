/*
 * Named points at which a test makes the program die or freeze: HW_POINT("after-publish").
 *
 * They exist only in builds with HW_FAULTS (make FAULTS=1, and every sanitizer build); elsewhere
 * they compile to nothing. HEADWATER_POINT="name:count[:stop]" arms one: the count-th passage sends
 * SIGKILL, or SIGSTOP, to the process itself.
 *
 *     after-blob-put      an object is acknowledged
 *     after-publish       an entry is acknowledged, and not yet covered by a checkpoint
 *     before-checkpoint   the checkpoint is about to be published
 *     before-feedback     the checkpoint is acknowledged, and not yet confirmed to PostgreSQL
 *     mid-snapshot        a page of a snapshot was compared
 *     mid-replay          a transaction of a replay from the log was handed over
 *     proposals-written   the database has taken proposals of nodes
 *     temp-written        of a file that is replaced: the new one is written, and not yet in place
 *     renamed             it is in place, and its directory not yet synced
 *     fetched             the agent has the bytes of a document
 *     validating          its validation has begun
 *     applying            it is in place, and its application has begun
 *     checking            the check of the node's health has begun
 *     rolling-back        the last known good is in place, and its application has begun
 *     recorded            the agent's state says that the document runs
 *     export-read         an export is read, and not yet known to be of one moment
 *     export-moved        one of its files is in place
 */
#ifndef HW_POINTS_H
#define HW_POINTS_H

#ifdef HW_FAULTS
void hw_point(const char *name);
#define HW_POINT(name) hw_point(name)
#else
#define HW_POINT(name) ((void)0)
#endif

#endif
