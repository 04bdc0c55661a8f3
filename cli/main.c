/* headwater: run a fleet from the command line, through the Management API. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/client/http.h"
#include "cli/commands/commands.h"
#include "cli/contexts.h"
#include "cli/text.h"
#include "common/options.h"
#include "common/streams.h"

enum { TOKEN_FILE_MOST = 4096, LIMIT_MOST = 1000000 };

#define OPTION(member, ...) HW_OPTION_NO_ENV(struct cli_options, member, __VA_ARGS__)

/* Options of the connection have an environment variable, and a context may give them a value
 * (cli/contexts.h). Which of them wins depends on whether a flag gave the value. */
#define CONNECTION(member, ...)                                                                    \
    HW_OPTION(struct cli_options, member, __VA_ARGS__,                                             \
              .by_flag = offsetof(struct cli_options, by_flag.member))

static const char writers[] = "accept choose apply put edit set delete rollback approve reject";

static const struct hw_option options_table[] = {
    CONNECTION(context, STRING, "NAME",
               "which server, and how to get in, by a name that context add gave"),
    CONNECTION(server, STRING, "URL",
               "where headwater-api is, in the place of a context (default "
               "http://127.0.0.1:8080)"),
    HW_OPTION(struct cli_options, token, STRING, NULL,
              "the token to show to the server; wins over --token-file", .secret = true,
              .env_only = true),
    CONNECTION(token_file, STRING, "FILE", "a file that holds the token to show to the server"),
    CONNECTION(ca_file, STRING, "FILE",
               "the authorities (PEM) that may vouch for an https:// server"),
    CONNECTION(cert, STRING, "FILE", "our certificate (PEM)"),
    CONNECTION(key, STRING, "FILE", "the key (PEM) of our certificate"),
    CONNECTION(timeout, DURATION, "TIME",
               "how long a request may take, and how long to wait for nodes; with watch the flag "
               "ends it",
               .preset = "30s", .min = 1, .max = 86400000),
    OPTION(output, CHOICE, "FORM", "how to show what the server answers", .letter = 'o',
           .preset = "table", .choices = "table|json|yaml|name"),
    OPTION(json, FLAG, NULL, "the same as -o json"),
    OPTION(file, STRING, "FILE",
           "resources in YAML or JSON, or a directory; put: the content; - for standard input",
           .letter = 'f', .commands = "apply diff put"),
    OPTION(media_type, STRING, "TYPE",
           "what the content is, such as text/plain; of a file *.json known without",
           .commands = "put"),
    OPTION(create, FLAG, NULL, "only if there is no such config yet", .commands = "put"),
    OPTION(content, FLAG, NULL, "the document itself", .commands = "get proposals"),
    OPTION(at, STRING, "LSN|TIME", "as of a position, or of an RFC 3339 time", .commands = "get"),
    OPTION(revision, INT, "N", "with --content of a config: an older revision", .min = 1,
           .max = INT32_MAX, .commands = "get"),
    OPTION(selector, STRING, "LABELS",
           "only nodes with these labels: site=north,role=daq or a JSON object", .letter = 'l',
           .commands = "get fleet watch"),
    OPTION(watch, FLAG, NULL, "go on, and show what changes, until ^C", .letter = 'w',
           .commands = "get fleet"),
    OPTION(state, STRING, "STATE",
           "only nodes in this state: in_sync, pending, failed, unassigned, conflict or unknown; "
           "proposals: pending, approved, rejected, conflict or refused",
           .commands = "get fleet proposals"),
    OPTION(limit, INT, "N", "at most N items; all without it (audit: 50)", .min = 1,
           .max = LIMIT_MOST, .commands = "get fleet history audit token proposals"),
    OPTION(dry_run, FLAG, NULL, "change nothing, show what would change", .commands = writers),
    OPTION(yes, FLAG, NULL, "agree to what would be asked", .commands = "accept apply edit"),
    OPTION(wait, FLAG, NULL, "then wait until the nodes did it", .commands = writers),
    OPTION(message, STRING, "WHY", "why, for the history and the audit trail", .letter = 'm',
           .commands = writers),
    OPTION(if_match, STRING, "ETAG",
           "only if this is still the version of the resource; * if it is there",
           .commands = "put set delete rollback approve reject"),
    OPTION(idempotency_key, STRING, "KEY",
           "the key of a request that may have been carried out: do it once in all",
           .commands = "accept apply delete rollback approve reject"),
    OPTION(set, STRING, "NAME", "the named set that the files are of", .commands = "apply diff"),
    OPTION(prune, FLAG, NULL,
           "remove what the set applied before and the files no longer mention; asks",
           .commands = "apply diff"),
    OPTION(last, FLAG, NULL, "the last change from here on this server", .commands = "wait"),
    OPTION(node, STRING, "NAME", "only this node, its events or its proposals",
           .commands = "fleet watch proposals"),
    OPTION(types, STRING, "LIST", "only these events: desired,reported", .commands = "watch"),
    OPTION(count, INT, "N", "end after N events", .letter = 'n', .min = 1, .max = INT32_MAX,
           .commands = "watch"),
    OPTION(role, STRING, "ROLE", "create: viewer, operator, approver or admin",
           .commands = "token"),
    OPTION(expires_in, STRING, "TIME",
           "create: how long it is good, such as 30d; without it, until it is revoked",
           .commands = "token"),
    OPTION(unknown, FLAG, NULL, "nodes: those that are alive and that nobody registered",
           .commands = "get"),
    OPTION(labels, STRING, "LABELS", "labels for them: site=north,role=daq or a JSON object",
           .commands = "accept"),
    OPTION(all_unknown, FLAG, NULL, "all that get nodes --unknown lists", .commands = "accept"),
    OPTION(name, STRING, "NAME", "create, revoke: which one; the same as NAME behind the action",
           .commands = "token"),
    HW_OPTIONS_LOG(struct cli_options),
    {.name = NULL},
};

