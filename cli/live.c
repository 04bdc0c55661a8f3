#include "cli/live.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/fetch.h"
#include "cli/follow.h"
#include "cli/text.h"
#include "cli/yaml.h"
#include "common/log.h"
#include "common/loop.h"

enum {
    LOOK_MOST_MS =
        5000,        /* for changes of which no event tells: labels, and configs that nobody uses */
    LOOK_SHARE = 10, /* looking may take a tenth of the time */
    LINES_AROUND = 5, /* lines around a table: counts, headings, how much is left out */
    LINES_PRESET = 24,
};

#define CLEAR "\033[H\033[2J"

struct live {
    struct cli *cli;
    const struct cli_view *view;
    bool redraws;
    bool changed;      /* as an event said */
    int64_t looked_ms; /* when the last look ended */
    int64_t took_ms;
    json_t *list;           /* as last fetched, or NULL */
    enum hw_status trouble; /* that ended it */
    struct hw_error *err;
};

/* ---- looking ---- */

/* A single thing is treated as a list of one, and as an empty list when it is gone. */
static enum hw_status fetch(struct live *live, json_t **list, struct hw_error *err)
{
    HW_AUTO_JSON json_t *one = NULL;
    enum hw_status st;

    if (live->view->columns != NULL)
        return cli_fetch_list(live->cli, live->view->path, 0, list, err);
    st = cli_fetch(live->cli, live->view->path, &one, err);
    if (st == HW_ENOENT && live->list != NULL) {
        *list = json_pack("{s:[]}", "items");
        return HW_OK;
    }
    if (st == HW_OK)
        *list = json_pack("{s:[O]}", "items", one);
    return st;
}

static const json_t *items_of(const json_t *list)
{
    return json_object_get(list, "items");
}

static const char *key_of(const json_t *item)
{
    const char *name = json_string_value(json_object_get(item, "name"));

    if (name == NULL)
        name = json_string_value(json_object_get(item, "node"));
    return name != NULL ? name : "";
}

/* Makes an object of the items by their keys; the list still owns them. */
static json_t *by_key(const json_t *list)
{
    json_t *map = json_object();
    const json_t *item;
    size_t i;

    json_array_foreach(items_of(list), i, item)
        json_object_set(map, key_of(item), (json_t *)(uintptr_t)item);
    return map;
}

/* A member that changes with time alone is no change. */
static bool is_same(const json_t *a, const json_t *b)
{
    static const char *const passing[] = {"lag_seconds", "last_seen"};
    HW_AUTO_JSON json_t *left = json_copy((json_t *)(uintptr_t)a);
    HW_AUTO_JSON json_t *right = json_copy((json_t *)(uintptr_t)b);

    for (size_t i = 0; i < HW_COUNT(passing); i++) {
        json_object_del(left, passing[i]);
        json_object_del(right, passing[i]);
    }
    return json_equal(left, right) != 0;
}

/* ---- showing ---- */

static size_t window_lines(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row
                                                                           : LINES_PRESET;
}

static void draw(struct live *live, const json_t *list)
{
    const size_t lines = window_lines(), count = json_array_size(items_of(list));
    const size_t most = lines > LINES_AROUND + 1 ? lines - LINES_AROUND : 1;
    HW_AUTO_JSON json_t *cut = json_copy((json_t *)(uintptr_t)list);

    fputs(CLEAR, stdout);
    if (live->view->columns == NULL) {
        if (count == 0)
            puts("it is gone");
        else
            cli_print_details(json_array_get(items_of(list), 0));
        return;
    }
    json_object_set_new(cut, "items", json_copy(json_object_get(list, "items")));
    while (json_array_size(items_of(cut)) > most)
        json_array_remove(json_object_get(cut, "items"), json_array_size(items_of(cut)) - 1);
    live->view->show(live->cli, cut);
    if (count > most)
        printf("(%zu more than the window has lines for)\n", count - most);
}

