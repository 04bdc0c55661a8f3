/*
 * The keys of Headwater, and the buckets that they stand in (docs/protocol.md). Each is spelled
 * here and nowhere else; scripts/check-words holds the rest of the sources to it.
 *
 * An installation has one name, that of its bucket. Two key-value buckets and one object bucket are
 * called after it. The reconciler alone writes to <bucket>, in which nodes read what they should
 * run and what was decided on their proposals. Nodes write to <bucket>_reports.
 */
#ifndef HW_PROTOCOL_KEYS_H
#define HW_PROTOCOL_KEYS_H

/* Every key of ours begins with this. */
#define HW_KEYS "cfg."

/* In <bucket>; each of the first two is followed by the name of a node. */
#define HW_KEY_DESIRED    HW_KEYS HW_HINT_DESIRED
#define HW_KEY_DECIDED    HW_KEYS HW_HINT_DECIDED
#define HW_KEY_CHECKPOINT HW_KEYS "checkpoint"
#define HW_KEYS_OF_NODES  HW_KEYS "*.>" /* a filter that the keys of nodes match, and no other */

/* In <bucket>_reports; each is followed by the name of a node. */
#define HW_KEY_REPORTED HW_KEYS "reported."
#define HW_KEY_PROPOSED HW_KEYS "proposed."

/* What follows the name of the installation in that of its second bucket. */
#define HW_BUCKET_REPORTS "_reports"
/* Bytes of a value and its headers that it takes: the 1 MiB of a proposal, and some headers. */
enum { HW_REPORTS_VALUE_MOST = (1 << 20) + (16 << 10) };

/*
 * A hint is a message of core NATS on <bucket>.desired.<node> or <bucket>.decided.<node>: the
 * stream publishes every entry again there when it has stored it. Nodes subscribe to hints because
 * a consumer of JetStream for each of ten thousand nodes would be too many for the server. A hint
 * says that there is something to read, and nothing in it is believed.
 */
#define HW_HINT_DESIRED "desired."
#define HW_HINT_DECIDED "decided."

/* The name of the node in a key that begins with prefix, as a pointer into key; NULL for any other
 * key. */
const char *hw_key_node(const char *key, const char *prefix);

/* Names, malloc'ed. */
char *hw_reports_bucket(const char *bucket);

#endif
