/*
 * Who leads a bucket: the reconciler that does answers a core NATS request on "<bucket>.leader"
 * with one JSON object that says how it stands (docs/protocol.md); nobody else answers. Whoever
 * wants to know asks, and waits a moment.
 */
#ifndef HW_PROTOCOL_LEADER_H
#define HW_PROTOCOL_LEADER_H

#define HW_LEADER_TOKEN "leader" /* of the subject, behind the bucket and a dot */

#endif
