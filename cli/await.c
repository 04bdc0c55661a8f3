#include "cli/await.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/client/http.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/trouble.h"
#include "common/loop.h"

enum {
    STEP_MS = 1000,        /* between two lines of progress */
    STEP_MOST_MS = 600000, /* the longest wait that the API takes */
    SLACK_MS = 15000,      /* for the answer to travel */
};

static long long number(const json_t *object, const char *name)
{
    return (long long)json_integer_value(json_object_get(object, name));
}

/* ---- how it stands ---- */

static const struct cli_column failed_columns[] = {
    {"NODE", "node", CLI_TEXT},
    {"NODE REV", "revision", CLI_TEXT},
    {"STAGE", "stage", CLI_TEXT},
    {"ERROR", "error", CLI_TEXT},
    {.heading = NULL},
};

static void show_progress(const json_t *counts)
{
    if (counts == NULL)
        fputs("\r\033[Kwaiting for the server", stderr);
    else
        fprintf(stderr, "\r\033[K%lld of %lld nodes applied, %lld failed, %lld pending",
                number(counts, "applied"), number(counts, "nodes"), number(counts, "failed"),
                number(counts, "pending"));
}

static void end_progress(void)
{
    fputs("\r\033[K", stderr);
}

static void show_result(struct cli *cli, const json_t *result)
{
    const json_t *failed = json_object_get(result, "failed_nodes");

    printf("%lld of %lld nodes applied, %lld failed, %lld pending\n", number(result, "applied"),
           number(result, "nodes"), number(result, "failed"), number(result, "pending"));
    if (json_array_size(failed) > 0)
        cli_print_table(cli, failed, failed_columns);
}

/* The first names of a list, for a message. */
static char *names_of(const json_t *names)
{
    struct hw_buf out = {0};
    const json_t *name;
    size_t i;

    json_array_foreach(names, i, name) {
        const json_t *node = json_is_object(name) ? json_object_get(name, "node") : name;

        if (i == 5) {
            hw_buf_puts(&out, ", \xE2\x80\xA6");
            break;
        }
        hw_buf_printf(&out, "%s%.130s", i > 0 ? ", " : "",
                      json_is_string(node) ? json_string_value(node) : "?");
    }
    return out.data != NULL ? out.data : hw_strdup("none is named");
}

static enum hw_status ask(struct cli *cli, const char *what, int64_t timeout_ms,
                          struct cli_answer *answer, json_t **result, struct hw_error *err)
{
    HW_AUTO_FREE char *timeout = hw_sprintf("%lldms", (long long)timeout_ms);
    struct hw_buf path = {0};

    hw_buf_puts(&path, "/v1/wait");
    cli_query_add(&path, cli_is_change(what) ? "change" : "lsn", what);
    cli_query_add(&path, "timeout", timeout);
    const struct cli_request request = {.path = path.data, .timeout_ms = timeout_ms + SLACK_MS};
    const enum hw_status st = cli_http_json(cli->http, &request, answer, result, err);
    hw_buf_free(&path);
    return st;
}

static bool is_problem(const struct cli_answer *answer, const char *name)
{
    return strcmp(answer->problem, name) == 0;
}

/* Shows how the waiting ended, and makes the error of it. */
static enum hw_status conclude(struct cli *cli, enum hw_status st, const struct cli_answer *answer,
                               const json_t *result, bool quiet, struct hw_error *err)
{
    const bool failed = is_problem(answer, "apply-failed");
    const json_t *shown = result != NULL ? result : answer->details;

    if (st != HW_OK && !failed && !is_problem(answer, "wait-timeout"))
        return st;
    if (cli->output == CLI_TABLE || !quiet)
        cli_print(cli, shown, show_result);
    cli->negative = failed;
    if (failed && cli->output != CLI_TABLE && quiet) {
        HW_AUTO_FREE char *names = names_of(json_object_get(shown, "failed_nodes"));
        struct hw_buf safe = {0};

        cli_text_add(&safe, names, strlen(names), false);
        fprintf(stderr, "headwater: %lld of %lld nodes failed: %s\n", number(shown, "failed"),
                number(shown, "nodes"), safe.data);
        hw_buf_free(&safe);
    }
    if (st == HW_OK || failed)
        return HW_OK;
    cli_trouble_tell(cli);
    HW_AUTO_FREE char *names = names_of(json_object_get(shown, "pending_nodes"));
    return hw_fail(err, HW_ETIMEOUT, "the time is over and %lld of %lld nodes are pending: %s",
                   number(shown, "pending"), number(shown, "nodes"), names);
}

/* A terminal shows progress, so it asks the server for a second at a time; otherwise one request
 * waits as long as the server allows. A server that is away is waited for, if it has answered
 * before. */
enum hw_status cli_await(struct cli *cli, const char *what, bool quiet, struct hw_error *err)
{
    const bool progress = isatty(STDERR_FILENO) != 0;
    const int64_t deadline = hw_loop_now() + cli->o->timeout;
    const int64_t step = progress ? STEP_MS : STEP_MOST_MS;
    bool answered = false;

    for (;;) {
        const int64_t left = deadline - hw_loop_now();
        struct cli_answer answer = {0};
        HW_AUTO_JSON json_t *result = NULL;
        enum hw_status st = ask(cli, what,
                                left < 0      ? 0
                                : left < step ? left
                                              : step,
                                &answer, &result, err);

        answered |= answer.status != 0;
        const bool pending = is_problem(&answer, "wait-timeout");
        if (hw_loop_now() < deadline && (pending || (st == HW_EUNAVAIL && answered))) {
            if (progress)
                show_progress(answer.details != NULL && pending ? answer.details : NULL);
            cli_answer_free(&answer);
            if (!pending)
                poll(NULL, 0, STEP_MS);
            continue;
        }
        if (progress)
            end_progress();
        st = conclude(cli, st, &answer, result, quiet, err);
        cli_answer_free(&answer);
        return st;
    }
}
