/*
 * An event: one entry of one of the two histories, of what nodes should run (desired) and of what
 * they report (reported), encoded once as it is sent to every stream. A cursor says up to where
 * both histories were read; as text, "<desired>-<reported>", it is the id of an event.
 */
#ifndef API_RESOURCES_EVENT_H
#define API_RESOURCES_EVENT_H

#include <jansson.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum api_event_kind { API_EVENT_DESIRED = 1, API_EVENT_REPORTED = 2 };

struct api_event {
    int refs;
    enum api_event_kind kind;
    int64_t id; /* in its history */
    char *node;
    char *labels_text;
    json_t *labels; /* made of the text when first asked for */
    size_t len;
    char text[]; /* as it is sent, without the id */
};

/* From a row of headwater.events_after(); with one reference. */
struct api_event *api_event_new(const PGresult *rows, int row);
void api_event_release(struct api_event *event); /* NULL is fine */

/* Which events a stream wants. */
struct api_event_filter {
    int kinds;            /* of enum api_event_kind, added up */
    const char *node;     /* or NULL: any */
    json_t *alternatives; /* that a selector leaves; see api/request/selector.h */
};
bool api_event_is_wanted(struct api_event *event, const struct api_event_filter *filter);

/* "desired", "reported", or both with a comma; 0 for anything else. */
int api_event_kinds_parse(const char *text);

/* ---- cursors ---- */

struct api_cursor {
    int64_t desired, reported;
};

bool api_cursor_parse(const char *text, struct api_cursor *cursor);
/* Behind the event, or behind all that the other cursor has behind it. Never goes back. */
void api_cursor_pass(struct api_cursor *cursor, const struct api_event *event);
void api_cursor_pass_all(struct api_cursor *cursor, struct api_cursor end);
/* Was the event passed? */
bool api_cursor_has_passed(const struct api_cursor *cursor, const struct api_event *event);
/* Is it behind the other one in either history? */
bool api_cursor_is_behind(struct api_cursor cursor, struct api_cursor other);

#endif
