/*
 * Streamed changes on their way into apply: the meaning of a row of each table, and of a logical
 * message.
 */
#ifndef RECONCILER_PUBLISH_CHANGES_H
#define RECONCILER_PUBLISH_CHANGES_H

#include "cdc/source.h"
#include "reconciler/publish/apply.h"

#define REC_TABLES         "headwater.desired,headwater.decided,headwater.blob,headwater.changelog"
#define REC_MESSAGE_PREFIX "headwater"

/* Commands from SQL: headwater.resync() and headwater.replay(). They take effect when their
 * transaction commits. */
enum rec_command { REC_COMMAND_NONE, REC_COMMAND_RESYNC, REC_COMMAND_REPLAY };

struct rec_commands {
    enum rec_command command; /* the last one of the transaction */
    hw_lsn from, to;          /* of a replay; to: HW_LSN_NONE for the end */
};

/* Hands one change to apply, where a transaction is open. Commands are put into *commands. */
enum hw_status rec_change_take(struct rec_apply *apply, const struct cdc_transaction *tx,
                               const struct cdc_change *change, struct rec_commands *commands,
                               struct hw_error *err) HW_CHECKED;

#endif
