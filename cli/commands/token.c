/* token list | create | revoke */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/names.h"
#include "cli/client/http.h"
#include "cli/commands/commands.h"
#include "cli/fetch.h"
#include "cli/output.h"
#include "cli/text.h"
#include "common/streams.h"

static const struct cli_column columns[] = {
    {"NAME", "name", CLI_TEXT},
    {"ROLE", "role", CLI_TEXT},
    {"CREATED", "created_at", CLI_TIME},
    {"BY", "created_by", CLI_TEXT},
    {"EXPIRES", "expires_at", CLI_TIME},
    {"REVOKED", "revoked_at", CLI_TIME},
    {"LAST USED", "last_used_at", CLI_TIME},
    {.heading = NULL},
};

static void show_tokens(struct cli *cli, const json_t *list)
{
    cli_print_table(cli, json_object_get(list, "items"), columns);
}

/* Prints the token alone, so that it can go straight into a file. */
static void show_secret(struct cli *cli, const json_t *answer)
{
    const char *token = json_string_value(json_object_get(answer, "token"));

    cli_print_text(cli, token, 0);
    putchar('\n');
}

/* Explains it on stderr, so that stdout can go straight into a file. */
static void explain(const struct cli *cli, const json_t *answer)
{
    if (cli->output == CLI_TABLE)
        fputs("headwater: this is shown once; nobody can look it up later\n", stderr);
    if (json_is_true(json_object_get(answer, "first")))
        fputs("headwater: it is the first one: from now on every call needs a token, those of "
              "monitoring too, and whoever has none is answered 401\n"
              "headwater: for each of them, with this one in the file that HEADWATER_TOKEN_FILE "
              "names: headwater token create NAME --role viewer|operator|approver|admin; they keep "
              "theirs in such a file, too\n",
              stderr);
}

static enum hw_status list_tokens(struct cli *cli, struct hw_error *err)
{
    HW_AUTO_JSON json_t *list = NULL;
    const enum hw_status st = cli_fetch_list(cli, "/v1/tokens", 0, &list, err);

    if (st == HW_OK)
        cli_print(cli, list, show_tokens);
    return st;
}

static enum hw_status end_token(struct cli *cli, const char *name, struct hw_error *err)
{
    struct cli_answer answer = {0};
    struct hw_buf path = {0};

    hw_buf_puts(&path, "/v1/tokens");
    cli_path_add(&path, name);
    const struct cli_request request = {.method = "DELETE", .path = path.data};
    const enum hw_status st = cli_http_send(cli->http, &request, &answer, err);
    cli_answer_free(&answer);
    hw_buf_free(&path);
    return st;
}

/* Shows a token that was made. Nobody can read it again, so one that could not be shown may not be
 * good for whoever finds it. */
static enum hw_status show_new(struct cli *cli, const char *name, const json_t *answer,
                               struct hw_error *err)
{
    struct hw_error why;

    cli_print(cli, answer, show_secret);
    const enum hw_status st = hw_stdout_flush(err);
    if (st == HW_OK)
        explain(cli, answer);
    else if (end_token(cli, name, &why) == HW_OK)
        hw_fail_in(err, "the token %s could not be shown, and is revoked: make one by another name",
                   name);
    else
        hw_fail_in(err,
                   "the token %s could not be shown, and is good until you revoke it, since that "
                   "failed (%s)",
                   name, why.message);
    return st;
}

/* Sends no idempotency key: the server would keep the answer with the token in it. So the request
 * is not repeated either. */
static enum hw_status create_token(struct cli *cli, const char *name, struct hw_error *err)
{
    const struct cli_options *o = cli->o;
    HW_AUTO_JSON json_t *wish = json_object();
    HW_AUTO_JSON json_t *answer = NULL;
    struct cli_answer raw = {0};

    if (o->role == NULL)
        return cli_misused(cli, err,
                           "token create: --role is missing: viewer, operator, approver "
                           "or admin");
    json_object_set_new(wish, "name", json_string(name));
    json_object_set_new(wish, "role", json_string(o->role));
    if (o->expires_in != NULL)
        json_object_set_new(wish, "expires_in", json_string(o->expires_in));
    HW_AUTO_FREE char *body = cli_json_text(wish, false);
    const struct cli_request request = {.method = "POST",
                                        .path = "/v1/tokens",
                                        .media_type = "application/json",
                                        .body = body,
                                        .len = strlen(body)};
    enum hw_status st = cli_http_json(cli->http, &request, &raw, &answer, err);
    if (st == HW_OK && !json_is_string(json_object_get(answer, "token")))
        st = hw_fail(err, HW_EPROTO, "POST /v1/tokens: the answer holds no token");
    if (st == HW_OK)
        st = show_new(cli, name, answer, err);
    cli_answer_free(&raw);
    return st;
}

static enum hw_status revoke_token(struct cli *cli, const char *name, struct hw_error *err)
{
    const enum hw_status st = end_token(cli, name, err);

    if (st == HW_OK && cli->output == CLI_TABLE)
        printf("token %s is revoked\n", name);
    return st;
}

enum hw_status cli_token(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    const char *action = operands[0];
    const bool create = strcmp(action, "create") == 0;

    if (!create && (cli->o->role != NULL || cli->o->expires_in != NULL))
        return cli_misused(cli, err, "--role and --expires-in go with token create");
    if (strcmp(action, "list") == 0 && count == 1 && cli->o->name == NULL)
        return list_tokens(cli, err);
    if (!create && strcmp(action, "revoke") != 0)
        return cli_misused(cli, err, "token: list, create NAME or revoke NAME");
    if (count > 1 && cli->o->name != NULL)
        return cli_misused(cli, err, "token: the name is there twice, as %s and in --name",
                           operands[1]);
    const char *name = count > 1 ? operands[1] : cli->o->name;
    if (name == NULL)
        return cli_misused(cli, err, "token %s: a name is missing", action);
    const enum hw_status st = hw_name_check(name, err);
    if (st != HW_OK)
        return st;
    return create ? create_token(cli, name, err) : revoke_token(cli, name, err);
}
