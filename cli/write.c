#include "cli/write.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/await.h"
#include "cli/client/exchange.h"
#include "cli/client/http.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/position.h"

enum { KEY_BYTES = 16 };

/* Every write has a key, made at random if the user gives none. So a write whose answer was lost
 * is sent again without being done twice. */
static enum hw_status make_key(char out[static 2 * KEY_BYTES + 1], struct hw_error *err)
{
    unsigned char bytes[KEY_BYTES];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return hw_fail_errno(err, "reading random bytes");
    for (size_t i = 0; i < KEY_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return HW_OK;
}

/* Something else may listen there, and answer 200 to everything: a portal, another service. Every
 * answer of the API to a write that was made has a position, or at least its change; that to a dry
 * run is looked at by cli_plan_print. */
static enum hw_status check_origin(const struct cli *cli, const struct cli_request *request,
                                   const struct cli_answer *answer, struct hw_error *err)
{
    const bool is_json = cli_exchange_is_json(answer->media_type);
    const bool is_write = answer->lsn != NULL || answer->change != NULL;

    if (cli->o->dry_run ? is_json : is_write && (is_json || answer->len == 0))
        return HW_OK;
    return hw_fail(err, HW_EPROTO,
                   "%s %.200s: the answer (%d, %.60s) is none of headwater-api's, so nothing was "
                   "written there; --server or HEADWATER_SERVER says where the API is",
                   request->method, request->path, answer->status,
                   answer->media_type != NULL ? answer->media_type : "of no type");
}

/* The answer as an object; an answer without a body is an empty one. */
static enum hw_status read_object(const struct cli *cli, const struct cli_answer *answer,
                                  json_t **object, struct hw_error *err)
{
    if (answer->len == 0) {
        *object = json_object();
        return HW_OK;
    }
    if (hw_json_parse_exact(answer->body, answer->len, object, err) == HW_OK)
        return HW_OK;
    err->status = HW_EPROTO;
    return hw_fail_in(err, cli->o->dry_run ? "the answer is broken; is it headwater-api?"
                                           : "the change was made, but the answer to it is broken");
}

/* A PUT can be repeated as it is; any other request can only be repeated with its key. */
static void explain_uncertainty(const struct cli_request *request, struct hw_error *err)
{
    const struct hw_error why = *err;

    if (strcmp(request->method, "PUT") == 0)
        (void)hw_fail(err, why.status,
                      "%.500s; whether the change was made is not known: the same command makes it "
                      "if it was not",
                      why.message);
    else
        (void)hw_fail(err, why.status,
                      "%.400s; whether the change was made is not known: the same command with "
                      "--idempotency-key %.255s makes it if it was not",
                      why.message, request->key);
}

enum hw_status cli_write(struct cli *cli, struct cli_request *request, cli_show_fn *show,
                         struct hw_error *err)
{
    const struct cli_options *o = cli->o;
    struct cli_answer answer = {0};
    struct hw_buf path = {0};
    char key[2 * KEY_BYTES + 1];
    HW_AUTO_JSON json_t *object = NULL;
    enum hw_status st = make_key(key, err);

    if (st != HW_OK)
        return st;
    hw_buf_puts(&path, request->path);
    cli_query_add(&path, "dry_run", o->dry_run ? "true" : NULL);
    request->path = path.data;
    request->key = o->idempotency_key != NULL ? o->idempotency_key : key;
    st = cli_http_send(cli->http, request, &answer, err);
    if (st != HW_OK && answer.uncertain)
        explain_uncertainty(request, err);
    if (st == HW_OK)
        st = check_origin(cli, request, &answer, err);
    if (st == HW_OK)
        st = read_object(cli, &answer, &object, err);
    if (st == HW_OK && o->dry_run) {
        st = cli_plan_print(cli, object, NULL, err);
    } else if (st == HW_OK) {
        cli->wrote = true;
        if (cli->output == CLI_TABLE && show != NULL)
            show(cli, object);
        else if (cli->output != CLI_TABLE && answer.len > 0)
            cli_print(cli, object, NULL);
        cli_warn(object);
        if (answer.change != NULL)
            cli_position_keep(cli, answer.change);
        if (o->wait && answer.change != NULL)
            st = cli_await(cli, answer.change, true, err);
        else if (o->wait && cli->output == CLI_TABLE)
            puts("nothing was changed, so there is nothing to wait for");
    }
    hw_buf_free(&path);
    cli_answer_free(&answer);
    return st;
}