static const struct hw_command commands[] = {
#define ROW(command, operands, least, most, text) {#command, (operands), (text)},
    CLI_COMMANDS(ROW)
#undef ROW
        {.name = NULL},
};

/* The functions of the commands, in the same order as their help above. */
static const struct {
    cli_command_fn *run;
    int least, most; /* operands */
} runners[] = {
#define ROW(command, operands, least, most, text) {cli_##command, (least), (most)},
    CLI_COMMANDS(ROW)
#undef ROW
};

static const struct hw_program program = {
    .name = "headwater",
    .summary = "run a fleet through the Management API",
    .options = options_table,
    .commands = commands,
    .needs_command = true,
    .notes =
        "Exit status: 0 done; 1 the answer is no (differences, failed nodes, something wrong);\n"
        "2 wrong usage; 3 not found; 4 conflict, or not the version expected; 5 refused, invalid;\n"
        "6 not authenticated, or not allowed; 7 unavailable, or no answer in time; 8 a fault.\n",
};

/* Scripts decide by these numbers; they are in the manual page and must not change. */
static int exit_status(const struct cli *cli, enum hw_status status)
{
    switch (status) {
    case HW_OK:
        return cli->negative ? CLI_EXIT_NO : CLI_EXIT_OK;
    case HW_EINVAL:
        return cli->misused ? CLI_EXIT_USAGE : CLI_EXIT_REFUSED;
    case HW_ENOENT:
        return CLI_EXIT_NOT_FOUND;
    case HW_ECONFLICT:
        return CLI_EXIT_CONFLICT;
    case HW_EDENIED:
        return CLI_EXIT_DENIED;
    case HW_ETIMEOUT:
    case HW_EUNAVAIL:
        return CLI_EXIT_UNAVAILABLE;
    case HW_ELIMIT:
    case HW_ECORRUPT:
    case HW_EPROTO:
    case HW_EIO:
    case HW_ESTOPPED:
        return CLI_EXIT_FAULT;
    }
    return CLI_EXIT_FAULT;
}

/* A value of a header field must be one line of it. */
static enum hw_status check_header(const char *option, const char *value, struct hw_error *err)
{
    if (value == NULL)
        return HW_OK;
    if (*value == '\0' || strlen(value) > 255)
        return hw_fail(err, HW_EINVAL, "%s: 1 to 255 characters", option);
    for (const char *p = value; *p != '\0'; p++)
        if (*p < ' ' || *p > '~' || *p == '"')
            return hw_fail(err, HW_EINVAL, "%s: printable ASCII without double quotes", option);
    return HW_OK;
}

/* Prints a message on stderr, so that a terminal takes no harm from it. */
static void print_error(const char *message)
{
    struct hw_buf safe = {0};

    cli_text_add(&safe, message, strlen(message), false);
    fprintf(stderr, "%s: %s\n", program.name, hw_buf_str(&safe));
    hw_buf_free(&safe);
}

/* Reads a token from its file, without the blanks around it; *token is malloc'ed. */
static enum hw_status read_token(const char *path, char **token, struct hw_error *err)
{
    HW_AUTO_FREE char *text = NULL;
    size_t len;

