/* The commands that change one resource: set, delete, rollback. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/memory.h"
#include "base/names.h"
#include "cli/client/http.h"
#include "cli/commands/commands.h"
#include "cli/output.h"
#include "cli/pointer.h"
#include "cli/text.h"
#include "cli/write.h"

enum { SET_ATTEMPTS = 5 };

/* ---- set ---- */

struct change {
    char *path;
    json_t *value; /* NULL: remove */
};

static void free_changes(struct change *changes, int count)
{
    for (int i = 0; i < count; i++) {
        free(changes[i].path);
        json_decref(changes[i].value);
    }
    free(changes);
}

/* The document with its changes, indented if it was in several lines. */
static enum hw_status edit(const struct cli_answer *content, const struct change *changes,
                           int count, char **text, struct hw_error *err)
{
    json_error_t problem;
    HW_AUTO_JSON json_t *document =
        hw_json_load(content->body, content->len, JSON_REJECT_DUPLICATES, &problem);

    if (document == NULL)
        return hw_fail(
            err, HW_EINVAL,
            "its content is not JSON (line %d, column %d: %s), and set changes JSON only: "
            "apply replaces it",
            problem.line, problem.column, problem.text);
    for (int i = 0; i < count; i++) {
        const enum hw_status st = cli_pointer_set(document, changes[i].path, changes[i].value, err);
        if (st != HW_OK)
            return st;
    }
    *text = cli_json_text(document, memchr(content->body, '\n', content->len) != NULL);
    return HW_OK;
}

/* Reads the content, changes it, and writes it back under the condition that nobody changed it
 * meanwhile. */
static enum hw_status set_once(struct cli *cli, const char *path, const struct change *changes,
                               int count, struct hw_error *err)
{
    HW_AUTO_FREE char *content_path = hw_sprintf("%s/content", path);
    const struct cli_request read = {.path = content_path};
    struct cli_answer content = {0};
    HW_AUTO_FREE char *text = NULL;
    enum hw_status st = cli_http_send(cli->http, &read, &content, err);

    if (st == HW_OK && (content.etag == NULL || content.media_type == NULL))
        st = hw_fail(err, HW_EPROTO, "GET %s: the answer has no ETag or no type", content_path);
    if (st == HW_OK)
        st = edit(&content, changes, count, &text, err);
    if (st == HW_OK && text != NULL) {
        struct hw_buf target = {0};

        hw_buf_puts(&target, path);
        cli_query_add(&target, "message", cli->o->message);
        st = cli_write(cli,
                       &(struct cli_request){.method = "PUT",
                                             .path = target.data,
                                             .media_type = content.media_type,
                                             .body = text,
                                             .len = strlen(text),
                                             .if_match = cli->o->if_match != NULL ? cli->o->if_match
                                                                                  : content.etag},
                       cli_show_config, err);
        hw_buf_free(&target);
    }
    cli_answer_free(&content);
    return st;
}

/* Someone may change the config between the reading and the writing. The server then refuses the
 * write by the entity tag, and all is done again, a few times. */
enum hw_status cli_set(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    const int changed = count - 1;
    struct change *changes = hw_alloc((size_t)changed * sizeof(*changes));
    struct hw_buf path = {0};
    enum hw_status st = hw_name_check(operands[0], err);

    for (int i = 0; st == HW_OK && i < changed; i++) {
        st = cli_pointer_split(operands[i + 1], &changes[i].path, &changes[i].value, err);
        cli->misused = st != HW_OK;
    }
    hw_buf_puts(&path, "/v1/configs");
    cli_path_add(&path, operands[0]);
    if (st == HW_OK) {
        int attempts = cli->o->if_match != NULL ? 1 : SET_ATTEMPTS;

        do
            st = set_once(cli, path.data, changes, changed, err);
        while (st == HW_ECONFLICT && --attempts > 0);
        if (st != HW_OK)
            (void)hw_fail_in(err, "config \"%.130s\"", operands[0]);
    }
    free_changes(changes, changed);
    hw_buf_free(&path);
    return st;
}

/* ---- delete, rollback ---- */

/* If the revision is already the newest one, the user is told that nothing was to be done. */
static void show_rollback(struct cli *cli, const json_t *answer)
{
    const json_int_t revision = json_integer_value(json_object_get(answer, "revision"));

    if (revision == strtol(cli->operands[1], NULL, 10))
        printf("config %s is at revision %s already: nothing changed\n", cli->operands[0],
               cli->operands[1]);
    else
        cli_show_config(cli, answer);
}

static void show_deleted(struct cli *cli, const json_t *answer)
{
    (void)answer; /* it is empty */
    printf("%s %s is deleted\n", cli->operands[0], cli->operands[1]);
}

enum hw_status cli_delete(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    static const char *const kinds[][2] = {
        {"node", "nodes"}, {"config", "configs"}, {"assignment", "assignments"}};
    const char *collection = NULL;
    struct hw_buf path = {0};

    (void)count;
    for (size_t i = 0; i < HW_COUNT(kinds); i++)
        if (strcmp(operands[0], kinds[i][0]) == 0)
            collection = kinds[i][1];
    if (collection == NULL)
        return cli_misused(cli, err, "delete %s: it takes node, config or assignment", operands[0]);
    enum hw_status st = hw_name_check(operands[1], err);
    if (st != HW_OK)
        return st;
    hw_buf_puts(&path, "/v1");
    cli_path_add(&path, collection);
    cli_path_add(&path, operands[1]);
    cli_query_add(&path, "message", cli->o->message);
    st = cli_write(
        cli,
        &(struct cli_request){.method = "DELETE", .path = path.data, .if_match = cli->o->if_match},
        show_deleted, err);
    hw_buf_free(&path);
    return st;
}

enum hw_status cli_rollback(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    struct hw_buf path = {0};
    char *end;

    (void)count;
    errno = 0;
    const long revision = strtol(operands[1], &end, 10);
    if (errno != 0 || end == operands[1] || *end != '\0' || revision < 1)
        return cli_misused(cli, err,
                           "rollback: \"%s\" is no revision, which is a number; headwater history "
                           "%.130s lists them",
                           operands[1], operands[0]);
    enum hw_status st = hw_name_check(operands[0], err);
    if (st != HW_OK)
        return st;
    HW_AUTO_FREE char *body = hw_sprintf("{\"revision\":%ld}", revision);
    hw_buf_puts(&path, "/v1/configs");
    cli_path_add(&path, operands[0]);
    cli_path_add(&path, "rollback");
    cli_query_add(&path, "message", cli->o->message);
    st = cli_write(cli,
                   &(struct cli_request){.method = "POST",
                                         .path = path.data,
                                         .media_type = "application/json",
                                         .body = body,
                                         .len = strlen(body),
                                         .if_match = cli->o->if_match},
                   show_rollback, err);
    hw_buf_free(&path);
    return st;
}
