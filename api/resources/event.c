#include "api/resources/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/row.h"
#include "base/json_text.h"
#include "base/memory.h"

struct api_event *api_event_new(const PGresult *rows, int row)
{
    const char *kind = api_row_text(rows, row, "kind");
    const char *data = api_row_text(rows, row, "data");
    const char *labels = api_row_text(rows, row, "labels");
    const size_t len = strlen("event: \ndata: \n\n") + strlen(kind) + strlen(data);
    struct api_event *event = hw_alloc(sizeof(*event) + len + 1);

    event->refs = 1;
    event->kind = strcmp(kind, "desired") == 0 ? API_EVENT_DESIRED : API_EVENT_REPORTED;
    event->id = strtoll(api_row_text(rows, row, "id"), NULL, 10);
    event->node = hw_strdup(api_row_text(rows, row, "node"));
    event->labels_text = labels != NULL ? hw_strdup(labels) : NULL;
    event->len = len;
    snprintf(event->text, len + 1, "event: %s\ndata: %s\n\n", kind, data);
    return event;
}

void api_event_release(struct api_event *event)
{
    if (event == NULL || --event->refs > 0)
        return;
    free(event->node);
    free(event->labels_text);
    json_decref(event->labels);
    free(event);
}

/* ---- filters ---- */

/* jsonb's @>: an object holds the members of the other, an array its elements in any order. */
static bool contains(const json_t *have, const json_t *want)
{
    const char *name;
    const json_t *value, *other;
    size_t i, k;

    if (json_is_object(want) && json_is_object(have)) {
        /* jansson's loops take no const, and change nothing. */
        json_object_foreach((json_t *)(uintptr_t)want, name, value) {
            other = json_object_get(have, name);
            if (other == NULL || !contains(other, value))
                return false;
        }
        return true;
    }
    if (json_is_array(want) && json_is_array(have)) {
        json_array_foreach(want, i, value) {
            bool found = false;

            json_array_foreach(have, k, other)
                found = found || contains(other, value);
            if (!found)
                return false;
        }
        return true;
    }
    if (hw_json_is_number(want) && hw_json_is_number(have))
        return hw_json_same_number(want, have);
    return json_equal(have, want);
}

bool api_event_is_wanted(struct api_event *event, const struct api_event_filter *filter)
{
    const json_t *alternative;
    size_t i;

    if ((filter->kinds & (int)event->kind) == 0 ||
        (filter->node != NULL && strcmp(filter->node, event->node) != 0))
        return false;
    if (json_object_size(json_array_get(filter->alternatives, 0)) == 0)
        return true; /* everyone, also a node that is gone and has no labels any more */
    if (event->labels == NULL && event->labels_text != NULL) {
        event->labels =
            hw_json_load(event->labels_text, strlen(event->labels_text), JSON_DECODE_ANY, NULL);
        free(HW_TAKE(event->labels_text));
    }
    json_array_foreach(filter->alternatives, i, alternative) {
        if (event->labels != NULL && contains(event->labels, alternative))
            return true;
    }
    return false;
}

int api_event_kinds_parse(const char *text)
{
    int kinds = 0;

    for (const char *p = text;; p++) {
        const size_t len = strcspn(p, ",");

        if (len == strlen("desired") && strncmp(p, "desired", len) == 0)
            kinds |= API_EVENT_DESIRED;
        else if (len == strlen("reported") && strncmp(p, "reported", len) == 0)
            kinds |= API_EVENT_REPORTED;
        else
            return 0;
        p += len;
        if (*p == '\0')
            return kinds;
    }
}

/* ---- cursors ---- */

bool api_cursor_parse(const char *text, struct api_cursor *cursor)
{
    const size_t desired = strspn(text, "0123456789");
    const size_t reported = text[desired] == '-' ? strspn(text + desired + 1, "0123456789") : 0;

    if (desired == 0 || desired > 18 || reported == 0 || reported > 18 ||
        text[desired + 1 + reported] != '\0')
        return false;
    cursor->desired = strtoll(text, NULL, 10);
    cursor->reported = strtoll(text + desired + 1, NULL, 10);
    return true;
}

void api_cursor_pass(struct api_cursor *cursor, const struct api_event *event)
{
    int64_t *place = event->kind == API_EVENT_DESIRED ? &cursor->desired : &cursor->reported;

    if (event->id > *place)
        *place = event->id;
}

void api_cursor_pass_all(struct api_cursor *cursor, struct api_cursor end)
{
    if (end.desired > cursor->desired)
        cursor->desired = end.desired;
    if (end.reported > cursor->reported)
        cursor->reported = end.reported;
}

bool api_cursor_has_passed(const struct api_cursor *cursor, const struct api_event *event)
{
    return event->id <= (event->kind == API_EVENT_DESIRED ? cursor->desired : cursor->reported);
}

bool api_cursor_is_behind(struct api_cursor cursor, struct api_cursor other)
{
    return cursor.desired < other.desired || cursor.reported < other.reported;
}
