/*
 * headwater, the command line: what its commands share. A command sends its requests one after
 * another and ends; there is one thread and no loop.
 *
 * Exit status: the name of the error's kind says which (cli_exit_status in main.c).
 */
#ifndef HW_CLI_CLI_H
#define HW_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/client/http.h"
#include "common/json.h"
#include "common/status.h"

enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_NO = 1, /* done, and the answer is no: there are differences, nodes failed */
    CLI_EXIT_USAGE = 2,
    CLI_EXIT_NOT_FOUND = 3,
    CLI_EXIT_CONFLICT = 4,
    CLI_EXIT_REFUSED = 5,
    CLI_EXIT_DENIED = 6,
    CLI_EXIT_UNAVAILABLE = 7,
    CLI_EXIT_FAULT = 8,
};

struct cli_options {
    const char *server, *token, *token_file, *ca_file, *cert, *key, *context;
    int64_t timeout; /* 0: not given */
    struct {
        bool server, token_file, ca_file, cert, key, context, timeout;
    } by_flag; /* as opposed to the environment */
    const char *output;
    bool json;
    const char *file;
    bool content, dry_run, wait, last, watch, yes, create;
    const char *at, *selector, *state, *types, *node;
    int64_t limit, revision, count; /* 0: not given */
    const char *message, *idempotency_key, *if_match;
    const char *set;
    bool prune;
    const char *role, *expires_in, *name, *media_type;
    const char *labels;
    bool unknown, all_unknown;
    const char *log_level, *log_format;
};

struct cli {
    const struct cli_options *o;
    struct cli_http *http;
    char **operands; /* of the command */
    enum { CLI_TABLE, CLI_JSON, CLI_YAML, CLI_NAME } output;
    bool colour;   /* on stdout */
    bool wrote;    /* a write was carried out */
    bool negative; /* nothing went wrong, but the answer is no: CLI_EXIT_NO */
    bool misused;  /* the error is about how the command was called: CLI_EXIT_USAGE */
};

/* A command; operands as many as its table says. */
typedef enum hw_status cli_command_fn(struct cli *cli, char **operands, int count,
                                      struct hw_error *err);

cli_command_fn cli_accept, cli_apply, cli_approve, cli_audit, cli_context, cli_delete, cli_describe,
    cli_diff, cli_edit, cli_explain, cli_export, cli_fleet, cli_get, cli_history, cli_proposals,
    cli_put, cli_reject, cli_rollback, cli_set, cli_status, cli_token, cli_wait, cli_watch;

/* get nodes --unknown. */
enum hw_status cli_get_unknown(struct cli *cli, struct hw_error *err) HW_CHECKED;

/* Like hw_fail with HW_EINVAL, for what is wrong on the command line. */
enum hw_status cli_misused(struct cli *cli, struct hw_error *err, const char *fmt, ...)
    HW_PRINTF(3, 4);

/* HW_EINVAL unless a node, config, assignment or token could have this name. */
enum hw_status cli_check_name(const char *name, struct hw_error *err) HW_CHECKED;

/* GET of a JSON object; the caller frees it. */
enum hw_status cli_fetch(struct cli *cli, const char *path, json_t **object,
                         struct hw_error *err) HW_CHECKED;

/* GET of a list, page after page, up to --limit items (preset: where it is not given, 0 is all) as
 * if it were one page: the first page's members, all items, and the last one's next. */
enum hw_status cli_fetch_list(struct cli *cli, const char *path, int64_t preset, json_t **list,
                              struct hw_error *err) HW_CHECKED;

/* ---- writing ---- */

/*
 * Sends a write of configuration with a key, message and dry_run as the options say, and shows what
 * came of it: a dry run as cli_plan_print; otherwise by show (tables only; NULL: nothing), then
 * remembers the position and waits for the nodes where --wait asks for it. request->path without a
 * query.
 */
typedef void cli_show_fn(struct cli *cli, const json_t *answer);
/* The warnings of an answer, on stderr. */
void cli_warn(const json_t *answer);
enum hw_status cli_write(struct cli *cli, struct cli_request *request, cli_show_fn *show,
                         struct hw_error *err) HW_CHECKED;

/* "config NAME is at revision N" */
cli_show_fn cli_show_config;

/* Waits until the nodes did what was asked up to a position, as long as --timeout says, and shows
 * how it ended (not in tables when quiet and all is well); sets cli->negative when nodes failed. */
enum hw_status cli_await(struct cli *cli, const char *lsn, bool quiet,
                         struct hw_error *err) HW_CHECKED;

/* Says on stderr what /v1/system finds wrong, if it can be asked and anything is. */
void cli_tell_trouble(struct cli *cli);

/* The position of the last write to this server, in a file of the user's; to forget one is no
 * error. HW_ENOENT: there is none. */
void cli_remember(const struct cli *cli, const char *lsn);
enum hw_status cli_remembered(const struct cli *cli, char **lsn, struct hw_error *err) HW_CHECKED;

#endif
