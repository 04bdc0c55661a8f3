/* watch: events as they happen, through reconnects. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/memory.h"
#include "base/names.h"
#include "cli/commands/commands.h"
#include "cli/follow.h"
#include "cli/output.h"
#include "cli/text.h"
#include "cli/yaml.h"

struct watch {
    struct cli *cli;
    int64_t seen;
};

/* An event as {"id","type","data"}; data that is no JSON becomes a string. */
static json_t *event_object(const struct cli_event *event)
{
    json_t *object = json_object();
    json_t *data = hw_json_load(event->data, strlen(event->data), JSON_DECODE_ANY, NULL);

    if (data == NULL) {
        struct hw_buf safe = {0}; /* bytes that are no UTF-8 would be lost */
        cli_text_add(&safe, event->data, strlen(event->data), true);
        data = json_string(hw_buf_str(&safe));
        hw_buf_free(&safe);
    }
    json_object_set_new(object, "id", json_string(event->id));
    json_object_set_new(object, "type", json_string(event->type));
    json_object_set_new(object, "data", data);
    return object;
}

/* Prints a line such as: desired  daq-1  revision=4 digest=sha256:… */
static void print_line(const struct cli *cli, const struct cli_event *event, const json_t *data)
{
    struct hw_buf line = {0};
    const char *node = json_string_value(json_object_get(data, "node"));
    const char *name;
    json_t *value;

    hw_buf_printf(&line, "%-10s %-24s", event->type, node != NULL ? node : "-");
    json_object_foreach((json_t *)(uintptr_t)data, name, value) {
        if (strcmp(name, "node") == 0 || json_is_null(value))
            continue;
        HW_AUTO_FREE char *text = hw_json_is_string(value) ? hw_strdup(json_string_value(value))
                                                           : cli_json_text(value, false);
        hw_buf_printf(&line, " %s=%s", name, text);
    }
    if (!json_is_object(data))
        hw_buf_printf(&line, " %s", event->data);
    struct hw_buf safe = {0};
    cli_text_add(&safe, line.data, line.len, false);
    cli_print_text(cli, hw_buf_str(&safe), 0);
    putchar('\n');
    hw_buf_free(&safe);
    hw_buf_free(&line);
}

static bool on_event(void *arg, const struct cli_event *event)
{
    struct watch *watch = arg;
    HW_AUTO_JSON json_t *object = event_object(event);
    HW_AUTO_FREE char *text = NULL;

    switch (watch->cli->output) {
    case CLI_TABLE:
    case CLI_NAME:
        print_line(watch->cli, event, json_object_get(object, "data"));
        break;
    case CLI_JSON:
        text = cli_json_text(object, false);
        puts(text);
        break;
    case CLI_YAML:
        text = cli_yaml_text(object);
        printf("---\n%s", text);
        break;
    }
    watch->seen++;
    /* If nobody reads the output any more, this is the end. */
    return fflush(stdout) == 0 && watch->seen != watch->cli->o->count;
}

enum hw_status cli_watch(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    const struct cli_options *o = cli->o;
    struct watch watch = {.cli = cli};
    const struct cli_follower follower = {.event = on_event, .arg = &watch};
    struct hw_buf path = {0};
    enum hw_status st;
    bool over;

    (void)operands, (void)count;
    if (o->node != NULL && (st = hw_name_check(o->node, err)) != HW_OK)
        return st;
    hw_buf_puts(&path, "/v1/events");
    cli_query_add(&path, "node", o->node);
    cli_query_add(&path, "selector", o->selector);
    cli_query_add(&path, "types", o->types);
    st = cli_follow(cli, path.data, &follower, &over, err);
    hw_buf_free(&path);
    if (over && o->count > 0)
        return hw_fail(err, HW_ETIMEOUT, "the time is over, and %lld of %lld events came",
                       (long long)watch.seen, (long long)o->count);
    return st;
}
