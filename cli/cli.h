/*
 * headwater, the command line: the parts that all its commands use. A command sends its requests
 * one after another and ends. There is one thread and no loop.
 *
 * The exit status follows from the kind of the error (exit_status in main.c).
 */
#ifndef HW_CLI_CLI_H
#define HW_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"
#include "cli/client/request.h"

enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_NO = 1, /* done, and the answer is no: there are differences, or nodes failed */
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
    } by_flag; /* true if a flag gave the value, and not the environment */
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

struct cli_http; /* cli/client/http.h */

struct cli {
    const struct cli_options *o;
    struct cli_http *http;
    char **operands; /* of the command */
    enum { CLI_TABLE, CLI_JSON, CLI_YAML, CLI_NAME } output;
    bool colour;   /* on stdout */
    bool wrote;    /* a write was carried out */
    bool negative; /* there is no error, but the answer is no: CLI_EXIT_NO */
    bool misused;  /* the error is about how the command was called: CLI_EXIT_USAGE */
};

/* A command. The number of operands is one that its row in commands.h allows. */
typedef enum hw_status cli_command_fn(struct cli *cli, char **operands, int count,
                                      struct hw_error *err);

/* Shows an answer to people. */
typedef void cli_show_fn(struct cli *cli, const json_t *answer);

/* Like hw_fail with HW_EINVAL, for what is wrong on the command line. */
enum hw_status cli_misused(struct cli *cli, struct hw_error *err, const char *fmt, ...)
    HW_PRINTF(3, 4);

#endif
