#include "cli/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "cli/text.h"

#define CORE_TAG "tag:yaml.org,2002:"

/* ---- scalars ---- */

/* The type of a plain scalar by its form. */
enum looks { LOOKS_STRING, LOOKS_NULL, LOOKS_BOOL, LOOKS_INT, LOOKS_FLOAT, LOOKS_NO_NUMBER };

static bool is_one_of(const char *text, const char *const words[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

static const char decimal[] = "0123456789";

static bool all_of(const char *text, const char *digits)
{
    return *text != '\0' && text[strspn(text, digits)] == '\0';
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(const char *text)
{
    size_t whole, fraction = 0;

    text += *text == '-' || *text == '+';
    whole = strspn(text, decimal);
    text += whole;
    if (*text == '.') {
        fraction = strspn(++text, decimal);
        text += fraction;
    }
    if (whole == 0 && fraction == 0)
        return false;
    if (*text != 'e' && *text != 'E')
        return *text == '\0';
    text++;
    text += *text == '-' || *text == '+';
    return all_of(text, decimal);
}

static enum looks look(const char *text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    static const char *const odd[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"};
    const char *const digits = text + (*text == '-' || *text == '+');

    if (is_one_of(text, nulls, HW_COUNT(nulls)))
        return LOOKS_NULL;
    if (is_one_of(text, bools, HW_COUNT(bools)))
        return LOOKS_BOOL;
    if (all_of(digits, decimal) || (strncmp(text, "0o", 2) == 0 && all_of(text + 2, "01234567")) ||
        (strncmp(text, "0x", 2) == 0 && all_of(text + 2, "0123456789abcdefABCDEF")))
        return LOOKS_INT;
    if (is_one_of(digits, odd, HW_COUNT(odd)))
        return LOOKS_NO_NUMBER;
    return is_float(text) ? LOOKS_FLOAT : LOOKS_STRING;
}

/* A number of YAML in base 8 or 16. NULL: it does not fit in 64 bits. */
static json_t *integer_of_base(const char *digits, int base)
{
    errno = 0;
    const long long value = strtoll(digits, NULL, base);
    return errno == 0 ? json_integer(value) : NULL;
}

/* A decimal number of YAML as JSON writes it: +.5 is 0.5, 007 is 7, and 1. is 1.0. */
static json_t *decimal_number(const char *text, bool is_float)
{
    struct hw_buf json = {0};
    json_t *value;

    hw_buf_puts(&json, *text == '-' ? "-" : "");
    text += *text == '-' || *text == '+';
    while (text[0] == '0' && strchr(decimal, text[1]) != NULL && text[1] != '\0')
        text++;
    const size_t whole = strspn(text, decimal);

    hw_buf_add(&json, whole > 0 ? text : "0", whole > 0 ? whole : 1);
    text += whole;
    const size_t fraction = *text == '.' ? strspn(text + 1, decimal) : 0;

    if (fraction > 0)
        hw_buf_add(&json, text, fraction + 1);
    else if (is_float && *text != 'e' && *text != 'E')
        hw_buf_puts(&json, ".0");
    text += *text == '.' ? fraction + 1 : 0;
    hw_buf_puts(&json, text);
    value = hw_json_load(json.data, json.len, JSON_DECODE_ANY, NULL);
    hw_buf_free(&json);
    return value;
}

static json_t *number(const char *text, bool is_float)
{
    return strncmp(text, "0x", 2) == 0   ? integer_of_base(text + 2, 16)
           : strncmp(text, "0o", 2) == 0 ? integer_of_base(text + 2, 8)
                                         : decimal_number(text, is_float);
}

/* ---- reading ---- */

/* A value and its size. */
struct part {
    json_t *value;
    size_t nodes, bytes, depth; /* with its members; an alias counts as what it stands for */
};

struct anchor {
    char *name;
    struct part part;
};

struct reader {
    const char *name;
    const char *text;
    size_t len;
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    struct anchor *anchors; /* of this document */
    size_t anchor_count;
    size_t nodes, bytes; /* of all */
    struct hw_error *err;
};

static enum hw_status refuse(struct reader *r, const yaml_mark_t *mark, const char *what)
{
    return hw_fail(r->err, HW_EINVAL, "%s:%zu:%zu: %s", r->name, mark->line + 1, mark->column + 1,
                   what);
}

/* Is there a tab in the indentation of a line, counted from 0? libyaml does not say so in its
 * message. */
static bool is_indented_by_tab(const struct reader *r, size_t line)
{
    const char *p = r->text, *const end = r->text + r->len;

    for (; line > 0 && p != NULL; line--) {
        p = memchr(p, '\n', (size_t)(end - p));
        p = p != NULL ? p + 1 : NULL;
    }
    while (p != NULL && p < end && *p == ' ')
        p++;
    return p != NULL && p < end && *p == '\t';
}

static enum hw_status next_event(struct reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event) != 0;
    if (r->has_event)
        return HW_OK;
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return hw_fail(r->err, HW_ELIMIT, "%s: no memory to read it", r->name);
    if (p->error == YAML_READER_ERROR)
        return hw_fail(r->err, HW_EINVAL, "%s: byte %zu: %s", r->name, p->problem_offset,
                       p->problem);
    if (is_indented_by_tab(r, p->problem_mark.line))
        return refuse(r, &p->problem_mark,
                      "a tab indents this line: YAML is indented by blanks alone");
    return hw_fail(r->err, HW_EINVAL, "%s:%zu:%zu: %s%s%s", r->name, p->problem_mark.line + 1,
                   p->problem_mark.column + 1, p->problem, p->context != NULL ? " " : "",
                   p->context != NULL ? p->context : "");
}

/* Adds a part that is about to be used to the counts; depth: that of the collection around it. */
static enum hw_status count(struct reader *r, const yaml_mark_t *mark, const struct part *part,
                            size_t depth)
{
    r->nodes += part->nodes;
    r->bytes += part->bytes;
    if (depth + part->depth > CLI_YAML_DEPTH)
        return refuse(r, mark, "the collections are too deep in each other");
    if (r->nodes > CLI_YAML_NODES || r->bytes > CLI_YAML_BYTES)
        return refuse(r, mark, "too much for one file, aliases followed");
    return HW_OK;
}

/* The name in the core schema for a tag ("str"); "" where there is no tag, NULL for another
 * schema's tag. */
static const char *core_tag(const yaml_char_t *tag)
{
    const char *text = (const char *)tag;

    if (text == NULL)
        return "";
    return strncmp(text, CORE_TAG, strlen(CORE_TAG)) == 0 ? text + strlen(CORE_TAG) : NULL;
}

static enum hw_status check_collection_tag(struct reader *r, const yaml_char_t *tag,
                                           const char *wanted)
{
    const char *name = core_tag(tag);

    if (name != NULL && (*name == '\0' || strcmp(name, wanted) == 0))
        return HW_OK;
    return refuse(r, &r->event.start_mark, "a tag that does not belong here");
}

static enum hw_status resolve(struct reader *r, const char *text, size_t len, bool plain,
                              json_t **value)
{
    const yaml_char_t *tag = r->event.data.scalar.tag;
    const bool bare = tag != NULL && strcmp((const char *)tag, "!") == 0;
    const char *name = bare ? "str" : core_tag(tag);
    enum looks looks = LOOKS_STRING;

    if (name == NULL)
        return refuse(r, &r->event.start_mark,
                      "a tag other than !!str, !!int, !!float, !!bool and !!null");
    if (*name != '\0' ? strcmp(name, "str") != 0 : plain)
        looks = look(text);
    const bool fits = *name == '\0' || strcmp(name, "str") == 0 ||
                      (strcmp(name, "null") == 0 && looks == LOOKS_NULL) ||
                      (strcmp(name, "bool") == 0 && looks == LOOKS_BOOL) ||
                      (strcmp(name, "int") == 0 && looks == LOOKS_INT) ||
                      (strcmp(name, "float") == 0 && (looks == LOOKS_FLOAT || looks == LOOKS_INT));
    if (!fits)
        return refuse(r, &r->event.start_mark, "the value is not what its tag says");
    if (strcmp(name, "float") == 0 && is_float(text))
        looks = LOOKS_FLOAT;
    switch (looks) {
    case LOOKS_STRING:
        *value = json_stringn(text, len);
        break;
    case LOOKS_NULL:
        *value = json_null();
        break;
    case LOOKS_BOOL:
        *value = json_boolean(*text == 't' || *text == 'T');
        break;
    case LOOKS_INT:
        *value = number(text, false);
        break;
    case LOOKS_FLOAT:
        *value = number(text, true);
        break;
    case LOOKS_NO_NUMBER:
        return refuse(r, &r->event.start_mark,
                      "JSON has no infinity and no NaN; put quotes around it to mean a string");
    }
    if (*value == NULL)
        return refuse(
            r, &r->event.start_mark,
            "a number in base 8 or 16 has 64 bits at most; put quotes around it to mean a string");
    return HW_OK;
}

static bool is_plain(const yaml_event_t *event)
{
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static enum hw_status read_scalar(struct reader *r, struct part *part)
{
    const char *text = (const char *)r->event.data.scalar.value;
    const size_t len = r->event.data.scalar.length;

    if (memchr(text, '\0', len) != NULL)
        return refuse(r, &r->event.start_mark, "a NUL character, which no text may hold");
    part->nodes = 1;
    part->bytes = len;
    return resolve(r, text, len, is_plain(&r->event), &part->value);
}

static enum hw_status read_value(struct reader *r, size_t depth, struct part *part);

static void add_up(struct part *whole, const struct part *member)
{
    whole->nodes += member->nodes;
    whole->bytes += member->bytes;
    if (whole->depth <= member->depth)
        whole->depth = member->depth + 1;
}

static enum hw_status read_sequence(struct reader *r, size_t depth, struct part *part)
{
    enum hw_status st = check_collection_tag(r, r->event.data.sequence_start.tag, "seq");

    if (st == HW_OK)
        st = next_event(r);
    while (st == HW_OK && r->event.type != YAML_SEQUENCE_END_EVENT) {
        struct part member = {0};

        st = read_value(r, depth + 1, &member);
        if (st != HW_OK)
            break;
        json_array_append_new(part->value, member.value);
        add_up(part, &member);
        st = next_event(r);
    }
    return st;
}

/* The current event is that of a key; its text is copied. */
static enum hw_status read_key(struct reader *r, const json_t *object, char **key)
{
    const yaml_event_t *e = &r->event;
    const char *text = (const char *)e->data.scalar.value;

    if (e->type == YAML_ALIAS_EVENT)
        return refuse(r, &e->start_mark, "an alias as a key; write the key out");
    if (e->type != YAML_SCALAR_EVENT)
        return refuse(r, &e->start_mark, "a key must be a scalar, as JSON's are");
    if (e->data.scalar.anchor != NULL)
        return refuse(r, &e->start_mark, "an anchor at a key");
    if (e->data.scalar.tag != NULL && strcmp((const char *)e->data.scalar.tag, CORE_TAG "str") != 0)
        return refuse(r, &e->start_mark, "a tag other than !!str at a key");
    if (memchr(text, '\0', e->data.scalar.length) != NULL)
        return refuse(r, &e->start_mark, "a NUL character, which no text may hold");
    if (is_plain(e) && strcmp(text, "<<") == 0)
        return refuse(r, &e->start_mark,
                      "a merge key (<<), which YAML 1.2 does not have; write the members out");
    if (is_plain(e) && *text == '\0')
        return refuse(r, &e->start_mark, "a key is missing");
    if (json_object_get(object, text) != NULL) {
        HW_AUTO_FREE char *what = hw_sprintf("the key \"%.200s\" is there twice", text);
        return refuse(r, &e->start_mark, what);
    }
    *key = hw_strdup(text);
    return HW_OK;
}

static enum hw_status read_mapping(struct reader *r, size_t depth, struct part *part)
{
    enum hw_status st = check_collection_tag(r, r->event.data.mapping_start.tag, "map");

    if (st == HW_OK)
        st = next_event(r);
    while (st == HW_OK && r->event.type != YAML_MAPPING_END_EVENT) {
        HW_AUTO_FREE char *key = NULL;
        struct part member = {0};

        st = read_key(r, part->value, &key);
        if (st == HW_OK)
            st = next_event(r);
        if (st == HW_OK)
            st = read_value(r, depth + 1, &member);
        if (st != HW_OK || key == NULL)
            break;
        json_object_set_new(part->value, key, member.value);
        part->bytes += strlen(key);
        r->bytes += strlen(key);
        add_up(part, &member);
        st = next_event(r);
    }
    return st;
}

static enum hw_status follow_alias(struct reader *r, size_t depth, struct part *part)
{
    const char *name = (const char *)r->event.data.alias.anchor;

    /* The last anchor of that name counts. An anchor is added when its value is complete, so there
     * are no cycles. */
    for (size_t i = r->anchor_count; i > 0; i--) {
        const struct anchor *a = &r->anchors[i - 1];

        if (strcmp(a->name, name) != 0)
            continue;
        const enum hw_status st = count(r, &r->event.start_mark, &a->part, depth);
        if (st != HW_OK)
            return st;
        *part = a->part;
        json_incref(part->value);
        return HW_OK;
    }
    return refuse(r, &r->event.start_mark, "no anchor of this name is complete before this alias");
}

static void add_anchor(struct reader *r, const char *name, const struct part *part)
{
    r->anchors = hw_realloc(r->anchors, (r->anchor_count + 1) * sizeof(*r->anchors));
    r->anchors[r->anchor_count++] = (struct anchor){.name = hw_strdup(name), .part = *part};
    json_incref(part->value);
}

static void drop_anchors(struct reader *r)
{
    for (size_t i = 0; i < r->anchor_count; i++) {
        free(r->anchors[i].name);
        json_decref(r->anchors[i].part.value);
    }
    free(r->anchors);
    r->anchors = NULL;
    r->anchor_count = 0;
}

/* Reads a value from its first event to its last. When it returns, the members have been
 * counted. */
static enum hw_status read_value(struct reader *r, size_t depth, struct part *part)
{
    const yaml_char_t *anchor = NULL;
    struct part read = {.nodes = 1};
    enum hw_status st;

    if (r->event.type == YAML_ALIAS_EVENT)
        return follow_alias(r, depth, part);
    if (r->event.type == YAML_SCALAR_EVENT)
        anchor = r->event.data.scalar.anchor;
    else if (r->event.type == YAML_SEQUENCE_START_EVENT)
        anchor = r->event.data.sequence_start.anchor;
    else
        anchor = r->event.data.mapping_start.anchor;
    HW_AUTO_FREE char *name = anchor != NULL ? hw_strdup((const char *)anchor) : NULL;
    const yaml_mark_t mark = r->event.start_mark;

    if (r->event.type == YAML_SCALAR_EVENT) {
        st = read_scalar(r, &read);
        if (st == HW_OK)
            st = count(r, &mark, &read, depth);
    } else {
        const bool is_sequence = r->event.type == YAML_SEQUENCE_START_EVENT;

        st = count(r, &mark, &(struct part){.nodes = 1, .depth = 1}, depth);
        read.depth = 1;
        read.value = is_sequence ? json_array() : json_object();
        if (st == HW_OK)
            st = is_sequence ? read_sequence(r, depth, &read) : read_mapping(r, depth, &read);
    }
    if (st != HW_OK) {
        json_decref(read.value);
        return st;
    }
    if (name != NULL)
        add_anchor(r, name, &read);
    *part = read;
    return HW_OK;
}

/* Reads a document from its start to its end. */
static enum hw_status read_document(struct reader *r, cli_yaml_fn *document, void *arg)
{
    struct part part = {0};
    enum hw_status st = next_event(r);
    const size_t line = r->has_event ? r->event.start_mark.line + 1 : 0;

    if (st == HW_OK)
        st = read_value(r, 0, &part);
    drop_anchors(r);
    if (st == HW_OK)
        st = next_event(r);
    if (st != HW_OK) {
        json_decref(part.value);
        return st;
    }
    return document(arg, part.value, line, r->err);
}

enum hw_status cli_yaml_read(const char *name, const char *text, size_t len, cli_yaml_fn *document,
                             void *arg, struct hw_error *err)
{
    struct reader r = {.name = name, .text = text, .len = len, .err = err};
    enum hw_status st = HW_OK;

    if (yaml_parser_initialize(&r.parser) == 0)
        return hw_fail(err, HW_ELIMIT, "%s: no memory to read it", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    do {
        st = next_event(&r);
        if (st == HW_OK && r.event.type == YAML_DOCUMENT_START_EVENT)
            st = read_document(&r, document, arg);
    } while (st == HW_OK && r.event.type != YAML_STREAM_END_EVENT);
    if (r.has_event)
        yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return st;
}

/* ---- writing ---- */

/* Would a reader of YAML 1.1 take it for something else? Everything that begins like a number or a
 * date is quoted as well: 12:30, 2026-01-31, 0777, 1_000. */
static bool is_ambiguous(const char *text)
{
    static const char *const words[] = {"y", "n",  "yes",  "no",    "on",  "off",
                                        "=", "<<", "true", "false", "null"};

    if (look(text) != LOOKS_STRING || strchr("+-.0123456789", *text) != NULL)
        return true;
    for (size_t i = 0; i < HW_COUNT(words); i++)
        if (strcasecmp(text, words[i]) == 0)
            return true;
    return false;
}

/* The emitter has only input of ours and writes to memory, so it fails only when there is no
 * memory. */
static void emit(yaml_emitter_t *emitter, yaml_event_t *event)
{
    if (yaml_emitter_emit(emitter, event) == 0)
        abort();
}

static void emit_scalar(yaml_emitter_t *emitter, const char *text, size_t len,
                        yaml_scalar_style_t style)
{
    yaml_event_t event;
    HW_AUTO_FREE char *copy = hw_strndup(text, len); /* libyaml's parameter is not const */

    yaml_scalar_event_initialize(&event, NULL, NULL, (yaml_char_t *)copy, (int)len, 1, 1, style);
    emit(emitter, &event);
}

static void emit_string(yaml_emitter_t *emitter, const char *text, size_t len, bool is_key)
{
    yaml_scalar_style_t style = YAML_PLAIN_SCALAR_STYLE;

    if (is_ambiguous(text))
        style = YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    else if (!is_key && memchr(text, '\n', len) != NULL)
        style = YAML_LITERAL_SCALAR_STYLE;
    emit_scalar(emitter, text, len, style);
}

static void emit_value(yaml_emitter_t *emitter, const json_t *value)
{
    yaml_event_t event;
    const char *key;
    json_t *member;
    size_t i;

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE);
        emit(emitter, &event);
        json_object_foreach((json_t *)(uintptr_t)value, key, member) {
            emit_string(emitter, key, strlen(key), true);
            emit_value(emitter, member);
        }
        yaml_mapping_end_event_initialize(&event);
        emit(emitter, &event);
        break;
    case JSON_ARRAY:
        yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE);
        emit(emitter, &event);
        json_array_foreach(value, i, member)
            emit_value(emitter, member);
        yaml_sequence_end_event_initialize(&event);
        emit(emitter, &event);
        break;
    case JSON_STRING:
        if (hw_json_digits(value) != NULL)
            emit_scalar(emitter, hw_json_digits(value), json_string_length(value) - 1,
                        YAML_PLAIN_SCALAR_STYLE);
        else
            emit_string(emitter, json_string_value(value), json_string_length(value), false);
        break;
    case JSON_INTEGER:
    case JSON_REAL:
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL: {
        HW_AUTO_FREE char *text = cli_json_text(value, false);
        emit_scalar(emitter, text, strlen(text), YAML_PLAIN_SCALAR_STYLE);
        break;
    }
    }
}

static int append(void *arg, unsigned char *bytes, size_t len)
{
    hw_buf_add(arg, bytes, len);
    return 1;
}

char *cli_yaml_text(const json_t *value)
{
    struct hw_buf out = {0};
    yaml_emitter_t emitter;
    yaml_event_t event;

    if (yaml_emitter_initialize(&emitter) == 0)
        abort();
    yaml_emitter_set_output(&emitter, append, &out);
    yaml_emitter_set_encoding(&emitter, YAML_UTF8_ENCODING);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING);
    emit(&emitter, &event);
    yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1);
    emit(&emitter, &event);
    emit_value(&emitter, value);
    yaml_document_end_event_initialize(&event, 1);
    emit(&emitter, &event);
    yaml_stream_end_event_initialize(&event);
    emit(&emitter, &event);
    yaml_emitter_delete(&emitter);
    return out.data;
}
