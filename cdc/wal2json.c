#include "cdc/wal2json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

#define EXCERPT_MAX 64
#define DEPTH_MAX   32 /* of values that are passed over */

enum kind { ABSENT, IS_NULL, IS_FALSE, IS_TRUE, INTEGER, NUMBER, STRING, ARRAY, OBJECT };

struct value {
    enum kind kind;
    int64_t integer;
    const char *text; /* of a string, or a number that is no int64; NUL behind it */
    size_t len;
};

/* The members of a record that are used; others are passed over. */
enum member {
    ACTION,
    XID,
    LSN,
    NEXT_LSN,
    TIMESTAMP,
    SCHEMA,
    TABLE,
    COLUMNS,
    IDENTITY,
    TRANSACTIONAL,
    PREFIX,
    CONTENT,
    MEMBERS
};
static const char *const member_names[MEMBERS] = {
    "action", "xid",     "lsn",      "nextlsn",       "timestamp", "schema",
    "table",  "columns", "identity", "transactional", "prefix",    "content"};

/* The reading of one record, with what an error needs to name it. */
struct reader {
    char *text, *p, *end;
    hw_lsn at;
    uint32_t xid;
    int depth;
    struct value members[MEMBERS];
    struct cdc_row columns, identity;
    struct hw_error *err;
};