static void print_change(struct live *live, const char *change, const json_t *item)
{
    HW_AUTO_JSON json_t *said = json_pack("{s:s, s:O}", "change", change, "item", item);
    HW_AUTO_JSON json_t *rows = json_pack("[O]", item);
    HW_AUTO_FREE char *text = NULL;
    struct hw_buf line = {0};

    switch (live->cli->output) {
    case CLI_JSON:
        text = cli_json_text(said, false);
        puts(text);
        break;
    case CLI_YAML:
        text = cli_yaml_text(said);
        printf("---\n%s", text);
        break;
    case CLI_TABLE:
        if (strcmp(change, "removed") != 0) {
            if (live->view->columns != NULL)
                cli_print_rows(live->cli, rows, live->view->columns);
            else
                cli_print_details(item);
            break;
        }
        hw_buf_printf(&line, "%s (removed)\n", key_of(item));
        cli_print_text(live->cli, line.data, 0);
        break;
    case CLI_NAME:
        hw_buf_printf(&line, "%s\n", key_of(item));
        cli_print_text(live->cli, line.data, 0);
        break;
    }
    hw_buf_free(&line);
}

static void print_changes(struct live *live, const json_t *list)
{
    HW_AUTO_JSON json_t *before = by_key(live->list);
    HW_AUTO_JSON json_t *now = by_key(list);
    const char *key;
    json_t *item;

    json_object_foreach(now, key, item) {
        const json_t *old = json_object_get(before, key);

        if (old == NULL)
            print_change(live, "added", item);
        else if (!is_same(old, item))
            print_change(live, "changed", item);
    }
    json_object_foreach(before, key, item)
        if (json_object_get(now, key) == NULL)
            print_change(live, "removed", item);
}

static void show(struct live *live, const json_t *list)
{
    if (live->redraws) {
        if (live->list == NULL || json_equal(live->list, list) == 0)
            draw(live, list);
    } else if (live->list == NULL && live->cli->output == CLI_TABLE && live->view->show != NULL) {
        live->view->show(live->cli, list);
    } else {
        print_changes(live, list);
    }
}

/* ---- the loop ---- */

static bool on_event(void *arg, const struct cli_event *event)
{
    struct live *live = arg;

    (void)event;
    live->changed = true;
    return true;
}

/* A look is due when an event told of a change. Without an event it is due now and then, and
 * never so often that looking takes more than a tenth of the time. */
static bool is_due(const struct live *live)
{
    const int64_t since = hw_loop_now() - live->looked_ms;

    return live->list == NULL ||
           (since >= live->took_ms * LOOK_SHARE && (live->changed || since >= LOOK_MOST_MS));
}

/* Connected: from now on no event can be missed, so this is the moment to look. */
static bool on_rest(void *arg)
{
    struct live *live = arg;
    const int64_t begun_ms = hw_loop_now();
    json_t *list = NULL;

    if (!is_due(live))
        return true;
    live->changed = false;
    const enum hw_status st = fetch(live, &list, live->err);
    live->looked_ms = hw_loop_now();
    live->took_ms = live->looked_ms - begun_ms;
    if (st == HW_OK) {
        show(live, list);
        json_decref(live->list);
        live->list = list;
        return fflush(stdout) == 0;
    }
    if (live->list != NULL && (st == HW_EUNAVAIL || st == HW_ETIMEOUT)) {
        hw_log_debug("cannot look now", HW_E(live->err));
        live->changed = true;
        return true;
    }
    live->trouble = st;
    return false;
}

enum hw_status cli_live(struct cli *cli, const struct cli_view *view, struct hw_error *err)
{
    const char *terminal = getenv("TERM");
    struct hw_error trouble;
    struct live live = {.cli = cli, .view = view, .err = &trouble};
    const struct cli_follower follower = {.event = on_event, .rest = on_rest, .arg = &live};
    bool over;

    live.redraws = cli->output == CLI_TABLE && isatty(STDOUT_FILENO) != 0 && terminal != NULL &&
                   strcmp(terminal, "dumb") != 0;
    enum hw_status st = cli_follow(cli, view->events, &follower, &over, err);
    if (st == HW_OK && live.trouble != HW_OK) {
        *err = trouble;
        st = live.trouble;
    }
    json_decref(live.list);
    return st;
}