    if (hw_file_read_any(path, TOKEN_FILE_MOST, &text, &len, err) != HW_OK) {
        (void)hw_fail_in(err, "--token-file");
        return err->status = HW_EINVAL;
    }
    const char *start = text + strspn(text, " \t\r\n");
    *token = hw_strndup(start, strcspn(start, " \t\r\n"));
    return HW_OK;
}

static enum hw_status connect_to(struct cli *cli, struct cli_http_options *http, char **token,
                                 struct hw_error *err)
{
    const struct cli_options *o = cli->o;
    enum hw_status st = HW_OK;

    *http = (struct cli_http_options){.server = o->server,
                                      .token = o->token,
                                      .ca_file = o->ca_file,
                                      .cert = o->cert,
                                      .key = o->key,
                                      .timeout_ms = o->timeout};
    if (o->token == NULL && o->token_file != NULL)
        st = read_token(o->token_file, token, err);
    if (*token != NULL)
        http->token = *token;
    if (st == HW_OK)
        st = cli_http_open(http, &cli->http, err);
    if (st != HW_OK)
        cli->misused = st == HW_EINVAL;
    return st;
}

static enum hw_status run(struct cli *cli, struct cli_options *o, size_t command, char **operands,
                          int count, struct hw_error *err)
{
    struct cli_http_options http;
    HW_AUTO_FREE char *token = NULL;
    HW_AUTO_JSON json_t *contexts = NULL;
    enum hw_status st = HW_OK;

    if (runners[command].run != cli_context) { /* which needs no server */
        st = cli_contexts_resolve(o, &contexts, err);
        cli->misused = st == HW_EINVAL;
        if (st == HW_OK)
            st = connect_to(cli, &http, &token, err);
    }
    if (st == HW_OK)
        st = runners[command].run(cli, operands, count, err);
    cli_http_close(cli->http);
    return st;
}

static enum hw_status check_usage(const struct cli_options *o, size_t command, int count,
                                  char **operands, struct hw_error *err)
{
    if (count < runners[command].least)
        return hw_fail(err, HW_EINVAL, "%s %s: an operand is missing", commands[command].name,
                       commands[command].arguments);
    if (count > runners[command].most)
        return hw_fail(err, HW_EINVAL, "%s: not understood", operands[runners[command].most]);
    if (o->message != NULL && !hw_utf8_valid(o->message, strlen(o->message), NULL))
        return hw_fail(err, HW_EINVAL, "--message: it is not UTF-8");
    if (check_header("--idempotency-key", o->idempotency_key, err) != HW_OK)
        return err->status;
    if (check_header("--media-type", o->media_type, err) != HW_OK)
        return err->status;
    return check_header("--if-match", o->if_match, err);
}

static void choose_output(struct cli *cli)
{
    static const char *const forms[] = {
        [CLI_TABLE] = "table", [CLI_JSON] = "json", [CLI_YAML] = "yaml", [CLI_NAME] = "name"};
    const char *no_colour = getenv("NO_COLOR");

    for (size_t i = 0; i < HW_COUNT(forms); i++)
        if (strcmp(cli->o->output, forms[i]) == 0)
            cli->output = i;
    if (cli->o->json)
        cli->output = CLI_JSON;
    cli->colour = isatty(STDOUT_FILENO) != 0 && (no_colour == NULL || *no_colour == '\0');
}

int main(int argc, char **argv)
{
    struct cli_options o = {0};
    struct cli cli = {.o = &o};
    struct hw_error err;
    const char *name;
    char **operands;
    size_t command = 0;
    int count;

    hw_streams_open(program.name, CLI_EXIT_FAULT);
    /* For the widths of characters; the output is UTF-8 in any case. */
    setlocale(LC_CTYPE, "C.UTF-8");
    if (hw_options_parse(&program, argc, argv, &o, &name, &operands, &count, &err) != HW_OK ||
        hw_options_log(o.log_level, o.log_format, &err) != HW_OK)
        return hw_options_usage_error(&program, &err);
    if (name == NULL) {
        (void)hw_fail(&err, HW_EINVAL, "a command is missing, such as get, apply or fleet");
        return hw_options_usage_error(&program, &err);
    }
    while (strcmp(commands[command].name, name) != 0)
        command++;
    if (check_usage(&o, command, count, operands, &err) != HW_OK)
        return hw_options_usage_error(&program, &err);
    cli.operands = operands;
    choose_output(&cli);
    const enum hw_status st = run(&cli, &o, command, operands, count, &err);
    if (st == HW_EINVAL && cli.misused)
        return hw_options_usage_error(&program, &err);
    if (st != HW_OK)
        print_error(err.message);
    return exit_status(&cli, st);
}
