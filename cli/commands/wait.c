/* wait: the barrier, for a change or a position that is named, or for the last change. */
#include "base/lsn.h"
#include "base/memory.h"
#include "cli/await.h"
#include "cli/commands/commands.h"
#include "cli/position.h"

enum hw_status cli_wait(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    HW_AUTO_FREE char *remembered = NULL;
    const char *text = count > 0 ? operands[0] : NULL;
    hw_lsn lsn;

    if ((count == 0) != cli->o->last)
        return cli_misused(cli, err, "wait: a change, a position (LSN), or --last");
    if (cli->o->last) {
        const enum hw_status st = cli_position_read(cli, &remembered, err);
        if (st != HW_OK)
            return st;
        text = remembered;
    }
    if (!cli_is_change(text) && hw_lsn_parse(text, &lsn, err) != HW_OK) {
        cli->misused = true;
        return hw_fail_in(err, "wait");
    }
    return cli_await(cli, text, false, err);
}
