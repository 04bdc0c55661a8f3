#include "cli/client/events.h"

#include <stdlib.h>
#include <string.h>

void cli_events_init(struct cli_events *events, cli_event_fn *take, void *arg)
{
    *events = (struct cli_events){.take = take, .arg = arg, .retry_ms = -1};
}

void cli_events_free(struct cli_events *events)
{
    hw_buf_free(&events->line);
    hw_buf_free(&events->type);
    hw_buf_free(&events->data);
    hw_buf_free(&events->id);
    hw_buf_free(&events->last_id);
}

void cli_events_reconnect(struct cli_events *events)
{
    hw_buf_reset(&events->line);
    hw_buf_reset(&events->type);
    hw_buf_reset(&events->data);
    hw_buf_reset(&events->id);
    hw_buf_puts(&events->id, hw_buf_str(&events->last_id));
    events->after_cr = events->begun = false;
}

const char *cli_events_last_id(const struct cli_events *events)
{
    return events->last_id.len > 0 ? events->last_id.data : NULL;
}

/* An empty line: the event is complete. */
static bool dispatch(struct cli_events *events)
{
    bool more = true;

    hw_buf_reset(&events->last_id);
    hw_buf_puts(&events->last_id, hw_buf_str(&events->id));
    if (events->data.len > 0) {
        events->data.data[--events->data.len] = '\0'; /* without the last line feed */
        more = events->take(
            events->arg,
            &(struct cli_event){.id = hw_buf_str(&events->last_id),
                                .type = events->type.len > 0 ? events->type.data : "message",
                                .data = events->data.data});
    }
    hw_buf_reset(&events->type);
    hw_buf_reset(&events->data);
    return more;
}

/* The id goes into a header field, so it must be a valid value of one. */
static bool is_id(const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            return false;
    return strlen(text) < 1024;
}

static void take_field(struct cli_events *events, const char *name, const char *value)
{
    if (strcmp(name, "data") == 0) {
        hw_buf_puts(&events->data, value);
        hw_buf_putc(&events->data, '\n');
    } else if (strcmp(name, "event") == 0) {
        hw_buf_reset(&events->type);
        hw_buf_puts(&events->type, value);
    } else if (strcmp(name, "id") == 0 && is_id(value)) {
        hw_buf_reset(&events->id);
        hw_buf_puts(&events->id, value);
    } else if (strcmp(name, "retry") == 0 && *value != '\0' &&
               value[strspn(value, "0123456789")] == '\0') {
        events->retry_ms = strtol(value, NULL, 10);
    }
}

static bool take_line(struct cli_events *events)
{
    char *line = events->line.len > 0 ? events->line.data : NULL;
    char *colon;

    if (line != NULL && !events->begun && strncmp(line, "\xEF\xBB\xBF", 3) == 0)
        line += 3;
    events->begun = true;
    if (line == NULL || *line == '\0')
        return dispatch(events);
    colon = strchr(line, ':');
    if (colon == line)
        return true; /* a comment, which keeps the connection alive */
    if (colon == NULL) {
        take_field(events, line, "");
        return true;
    }
    *colon = '\0';
    take_field(events, line, colon + 1 + (colon[1] == ' '));
    return true;
}

bool cli_events_feed(struct cli_events *events, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = bytes[i];
        const bool ends_crlf = c == '\n' && events->after_cr;

        events->after_cr = c == '\r';
        if (ends_crlf)
            continue;
        if (c != '\n' && c != '\r') {
            hw_buf_putc(&events->line, c);
            continue;
        }
        if (!take_line(events))
            return false;
        hw_buf_reset(&events->line);
    }
    events->too_large = events->line.len + events->data.len > CLI_EVENT_MOST;
    return !events->too_large;
}
