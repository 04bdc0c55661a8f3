#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/text.h"
#include "common/json.h"
#include "common/memory.h"

enum { PAGE = 1000, ITEMS_MOST = 1000000, NAME_MOST = 128, KEY_BYTES = 16 };

enum hw_status cli_misused(struct cli *cli, struct hw_error *err, const char *fmt, ...)
{
    char message[HW_ERROR_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    cli->misused = true;
    return hw_fail(err, HW_EINVAL, "%s", message);
}

/* [A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*, so that no name is a path of its own. */
enum hw_status cli_check_name(const char *name, struct hw_error *err)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const char *p = name;
    size_t len = strspn(p, letters);

    while (len > 0 && p[len] == '.') {
        p += len + 1;
        len = strspn(p, letters);
    }
    if (len == 0 || p[len] != '\0' || strlen(name) > NAME_MOST)
        return hw_fail(
            err, HW_EINVAL,
            "\"%.200s\" is no name: 1 to %d letters, digits, _ and -, in parts separated "
            "by single dots",
            name, NAME_MOST);
    return HW_OK;
}

/* ---- reading ---- */

enum hw_status cli_fetch(struct cli *cli, const char *path, json_t **object, struct hw_error *err)
{
    const struct cli_request request = {.path = path};
    struct cli_answer answer = {0};
    const enum hw_status st = cli_http_json(cli->http, &request, &answer, object, err);

    cli_answer_free(&answer);
    return st;
}

static enum hw_status fetch_page(struct cli *cli, const char *path, int64_t limit,
                                 const char *after, json_t **page, struct hw_error *err)
{
    HW_AUTO_FREE char *most = hw_sprintf("%lld", (long long)limit);
    struct hw_buf full = {0};

    hw_buf_puts(&full, path);
    cli_query_add(&full, "limit", most);
    cli_query_add(&full, "after", after);
    enum hw_status st = cli_fetch(cli, full.data, page, err);
    hw_buf_free(&full);
    if (st == HW_OK && !json_is_array(json_object_get(*page, "items"))) {
        json_decref(HW_TAKE(*page));
        st = hw_fail(err, HW_EPROTO, "GET %s: the answer is no list", path);
    }
    return st;
}

/* What to give as after for the next page, malloc'ed; NULL behind the last. */
static char *next_of(const json_t *page)
{
    const json_t *next = json_object_get(page, "next");

    if (json_is_string(next))
        return hw_strdup(json_string_value(next));
    if (json_is_integer(next))
        return hw_sprintf("%lld", (long long)json_integer_value(next));
    return NULL;
}

enum hw_status cli_fetch_list(struct cli *cli, const char *path, int64_t preset, json_t **out,
                              struct hw_error *err)
{
    const int64_t limit = cli->o->limit > 0 ? cli->o->limit : preset;
    HW_AUTO_FREE char *after = NULL;
    HW_AUTO_JSON json_t *list = NULL;

    do {
        const int64_t have =
            list != NULL ? (int64_t)json_array_size(json_object_get(list, "items")) : 0;
        const int64_t left = limit > 0 ? limit - have : PAGE;
        HW_AUTO_JSON json_t *page = NULL;
        const enum hw_status st =
            fetch_page(cli, path, left < PAGE ? left : PAGE, after, &page, err);

        if (st != HW_OK)
            return st;
        HW_AUTO_FREE char *next = next_of(page);
        const json_t *items = json_object_get(page, "items");
        if (next != NULL &&
            (json_array_size(items) == 0 || (after != NULL && strcmp(next, after) == 0)))
            return hw_fail(err, HW_EPROTO, "GET %s: its pages lead nowhere", path);
        if (have + (int64_t)json_array_size(items) > ITEMS_MOST)
            return hw_fail(err, HW_ELIMIT, "GET %s: more than %d items; ask for less with --limit",
                           path, ITEMS_MOST);
        if (list == NULL) {
            list = HW_TAKE(page);
        } else {
            json_array_extend(json_object_get(list, "items"), (json_t *)(uintptr_t)items);
            json_object_set(list, "next", json_object_get(page, "next"));
        }
        free(after);
        after = HW_TAKE(next);
    } while (after != NULL &&
             (limit == 0 || (int64_t)json_array_size(json_object_get(list, "items")) < limit));
    *out = HW_TAKE(list);
    return HW_OK;
}

/* ---- writing ---- */

void cli_warn(const json_t *answer)
{
    const json_t *warning;
    size_t i;

    json_array_foreach(json_object_get(answer, "warnings"), i, warning)
    {
        const json_t *message = json_object_get(warning, "message");
        struct hw_buf safe = {0};

        if (!json_is_string(message))
            continue;
        cli_text_add(&safe, json_string_value(message), json_string_length(message), false);
        fprintf(stderr, "headwater: warning: %s\n", hw_buf_str(&safe));
        hw_buf_free(&safe);
    }
}

static enum hw_status make_key(char out[static 2 * KEY_BYTES + 1], struct hw_error *err)
{
    unsigned char bytes[KEY_BYTES];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return hw_fail_errno(err, "reading random bytes");
    for (size_t i = 0; i < KEY_BYTES; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return HW_OK;
}

/* The answer as an object; one without a body is the empty one. */
static enum hw_status read_object(const struct cli_answer *answer, json_t **object,
                                  struct hw_error *err)
{
    if (answer->len == 0) {
        *object = json_object();
        return HW_OK;
    }
    if (hw_json_parse_object(answer->body, answer->len, object, err) == HW_OK)
        return HW_OK;
    err->status = HW_EPROTO;
    return hw_fail_in(err, "the change was made, but the answer to it is broken");
}

/* A PUT is safe to do again as it is; whatever else needs its key for that. */
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
        st = read_object(&answer, &object, err);
    if (st == HW_OK && o->dry_run) {
        st = cli_plan_print(cli, object, NULL, err);
    } else if (st == HW_OK) {
        cli->wrote = true;
        if (cli->output == CLI_TABLE && show != NULL)
            show(cli, object);
        else if (cli->output != CLI_TABLE && answer.len > 0)
            cli_print(cli, object, NULL);
        cli_warn(object);
        if (answer.lsn != NULL)
            cli_remember(cli, answer.lsn);
        if (o->wait && answer.lsn == NULL)
            st = hw_fail(err, HW_EPROTO, "the change was made, but no position came to wait for");
        else if (o->wait)
            st = cli_await(cli, answer.lsn, true, err);
    }
    hw_buf_free(&path);
    cli_answer_free(&answer);
    return st;
}
