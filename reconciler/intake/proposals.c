#include "reconciler/intake/proposals.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/points.h"
#include "common/log.h"
#include "common/warning.h"
#include "protocol/keys.h"
#include "protocol/proposal.h"
#include "reconciler/intake/intake.h"

enum {
    BATCH_MOST = 100,
    /* A node sends its next proposal when it was told what became of the one before. The database
     * takes 60 within an hour. */
    WAITING_MOST = 1,
    PACE_EACH_MS = 1000,
    PACE_MOST = 10,
};

/* ---- reading ---- */

/* Without a usable ref, one is made of the bytes: the same bytes have the same ref, and are refused
 * once. */
static char *problem_of(const char *node, const char *ref, const char *value, size_t size,
                        const struct hw_error *why)
{
    const struct {
        const char *name, *value;
    } members[] = {{"{\"node\":", node}, {",\"ref\":", ref}, {",\"problem\":", why->message}};
    char own[] = "unreadable-0123456789abcdef";
    char hex[HW_DIGEST_HEX_MAX];
    struct hw_digest digest;
    struct hw_buf text = {0};

    hw_digest_of(value, size, &digest);
    memcpy(strchr(own, '-') + 1, hw_digest_hex(&digest, hex), 16);
    for (size_t i = 0; i < HW_COUNT(members); i++) {
        const char *member = members[i].value != NULL ? members[i].value : own;

        hw_buf_puts(&text, members[i].name);
        hw_buf_json_string(&text, member, strlen(member));
    }
    hw_buf_putc(&text, '}');
    return text.data;
}

char *rec_proposal_read(const char *node, const char *value, size_t size)
{
    HW_AUTO_JSON json_t *members = NULL;
    HW_AUTO_FREE char *ref = NULL;
    struct hw_error err;

    if (hw_proposal_read(node, value, size, &members, &ref, &err) != HW_OK)
        return problem_of(node, ref, value, size, &err);
    return hw_json_dump(members);
}

static char *read_proposal(void *arg, const char *node, const struct hw_kv_entry *entry,
                           struct hw_digest *standing)
{
    (void)arg;
    (void)standing;
    return rec_proposal_read(node, entry->value, entry->size);
}

/* ---- writing ---- */

static void take_answers(void *arg, const PGresult *result)
{
    (void)arg;
    HW_POINT("proposals-written");
    for (int i = 0; i < PQntuples(result); i++) {
        const char *node = PQgetvalue(result, i, 0), *ref = PQgetvalue(result, i, 1);
        const char *state = PQgetvalue(result, i, 3);

        if (PQgetisnull(result, i, 2))
            hw_warn_about(node, "passing over a proposal", HW_S("node", node), HW_S("ref", ref),
                          HW_S("why", strcmp(state, "unknown") == 0 ? "there is no such node"
                                                                    : "the node sends too many"));
        else
            hw_log_debug("proposal", HW_S("node", node), HW_S("ref", ref),
                         HW_S("id", PQgetvalue(result, i, 2)), HW_S("state", state));
    }
}

/* ---- life ---- */

enum hw_status rec_proposals_start(struct hw_loop *loop, struct hw_nats *nats, const char *conninfo,
                                   const char *bucket, struct rec_intake **out,
                                   struct hw_error *err)
{
    const struct rec_intake_config config = {
        .loop = loop,
        .nats = nats,
        .database = conninfo,
        .bucket = bucket,
        .prefix = HW_KEY_PROPOSED,
        .what = "proposals",
        .sql = "SELECT node, ref, id, state FROM headwater.propose($1::jsonb)",
        .batch_most = BATCH_MOST,
        .waiting_most = WAITING_MOST,
        .pace = {PACE_EACH_MS, PACE_MOST, PACE_MOST},
        .read = read_proposal,
        .answered = take_answers};

    return rec_intake_start(&config, out, err);
}
