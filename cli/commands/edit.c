/* edit: a config as it is, or a node or an assignment as YAML, is changed in the user's editor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "base/names.h"
#include "base/utf8.h"
#include "cli/ask.h"
#include "cli/client/http.h"
#include "cli/commands/commands.h"
#include "cli/editor.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/resources.h"
#include "cli/text.h"
#include "cli/write.h"
#include "cli/yaml.h"

static const struct kind {
    const char *name, *collection;
    const char *members[6]; /* of the document that is edited; none: the content is edited */
} kinds[] = {
    {"config", "configs", {NULL}},
    {"node", "nodes", {"labels", "description"}},
    {"assignment", "assignments", {"config", "node", "selector", "priority", "revision"}},
};

struct edit {
    struct cli *cli;
    const struct kind *kind;
    const char *name;
    char *path;              /* of the resource, with the message */
    char *etag, *media_type; /* as it was fetched */
    char *shown;             /* what the editor was given first */
    bool lacks_end;          /* the line feed at its end was added for the editor */
    struct cli_editor editor;
};

static bool is_content(const struct edit *e)
{
    return e->kind->members[0] == NULL;
}

static bool is_json(const char *media_type)
{
    const size_t len = strcspn(media_type, "; ");

    return (len == 16 && strncasecmp(media_type, "application/json", len) == 0) ||
           (len > 5 && strncasecmp(media_type + len - 5, "+json", 5) == 0);
}

/* The suffix by which an editor chooses its colours. */
static const char *suffix_of(const struct edit *e)
{
    static const char *const suffixes[][2] = {
        {"yaml", ".yaml"}, {"toml", ".toml"}, {"xml", ".xml"}, {"markdown", ".md"}};

    if (e->media_type == NULL)
        return ".yaml";
    if (is_json(e->media_type))
        return ".json";
    for (size_t i = 0; i < HW_COUNT(suffixes); i++)
        if (strcasestr(e->media_type, suffixes[i][0]) != NULL)
            return suffixes[i][1];
    return ".txt";
}

/* ---- what is there ---- */

/* JSON in one line is hard to edit, so it is shown indented, and it stays indented if it is
 * changed. */
