/*
 * The subjects of core NATS that Headwater uses beside those of its buckets. Each begins with the
 * name of the bucket and a dot.
 */
#ifndef HW_PROTOCOL_SUBJECTS_H
#define HW_PROTOCOL_SUBJECTS_H

/*
 * Who leads: the reconciler that leads answers a request on <bucket>.leader with one JSON object
 * that says how it stands (docs/protocol.md), and nobody else answers. Whoever wants to know asks,
 * and waits a moment.
 */
#define HW_SUBJECT_LEADER "leader"

/* Signs of life: a node sends a message on <bucket>.alive.<node> now and then. Its data is the
 * instance of the agent, as the report has it; older agents send none. No stream keeps it, and
 * nobody answers. */
#define HW_SUBJECT_ALIVE "alive"

/* An account without JetStream answers questions about streams for itself. The API's account
 * therefore has STREAM.INFO of the reconciler's account under <bucket>.streams.<stream>. */
#define HW_SUBJECT_STREAMS "streams"

/* Subjects, malloc'ed. node: ">" for those of all nodes. */
char *hw_subject_leader(const char *bucket);
char *hw_subject_alive(const char *bucket, const char *node);
char *hw_subject_stream(const char *bucket, const char *stream);
/* prefix: HW_HINT_DESIRED or HW_HINT_DECIDED. */
char *hw_subject_hint(const char *bucket, const char *prefix, const char *node);

#endif
