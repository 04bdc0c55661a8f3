/*
 * The report: what stands under the key cfg.reported.<node> in the bucket of reports. The node
 * writes it whenever what it would say has changed; the reconciler reads it into
 * headwater.reported. A reader that comes late needs the last one only.
 */
#ifndef HW_PROTOCOL_REPORT_H
#define HW_PROTOCOL_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/lsn.h"
#include "base/names.h"
#include "base/status.h"

enum { HW_REPORT_WORDS_MOST = 4096 }; /* bytes of an error or a reason that are kept */

/* Which document it is about. */
struct hw_report_document {
    int64_t revision;
    struct hw_digest digest;
    struct hw_fence fence;
};

/* What a node says of itself. Strings are borrowed. */
struct hw_report {
    const char *node;
    const char
        *state; /* "applied"; "failed": the newest document was tried and does not run;
                   "rejected": it, or the entry, was turned away before anything was touched */
    const struct hw_report_document *running; /* NULL: nothing runs */
    const char *applied_at;                   /* of what runs, RFC 3339 */
    int64_t desired_revision;                 /* the newest that was accepted; 0: none */
    const char *agent;                        /* name and version of the program */
    const char *boot_id;                      /* the kernel's */
    const char *instance;                     /* which running agent it is; NULL: it has no name */
    double heartbeat_s; /* mean time between signs of life; 0: there are none */
    struct {
        bool set;
        const struct hw_report_document *document; /* NULL: of an entry that cannot be read */
        const char *stage, *error, *at;
    } failed; /* why the newest document does not run */
    struct {
        bool set;
        const char *since, *reason;
        int64_t waiting; /* the revision that waits; 0: it is not known */
    } held;              /* new configuration waits */
    struct {
        bool set;
        const char *at, *error;
        bool healed;
    } drift; /* the output was found changed */
};

/* The report without its time, so that two can be compared. Caller: json_decref. */
json_t *hw_report_json(const struct hw_report *report);
/* The value to publish at that time (RFC 3339); malloc'ed. */
char *hw_report_write(const json_t *report, const char *reported_at);
/*
 * Does a published value say the same? Its time and its instance do not count: an agent that was
 * started again need not report anew what stands there.
 */
bool hw_report_matches(const json_t *report, const char *value, size_t size);

/*
 * Who wrote a published value: its instance. Empty where it is no report, or one without an
 * instance, as older agents write them.
 */
void hw_report_instance(const char *value, size_t size, char instance[static HW_NAME_MOST + 1]);

/*
 * Reads value, which should be a report of node; the error says what is wrong with it. *report: the
 * members that are known, and no others, with texts cut to their limits (caller: json_decref).
 * *newest: of the fences in it; epoch 0 where there is none.
 */
enum hw_status hw_report_read(const char *node, const char *value, size_t size, json_t **report,
                              struct hw_fence *newest, struct hw_error *err) HW_CHECKED;

/* A digest of how the node stands, by a report that was read: the state, and revision and digest of
 * what runs and of what failed. Two reports with the same one differ in details. */
void hw_report_standing(const json_t *report, struct hw_digest *standing);

#endif
