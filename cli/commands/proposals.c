/* The commands for what nodes propose: proposals, approve, reject. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/client/http.h"
#include "cli/commands/commands.h"
#include "cli/fetch.h"
#include "cli/output.h"
#include "cli/write.h"

static const struct cli_column columns[] = {
    {"ID", "id", CLI_TEXT},
    {"STATE", "state", CLI_TEXT},
    {"NODE", "node", CLI_TEXT},
    {"CONFIG", "config", CLI_TEXT},
    {"BASE", "base_revision", CLI_TEXT},
    {"SIZE", "size", CLI_TEXT},
    {"PROPOSED", "proposed_at", CLI_TIME},
    {"BY", "decided_by", CLI_TEXT},
    {"MESSAGE", "message", CLI_TEXT},
    {"REASON", "reason", CLI_TEXT},
    {.heading = NULL},
};

static void show_proposals(struct cli *cli, const json_t *list)
{
    cli_print_table(cli, json_object_get(list, "items"), columns);
}

static enum hw_status check_id(struct cli *cli, const char *id, struct hw_error *err)
{
    const size_t digits = strspn(id, "0123456789");

    if (digits < 1 || digits > 18 || id[digits] != '\0')
        return cli_misused(cli, err, "\"%.100s\" is no proposal: its id is a number", id);
    return HW_OK;
}

static enum hw_status show_one(struct cli *cli, const char *id, struct hw_error *err)
{
    HW_AUTO_FREE char *path =
        hw_sprintf("/v1/proposals/%s%s", id, cli->o->content ? "/content" : "");
    HW_AUTO_JSON json_t *object = NULL;
    struct cli_answer answer = {0};
    enum hw_status st;

    if (!cli->o->content) {
        st = cli_fetch(cli, path, &object, err);
        if (st == HW_OK)
            cli_print(cli, object, NULL);
        return st;
    }
    st = cli_http_send(cli->http, &(struct cli_request){.path = path}, &answer, err);
    if (st == HW_OK)
        cli_print_bytes(answer.body, answer.len);
    cli_answer_free(&answer);
    return st;
}

enum hw_status cli_proposals(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    HW_AUTO_JSON json_t *list = NULL;
    struct hw_buf path = {0};
    enum hw_status st;

    if (count > 0) {
        st = check_id(cli, operands[0], err);
        return st == HW_OK ? show_one(cli, operands[0], err) : st;
    }
    if (cli->o->content)
        return cli_misused(cli, err, "proposals: --content is of one: proposals ID --content");
    hw_buf_puts(&path, "/v1/proposals");
    cli_query_add(&path, "node", cli->o->node);
    cli_query_add(&path, "state", cli->o->state);
    st = cli_fetch_list(cli, path.data, 0, &list, err);
    if (st == HW_OK)
        cli_print(cli, list, show_proposals);
    hw_buf_free(&path);
    return st;
}

static void show_decided(struct cli *cli, const json_t *answer)
{
    const char *state = json_string_value(json_object_get(answer, "state"));
    const json_int_t revision = json_integer_value(json_object_get(answer, "revision"));
    const char *config = json_string_value(json_object_get(answer, "config"));
    HW_AUTO_FREE char *line = NULL;

    if (revision > 0)
        line = hw_sprintf("proposal %s is approved: config %.130s is at revision %lld\n",
                          cli->operands[0], config != NULL ? config : "?", (long long)revision);
    else
        line = hw_sprintf("proposal %s is %.32s\n", cli->operands[0], state != NULL ? state : "?");
    cli_print_text(cli, line, 0);
}

static enum hw_status decide(struct cli *cli, const char *id, const char *action,
                             struct hw_error *err)
{
    HW_AUTO_FREE char *path = hw_sprintf("/v1/proposals/%s/%s", id, action);
    HW_AUTO_JSON json_t *wish = json_object();
    enum hw_status st = check_id(cli, id, err);

    if (st != HW_OK)
        return st;
    if (cli->o->message != NULL)
        json_object_set_new(wish, "reason", json_string(cli->o->message));
    HW_AUTO_FREE char *body = hw_json_dump(wish);
    return cli_write(cli,
                     &(struct cli_request){.method = "POST",
                                           .path = path,
                                           .media_type = "application/json",
                                           .body = body,
                                           .len = strlen(body),
                                           .if_match = cli->o->if_match},
                     show_decided, err);
}

enum hw_status cli_approve(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    (void)count;
    return decide(cli, operands[0], "approve", err);
}

enum hw_status cli_reject(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    (void)count;
    return decide(cli, operands[0], "reject", err);
}