static char *lay_out(const struct cli_answer *content)
{
    HW_AUTO_JSON json_t *document = NULL;

    if (is_json(content->media_type) && memchr(content->body, '\n', content->len) == NULL)
        document = hw_json_load(content->body, content->len,
                                JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    return document != NULL ? cli_json_text(document, true) : hw_strdup(content->body);
}

static enum hw_status take_content(struct edit *e, struct cli_answer *content, struct hw_error *err)
{
    if (content->media_type == NULL)
        return hw_fail(err, HW_EPROTO, "the answer has no type");
    if (!hw_utf8_valid(content->body, content->len, NULL) ||
        memchr(content->body, '\0', content->len) != NULL)
        return hw_fail(err, HW_EINVAL,
                       "it is no text (%.100s): get config %s --content, and put it back with put",
                       content->media_type, e->name);
    HW_AUTO_FREE char *text = lay_out(content);
    const size_t len = strlen(text);
    e->media_type = HW_TAKE(content->media_type);
    e->lacks_end = len == 0 || text[len - 1] != '\n';
    e->shown = hw_sprintf("%s%s", text, e->lacks_end ? "\n" : "");
    return HW_OK;
}

/* The text is a document as apply takes it, so that it can be applied later as well. */
static enum hw_status take_resource(struct edit *e, const struct cli_answer *answer,
                                    struct hw_error *err)
{
    HW_AUTO_JSON json_t *object = NULL;
    HW_AUTO_JSON json_t *document = json_pack("{s:s, s:s}", "kind", e->kind->name, "name", e->name);

    if (hw_json_parse_exact(answer->body, answer->len, &object, err) != HW_OK)
        return err->status = HW_EPROTO;
    for (size_t i = 0; i < HW_COUNT(e->kind->members) && e->kind->members[i] != NULL; i++) {
        json_t *value = json_object_get(object, e->kind->members[i]);

        if (value != NULL && !json_is_null(value))
            json_object_set(document, e->kind->members[i], value);
    }
    e->shown = cli_yaml_text(document);
    return HW_OK;
}

static enum hw_status fetch(struct edit *e, struct hw_error *err)
{
    struct cli_answer answer = {0};
    struct hw_buf path = {0};

    hw_buf_puts(&path, "/v1");
    cli_path_add(&path, e->kind->collection);
    cli_path_add(&path, e->name);
    HW_AUTO_FREE char *read = hw_sprintf("%s%s", path.data, is_content(e) ? "/content" : "");
    cli_query_add(&path, "message", e->cli->o->message);
    e->path = path.data;
    enum hw_status st =
        cli_http_send(e->cli->http, &(struct cli_request){.path = read}, &answer, err);
    if (st == HW_OK && answer.etag == NULL)
        st = hw_fail(err, HW_EPROTO, "GET %s: the answer has no ETag", read);
    if (st == HW_OK)
        e->etag = HW_TAKE(answer.etag);
    if (st == HW_OK)
        st = is_content(e) ? take_content(e, &answer, err) : take_resource(e, &answer, err);
    else if (st == HW_ENOENT && is_content(e))
        (void)hw_fail(err, st, "there is no config \"%s\": headwater put %s -f FILE makes one",
                      e->name, e->name);
    cli_answer_free(&answer);
    return st;
}

/* ---- what was typed ---- */

static enum hw_status check_content(const struct edit *e, const char *text, size_t len,
                                    struct hw_error *err)
{
    json_error_t problem;

    if (!is_json(e->media_type))
        return HW_OK;
    HW_AUTO_JSON json_t *document = hw_json_load(text, len, JSON_DECODE_ANY, &problem);
    if (document != NULL)
        return HW_OK;
    return hw_fail(err, HW_EINVAL, "%s:%d:%d: %s", e->editor.path, problem.line, problem.column,
                   problem.text);
}

/* The body of an apply with this one resource, under the condition that nobody changed it. */
static enum hw_status make_apply(const struct edit *e, char **body, struct hw_error *err)
{
    struct cli_resources resources = {0};
    const enum hw_status st =
        cli_resources_read((char *const[]){e->editor.path}, 1, &resources, err);

    if (st != HW_OK)
        return st;
    json_t *resource = json_array_get(resources.list, 0);
    const char *kind = json_string_value(json_object_get(resource, "kind"));
    const char *name = json_string_value(json_object_get(resource, "name"));
    const bool is_same = resources.count == 1 && strcmp(kind, e->kind->name) == 0 &&
                         strcmp(name, e->name) == 0 && json_object_get(resource, "delete") == NULL;
    if (is_same) {
        HW_AUTO_JSON json_t *request = json_pack("{s:O}", "resources", resources.list);

        json_object_set_new(resource, "if_match", json_string(e->etag));
        if (e->cli->o->message != NULL)
            json_object_set_new(request, "message", json_string(e->cli->o->message));
        *body = cli_json_text(request, false);
    }
    cli_resources_free(&resources);
    return is_same
               ? HW_OK
               : hw_fail(err, HW_EINVAL, "%s: it must stay the one %s \"%s\"; apply takes others",
                         e->editor.path, e->kind->name, e->name);
}

/* *text becomes the request's body, which the caller frees. */
static enum hw_status make_request(const struct edit *e, char **text, size_t len,
                                   struct cli_request *request, struct hw_error *err)
{
    enum hw_status st;

    if (is_content(e)) {
        st = check_content(e, *text, len, err);
        *request = (struct cli_request){.method = "PUT",
                                        .path = e->path,
                                        .media_type = e->media_type,
                                        .body = *text,
                                        .len = len,
                                        .if_match = e->etag};
        return st;
    }
    char *body = NULL;
    st = make_apply(e, &body, err);
    if (st != HW_OK || body == NULL)
        return st;
    free(*text);
    *text = body;
    *request = (struct cli_request){.method = "POST",
                                    .path = "/v1/apply",
                                    .media_type = "application/json",
                                    .body = body,
                                    .len = strlen(body)};
    return HW_OK;
}

/* ---- to the server ---- */

static void show_resource(struct cli *cli, const json_t *answer)
{
    const json_t *result = json_array_get(json_object_get(answer, "results"), 0);
    const char *kind = json_string_value(json_object_get(result, "kind"));
    const char *name = json_string_value(json_object_get(result, "name"));
    HW_AUTO_FREE char *line = hw_sprintf("%.20s %.130s is changed\n", kind != NULL ? kind : "?",
                                         name != NULL ? name : "?");

    cli_print_text(cli, line, 0);
}

/* The command by which the edited text gets to the server without this program. */
static char *way_on(const struct edit *e)
{
    return is_content(e) ? hw_sprintf("headwater put %s -f %s --media-type '%.200s'", e->name,
                                      e->editor.path, e->media_type)
                         : hw_sprintf("headwater apply -f %s", e->editor.path);
}

static void explain_kept(const struct edit *e, struct hw_error *err)
{
    const struct hw_error why = *err;
    HW_AUTO_FREE char *way = way_on(e);

    if (why.status == HW_ECONFLICT)
        (void)hw_fail(
            err, why.status,
            "%.220s; someone else was there first, and nothing is written. What you typed "
            "is kept in %.150s: see theirs with headwater get %s %.130s, then write yours "
            "with %.400s",
            why.message, e->editor.path, e->kind->name, e->name, way);
    else
        (void)hw_fail(err, why.status,
                      "%.350s. What you typed is kept in %.150s: write it with %.400s", why.message,
                      e->editor.path, way);
}

enum next { DONE, AGAIN, KEPT }; /* KEPT: the text is only in the file */

/* The text cannot be written as it is: offers to edit it again. */
static enum next offer_again(const struct hw_error *err)
{
    struct hw_buf safe = {0};

    if (!cli_is_interactive())
        return KEPT;
    cli_text_add(&safe, err->message, strlen(err->message), false);
    fprintf(stderr, "headwater: %s\n", hw_buf_str(&safe));
    hw_buf_free(&safe);
    const char answer = cli_ask("Edit it again? [Y/n] ");
    return answer == 'y' || answer == '\n' ? AGAIN : KEPT;
}

/* Asks before writing, unless --yes is given. */
static enum next confirm(const struct edit *e)
{
    if (e->cli->o->yes)
        return DONE;
    const char answer = cli_ask("Write it? [y/N, e to edit again] ");
    return answer == 'y' ? DONE : answer == 'e' ? AGAIN : KEPT;
}

static enum next leave(const struct edit *e, bool negative)
{
    HW_AUTO_FREE char *way = way_on(e);

    fprintf(stderr, "headwater: nothing is written. What you typed is in %s: write it with %s\n",
            e->editor.path, way);
    e->cli->negative = negative;
    return KEPT;
}

/* Shows what the request would do, asks, and sends it. */
static enum next send(const struct edit *e, struct cli_request *request, enum hw_status *st,
                      struct hw_error *err)
{
    const struct cli_options *o = e->cli->o;
    enum next next = DONE;

    *st = HW_OK;
    if (e->cli->output == CLI_TABLE || o->dry_run)
        *st = cli_plan_ask(e->cli, request, NULL, err);
    if (*st == HW_EINVAL)
        return offer_again(err);
    if (*st != HW_OK)
        return KEPT;
    if (o->dry_run)
        return leave(e, false);
    next = confirm(e);
    if (next == KEPT)
        return leave(e, true);
    if (next == DONE)
        *st = cli_write(e->cli, request, is_content(e) ? cli_show_config : show_resource, err);
    /* A text that was written, but does not run everywhere in time, is written all the same. */
    return *st == HW_OK || e->cli->wrote ? next : KEPT;
}

static enum next edit_once(const struct edit *e, enum hw_status *st, struct hw_error *err)
{
    HW_AUTO_FREE char *text = NULL;
    struct cli_request request;
    size_t len = 0;

    *st = cli_editor_run(&e->editor, &text, &len, err);
    if (*st != HW_OK)
        return KEPT;
    if (strlen(e->shown) == len && memcmp(text, e->shown, len) == 0) {
        puts("not changed, nothing is sent");
        return DONE;
    }
    if (e->lacks_end && len > 0 && text[len - 1] == '\n')
        len--;
    *st = make_request(e, &text, len, &request, err);
    if (*st == HW_OK)
        return send(e, &request, st, err);
    return *st == HW_EINVAL ? offer_again(err) : KEPT;
}

static bool has_typed(const struct edit *e)
{
    HW_AUTO_FREE char *text = NULL;
    size_t len;

    return hw_file_read(e->editor.path, CLI_FILE_MOST, &text, &len, NULL) != HW_OK ||
           strlen(e->shown) != len || memcmp(text, e->shown, len) != 0;
}

static enum hw_status edit(struct edit *e, struct hw_error *err)
{
    HW_AUTO_FREE char *file = hw_sprintf("%s%s", e->name, suffix_of(e));
    enum hw_status st = cli_editor_open(file, e->shown, strlen(e->shown), &e->editor, err);
    enum next next;

    if (st != HW_OK)
        return st;
    do
        next = edit_once(e, &st, err);
    while (next == AGAIN);
    const bool keep = next == KEPT && has_typed(e);
    if (keep && st != HW_OK)
        explain_kept(e, err);
    cli_editor_close(&e->editor, keep);
    return st;
}

static enum hw_status check_usage(struct cli *cli, struct hw_error *err)
{
    const struct cli_options *o = cli->o;

    if (o->yes || o->dry_run)
        return HW_OK;
    if (cli->output != CLI_TABLE)
        return cli_misused(cli, err, "edit: -o %s goes with --yes or --dry-run", o->output);
    if (!cli_is_interactive())
        return cli_misused(cli, err,
                           "edit asks before it writes, and there is no terminal: --yes writes "
                           "without asking");
    return HW_OK;
}

enum hw_status cli_edit(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    struct edit e = {.cli = cli, .kind = &kinds[0], .name = operands[count - 1]};
    enum hw_status st = check_usage(cli, err);

    while (count > 1 && e.kind < kinds + HW_COUNT(kinds) && strcmp(e.kind->name, operands[0]) != 0)
        e.kind++;
    if (st == HW_OK && e.kind == kinds + HW_COUNT(kinds))
        return cli_misused(cli, err, "edit %s: it takes config, node or assignment", operands[0]);
    if (st == HW_OK)
        st = hw_name_check(e.name, err);
    if (st == HW_OK)
        st = fetch(&e, err);
    if (st == HW_OK && e.shown != NULL)
        st = edit(&e, err);
    if (st != HW_OK && !cli->misused)
        (void)hw_fail_in(err, "%s \"%.130s\"", e.kind->name, e.name);
    free(e.path);
    free(e.etag);
    free(e.media_type);
    free(e.shown);
    return st;
}
