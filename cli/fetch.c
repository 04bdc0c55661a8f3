#include "cli/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/client/http.h"

enum { PAGE = 1000, ITEMS_MOST = 1000000 };

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

/* The value of "after" for the next page, malloc'ed; NULL behind the last page. */
static char *next_of(const json_t *page)
{
    const json_t *next = json_object_get(page, "next");

    if (json_is_string(next))
        return hw_strdup(json_string_value(next));
    if (json_is_integer(next))
        return hw_sprintf("%lld", (long long)json_integer_value(next));
    return NULL;
}

/* Pages are asked for until there is no "next". A server that gives an empty page with a next,
 * or the same next twice, would be asked for ever, so that is an error. */
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