/* Copies some bytes around p, printable and whole characters only. */
static const char *excerpt(const struct reader *r, const char *p, char out[EXCERPT_MAX + 1])
{
    const char *from = p - r->text > EXCERPT_MAX / 2 ? p - EXCERPT_MAX / 2 : r->text;
    size_t len = 0;
    while (from < r->end && len < EXCERPT_MAX) {
        unsigned char c = (unsigned char)*from++;
        out[len++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
    }
    out[len] = '\0';
    return out;
}

static enum hw_status refuse(const struct reader *r, const char *p, const char *fmt, ...)
    HW_PRINTF(3, 4);
static enum hw_status refuse(const struct reader *r, const char *p, const char *fmt, ...)
{
    char what[256], part[EXCERPT_MAX + 1];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    char xid[24] = "";
    if (r->xid != 0)
        snprintf(xid, sizeof(xid), " (xid %" PRIu32 ")", r->xid);
    return hw_fail(r->err, HW_EPROTO, "wal2json record at %s%s: %s: …%s…", HW_LSN(r->at), xid, what,
                   excerpt(r, p, part));
}

/* ---- tokens ---- */

/* The next byte that is no white space; NUL at the end. */
static char peek(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
    return r->p < r->end ? *r->p : '\0';
}

static bool take(struct reader *r, char c)
{
    if (peek(r) != c)
        return false;
    r->p++;
    return true;
}

static enum hw_status unexpected(struct reader *r, const char *wanted)
{
    peek(r);
    return refuse(r, r->p, "%s where %s belongs", r->p == r->end ? "the end" : "something else",
                  wanted);
}

/* The character that the escape at p stands for, and its length; 0 for an escape that the plug-in
 * does not write. */
static size_t unescape(const char *p, const char *end, char *out)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *letter = end - p >= 2 && p[1] != '\0' ? strchr(letters, p[1]) : NULL;
    unsigned code = 0;
    if (letter != NULL) {
        *out = meanings[letter - letters];
        return 2;
    }
    if (end - p < 6 || p[1] != 'u')
        return 0;
    for (int i = 2; i < 6; i++) {
        if (!isxdigit((unsigned char)p[i]))
            return 0;
        code = code * 16 +
               (unsigned)(isdigit((unsigned char)p[i]) ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
    }
    if (code == 0 || code >= 0x80)
        return 0;
    *out = (char)code;
    return 6;
}

/* Takes the escapes out in place, which makes room for a NUL at the latest at the closing quote. */
static enum hw_status read_string(struct reader *r, struct value *value)
{
    if (!take(r, '"'))
        return unexpected(r, "a string");
    char *const start = r->p, *p = start, *out;
    unsigned char all = 0;
    while (p < r->end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
        all |= (unsigned char)*p++;
    for (out = p; p < r->end && *p != '"';) {
        size_t n = 1;
        if (*p == '\\')
            n = unescape(p, r->end, out);
        else
            *out = *p;
        if (n == 0 || (n == 1 && (unsigned char)*p < 0x20))
            return refuse(r, p, "invalid escape or control character in a string");
        all |= (unsigned char)*out++;
        p += n;
    }
    if (p == r->end)
        return refuse(r, p, "the end within a string");
    *out = '\0';
    r->p = p + 1;
    *value = (struct value){.kind = STRING, .text = start, .len = (size_t)(out - start)};
    if ((all & 0x80) != 0 && !hw_utf8_valid(start, value->len, NULL))
        return refuse(r, start, "a string is not UTF-8");
    return HW_OK;
}

/* The length of the JSON number (RFC 8259 section 6) at p, or 0; tells whether it is an int64. */
static size_t scan_number(const char *p, const char *end, bool *integer)
{
    static const char highest[] = "9223372036854775807", lowest[] = "9223372036854775808";
    const char *s = p;
    if (s < end && *s == '-')
        s++;
    const char *digits = s;
    while (s < end && isdigit((unsigned char)*s))
        s++;
    if (s == digits || (*digits == '0' && s - digits > 1))
        return 0;
    *integer = true;
    if (s < end && *s == '.') {
        *integer = false;
        const char *fraction = ++s;
        while (s < end && isdigit((unsigned char)*s))
            s++;
        if (s == fraction)
            return 0;
    }
    if (s < end && (*s == 'e' || *s == 'E')) {
        *integer = false;
        s++;
        if (s < end && (*s == '+' || *s == '-'))
            s++;
        const char *exponent = s;
        while (s < end && isdigit((unsigned char)*s))
            s++;
        if (s == exponent)
            return 0;
    }
    if (*integer && s - digits >= 19)
        *integer = s - digits == 19 && memcmp(digits, *p == '-' ? lowest : highest, 19) <= 0;
    return (size_t)(s - p);
}

/* The text of a number that is no int64, moved one byte towards the start to make room for its NUL:
 * the byte in front of it, of a name or a bracket, was read already. */
static enum hw_status read_number(struct reader *r, struct value *value)
{
    bool integer;
    const size_t len = scan_number(r->p, r->end, &integer);
    if (len == 0)
        return unexpected(r, "a value");
    char *text = memmove(r->p - 1, r->p, len);
    r->p += len;
    text[len] = '\0';
    *value = (struct value){.kind = NUMBER, .text = text, .len = len};
    if (integer) {
        value->kind = INTEGER;
        value->integer = strtoll(text, NULL, 10);
    }
    return HW_OK;
}

static enum hw_status read_word(struct reader *r, const char *word, enum kind kind,
                                struct value *value)
{
    const size_t len = strlen(word);
    if ((size_t)(r->end - r->p) < len || memcmp(r->p, word, len) != 0)
        return unexpected(r, "a value");
    r->p += len;
    *value = (struct value){.kind = kind};
    return HW_OK;
}

/* ---- values ---- */

/* Called in front of a value, which it reads; name is of a member of an object. */
typedef enum hw_status item_fn(struct reader *r, const char *name, void *arg);

static enum hw_status read_items(struct reader *r, bool object, item_fn *fn, void *arg)
{
    const char close = object ? '}' : ']';
    if (!take(r, object ? '{' : '['))
        return unexpected(r, object ? "an object" : "an array");
    if (take(r, close))
        return HW_OK;
    do {
        struct value name = {.text = ""};
        enum hw_status st = object ? read_string(r, &name) : HW_OK;
        if (st == HW_OK && object && !take(r, ':'))
            st = unexpected(r, "a colon");
        if (st == HW_OK)
            st = fn(r, name.text, arg);
        if (st != HW_OK)
            return st;
    } while (take(r, ','));
    return take(r, close) ? HW_OK : unexpected(r, object ? "a comma or }" : "a comma or ]");
}

static enum hw_status read_value(struct reader *r, struct value *value);

static enum hw_status pass_over(struct reader *r, const char *name, void *arg)
{
    (void)name, (void)arg;
    struct value value;
    return read_value(r, &value);
}

/* Reads any value. Of an array or an object it keeps only that it is one. */
static enum hw_status read_value(struct reader *r, struct value *value)
{
    switch (peek(r)) {
    case '"':
        return read_string(r, value);
    case 'n':
        return read_word(r, "null", IS_NULL, value);
    case 'f':
        return read_word(r, "false", IS_FALSE, value);
    case 't':
        return read_word(r, "true", IS_TRUE, value);
    case '[':
    case '{':
        *value = (struct value){.kind = *r->p == '[' ? ARRAY : OBJECT};
        if (r->depth == DEPTH_MAX)
            return refuse(r, r->p, "values within values");
        r->depth++;
        const enum hw_status st = read_items(r, *r->p == '{', pass_over, NULL);
        r->depth--;
        return st;
    default:
        return read_number(r, value);
    }
}

static const char *kind_name(enum kind kind)
{
    static const char *const names[] = {
        [ABSENT] = "nothing",    [IS_NULL] = "null",       [IS_FALSE] = "a boolean",
        [IS_TRUE] = "a boolean", [INTEGER] = "an integer", [NUMBER] = "a number",
        [STRING] = "a string",   [ARRAY] = "an array",     [OBJECT] = "an object",
    };
    return names[kind];
}

/* ---- rows: [{"name":…,"value":…}, …] ---- */

struct column {
    struct value name, value;
};

static enum hw_status take_column_member(struct reader *r, const char *name, void *arg)
{
    struct column *column = arg;
    struct value other;
    if (strcmp(name, "name") == 0)
        return read_value(r, &column->name);
    return read_value(r, strcmp(name, "value") == 0 ? &column->value : &other);
}

struct row {
    const char *member; /* that it is */
    struct cdc_row *row;
    size_t cap;
};

static enum hw_status take_column(struct reader *r, const char *name, void *arg)
{
    (void)name;
    static const enum cdc_type types[] = {
        [IS_NULL] = CDC_NULL,    [IS_FALSE] = CDC_FALSE, [IS_TRUE] = CDC_TRUE,
        [INTEGER] = CDC_INTEGER, [NUMBER] = CDC_STRING,  [STRING] = CDC_STRING};
    struct row *row = arg;
    struct cdc_row *const columns = row->row;
    struct column column = {0};
    const struct value *const value = &column.value;
    enum hw_status st;
    if (peek(r) != '{') {
        st = read_value(r, &column.value);
        return st != HW_OK ? st
                           : refuse(r, r->p, "\"%s\" holds %s where an object belongs", row->member,
                                    kind_name(value->kind));
    }
    st = read_items(r, true, take_column_member, &column);
    if (st != HW_OK)
        return st;
    if (column.name.kind == ABSENT)
        return refuse(r, r->p, "member \"name\" is missing");
    if (column.name.kind != STRING)
        return refuse(r, r->p, "member \"name\" is %s where a string belongs",
                      kind_name(column.name.kind));
    if (value->kind == ABSENT)
        return refuse(r, r->p, "column \"%s\" in \"%s\" has no value", column.name.text,
                      row->member);
    if (value->kind == ARRAY || value->kind == OBJECT)
        return refuse(r, r->p, "column \"%s\" in \"%s\" is %s", column.name.text, row->member,
                      kind_name(value->kind));
    if (cdc_row_find(columns, column.name.text) != NULL)
        return refuse(r, r->p, "column \"%s\" appears twice in \"%s\"", column.name.text,
                      row->member);
    if (columns->count == row->cap) {
        row->cap = row->cap > 0 ? 2 * row->cap : 8;
        columns->columns = hw_realloc(columns->columns, row->cap * sizeof(*columns->columns));
    }
    columns->columns[columns->count++] = (struct cdc_column){.name = column.name.text,
                                                             .type = types[value->kind],
                                                             .integer = value->integer,
                                                             .text = value->text,
                                                             .len = value->len};
    return HW_OK;
}

/* ---- members ---- */

static enum hw_status take_member(struct reader *r, const char *name, void *arg)
{
    (void)arg;
    enum member m = 0;
    struct value other;
    while (m < MEMBERS && strcmp(name, member_names[m]) != 0)
        m++;
    if (m == MEMBERS)
        return read_value(r, &other);
    struct value *value = &r->members[m];
    if (value->kind != ABSENT)
        return refuse(r, r->p, "member \"%s\" appears twice", name);
    if ((m != COLUMNS && m != IDENTITY) || peek(r) != '[')
        return read_value(r, value);
    value->kind = ARRAY;
    struct row row = {.member = member_names[m], .row = m == COLUMNS ? &r->columns : &r->identity};
    return read_items(r, false, take_column, &row);
}

/* NULL when it is not there or of another kind: the error says which. */
static const struct value *member(const struct reader *r, enum member m, enum kind kind)
{
    const struct value *const found = &r->members[m];
    if (found->kind == kind)
        return found;
    if (found->kind == ABSENT)
        refuse(r, r->text, "member \"%s\" is missing", member_names[m]);
    else
        refuse(r, r->text, "member \"%s\" is %s where %s belongs", member_names[m],
               kind_name(found->kind), kind_name(kind));
    return NULL;
}

static enum hw_status member_string(const struct reader *r, enum member m, const char **string)
{
    const struct value *value = member(r, m, STRING);
    if (value == NULL)
        return HW_EPROTO;
    *string = value->text;
    return HW_OK;
}

static enum hw_status member_lsn(const struct reader *r, enum member m, hw_lsn *lsn)
{
    const char *text = "";
    enum hw_status st = member_string(r, m, &text);
    if (st == HW_OK && hw_lsn_parse(text, lsn, NULL) != HW_OK)
        return refuse(r, r->text, "member \"%s\" is no LSN", member_names[m]);
    return st;
}

static enum hw_status member_xid(struct reader *r, uint32_t *xid)
{
    const struct value *value = member(r, XID, INTEGER);
    if (value == NULL)
        return HW_EPROTO;
    if (value->integer < 1 || value->integer > UINT32_MAX)
        return refuse(r, r->text, "member \"xid\" is out of range");
    *xid = r->xid = (uint32_t)value->integer;
    return HW_OK;
}

/* "2026-01-31 12:00:00.12+00", as timezone=UTC and datestyle=ISO make it, to RFC 3339. */
static enum hw_status member_time(const struct reader *r, char out[static 40])
{
    static const char shape[] = "0000-00-00 00:00:00";
    static const char micros[] = ".000000Z";
    const char *text = "";
    enum hw_status st = member_string(r, TIMESTAMP, &text);
    if (st != HW_OK)
        return st;

    size_t n = 0;
    while (shape[n] != '\0' &&
           (shape[n] == '0' ? isdigit((unsigned char)text[n]) != 0 : text[n] == shape[n]))
        n++;
    size_t digits = 0;
    if (shape[n] == '\0' && text[n] == '.')
        while (isdigit((unsigned char)text[n + 1 + digits]))
            digits++;
    const char *zone = text + n + (digits > 0 ? digits + 1 : 0);
    if (shape[n] != '\0' || digits > 6 || strcmp(zone, "+00") != 0)
        return refuse(r, r->text, "timestamp \"%.40s\" is not in ISO form and UTC", text);

    memcpy(out, text, n);
    out[10] = 'T';
    memcpy(out + n, micros, sizeof(micros));
    memcpy(out + n + 1, text + n + 1, digits);
    return HW_OK;
}

/* ---- records ---- */

static enum hw_status decode_boundary(struct reader *r, struct cdc_record *record)
{
    enum hw_status st = member_xid(r, &record->xid);
    if (st == HW_OK)
        st = member_lsn(r, NEXT_LSN, &record->next_lsn);
    if (st == HW_OK)
        st = member_time(r, record->committed_at);
    return st;
}

static enum hw_status decode_row(struct reader *r, struct cdc_record *record)
{
    struct cdc_change *change = &record->change;
    const bool new_row = change->action == CDC_INSERT || change->action == CDC_UPDATE;
    const bool old_row = change->action == CDC_DELETE || r->members[IDENTITY].kind != ABSENT;
    enum hw_status st = member_xid(r, &record->xid);
    if (st == HW_OK)
        st = member_string(r, SCHEMA, &change->schema);
    if (st == HW_OK)
        st = member_string(r, TABLE, &change->table);
    if (st != HW_OK || (new_row && member(r, COLUMNS, ARRAY) == NULL) ||
        (old_row && member(r, IDENTITY, ARRAY) == NULL))
        return HW_EPROTO;
    change->columns = new_row ? &record->columns : NULL;
    change->identity = old_row ? &record->identity : NULL;
    return HW_OK;
}

static enum hw_status decode_message(struct reader *r, struct cdc_record *record)
{
    const enum kind transactional = r->members[TRANSACTIONAL].kind;
    const struct value *content = NULL;
    enum hw_status st = HW_OK;
    if (transactional != IS_TRUE && transactional != IS_FALSE)
        return refuse(r, r->text, "member \"transactional\" is missing or no boolean");
    if (transactional == IS_TRUE)
        st = member_xid(r, &record->xid);
    if (st == HW_OK)
        st = member_string(r, PREFIX, &record->change.prefix);
    if (st == HW_OK)
        content = member(r, CONTENT, STRING);
    if (content == NULL)
        return HW_EPROTO;
    record->change.content = content->text;
    record->change.content_len = content->len;
    return HW_OK;
}

static enum hw_status decode_parsed(struct reader *r, struct cdc_record *record)
{
    const char *action = "";
    enum hw_status st = member_string(r, ACTION, &action);
    if (st == HW_OK)
        st = member_lsn(r, LSN, &record->lsn);
    if (st != HW_OK)
        return st;
    record->action = action[0];
    switch (action[0] != '\0' && action[1] == '\0' ? action[0] : '\0') {
    case 'B':
    case 'C':
        return decode_boundary(r, record);
    case 'I':
        record->change.action = CDC_INSERT;
        return decode_row(r, record);
    case 'U':
        record->change.action = CDC_UPDATE;
        return decode_row(r, record);
    case 'D':
        record->change.action = CDC_DELETE;
        return decode_row(r, record);
    case 'T':
        record->change.action = CDC_TRUNCATE;
        return decode_row(r, record);
    case 'M':
        record->change.action = CDC_MESSAGE;
        return decode_message(r, record);
    default:
        return refuse(r, r->text, "action \"%.16s\" is unknown", action);
    }
}

enum hw_status cdc_record_decode(char *text, size_t len, hw_lsn at, struct cdc_record *record,
                                 struct hw_error *err)
{
    struct reader r = {.text = text, .p = text, .end = text + len, .at = at, .err = err};
    struct cdc_record decoded = {0};
    enum hw_status st = read_items(&r, true, take_member, NULL);
    peek(&r);
    if (st == HW_OK && r.p < r.end)
        st = refuse(&r, r.p, "something behind the record");
    if (st == HW_OK)
        st = decode_parsed(&r, &decoded);
    if (st != HW_OK) {
        free(r.columns.columns);
        free(r.identity.columns);
        return st;
    }
    *record = decoded;
    record->columns = r.columns;
    record->identity = r.identity;
    if (decoded.change.columns != NULL)
        record->change.columns = &record->columns;
    if (decoded.change.identity != NULL)
        record->change.identity = &record->identity;
    return HW_OK;
}

void cdc_record_free(struct cdc_record *record)
{
    free(record->columns.columns);
    free(record->identity.columns);
    *record = (struct cdc_record){0};
}
