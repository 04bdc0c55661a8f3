/*
 * The answer of the reconciler that leads (subjects.h has the question): which database it reads
 * and into which bucket it writes. Another reconciler tells by it whether the bucket is taken. The
 * answer has more members, for people; they are listed in docs/protocol.md.
 */
#ifndef HW_PROTOCOL_LEADER_H
#define HW_PROTOCOL_LEADER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "common/clock.h"

#define HW_LEADER_ADDRESS_MAX 512 /* bytes, with the NUL; the rest of a longer one is left out */

/* The database that a reconciler reads. */
struct hw_leader_database {
    char name[64];
    uint64_t system_id; /* of the cluster; copies of its files keep it … */
    uint32_t timeline;
    char started_at[HW_CLOCK_MAX];       /* … but two running servers are never started at once */
    char address[HW_LEADER_ADDRESS_MAX]; /* as it was told: hosts, ports, database, no password */
    bool connected, writable;
};

struct hw_leader {
    char instance[40]; /* drawn when the process starts */
    char host[256];    /* its machine; "": unknown */
    char bucket[128], slot[64];
    struct hw_leader_database database;
    int64_t rev;    /* of the newest row of changelog that its checkpoint covers; 0: none */
    char nonce[40]; /* that row's; "": none */
    /* It led, and cannot write its database any more: the bucket is free for somebody else. Why,
     * for people; "": it leads. */
    char yielded[512];
};

/* Is it the same database of the same running server? */
bool hw_leader_same_database(const struct hw_leader_database *a,
                             const struct hw_leader_database *b);

/* A new object with all of these members. */
json_t *hw_leader_json(const struct hw_leader *leader);

/* Reads an answer. HW_EPROTO: it is none, or lacks what is needed to tell databases apart. */
enum hw_status hw_leader_parse(const char *text, size_t size, struct hw_leader *leader,
                               struct hw_error *err) HW_CHECKED;

/* "the database headwater at db1:5432/headwater (system 77113…, timeline 3)", malloc'ed. */
char *hw_leader_database_text(const struct hw_leader_database *database);

#endif
