#include "cdc/wal2json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/memory.h"

/* One record on its way through: what its errors need to name it. */
struct reader {
    const char *text;
    size_t len;
    hw_lsn at;
    uint32_t xid;
    json_t *json;
    struct hw_error *err;
};

#define EXCERPT_MAX 64

/* Copies some bytes around position, printable and whole characters only. */
static const char *excerpt(const struct reader *r, size_t position, char out[EXCERPT_MAX + 1])
{
    size_t from = position > EXCERPT_MAX / 2 ? position - EXCERPT_MAX / 2 : 0;
    size_t len = 0;
    if (from > r->len)
        from = r->len;
    for (size_t i = from; i < r->len && len < EXCERPT_MAX; i++) {
        unsigned char c = (unsigned char)r->text[i];
        out[len++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
    }
    out[len] = '\0';
    return out;
}

static enum hw_status refuse(const struct reader *r, size_t position, const char *fmt, ...)
    HW_PRINTF(3, 4);
static enum hw_status refuse(const struct reader *r, size_t position, const char *fmt, ...)
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
                   excerpt(r, position, part));
}

/* ---- numbers ---- */

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

/* Where the string that starts at p (a quote) ends: behind its closing quote, or at end. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; (p = memchr(p, '"', (size_t)(end - p))) != NULL; p++) {
        size_t backslashes = 0;
        while (p[-1 - (ptrdiff_t)backslashes] == '\\')
            backslashes++;
        if (backslashes % 2 == 0)
            return p + 1;
    }
    return end;
}

/* Puts every number that is no int64 into quotes. Adds nothing to out when there is none. */
static void quote_numbers(const char *text, size_t len, struct hw_buf *out)
{
    const char *end = text + len, *copied = text, *p = text;
    while (p < end) {
        bool integer;
        size_t n;
        if (*p == '"') {
            p = skip_string(p, end);
        } else if ((*p == '-' || isdigit((unsigned char)*p)) &&
                   (n = scan_number(p, end, &integer)) > 0) {
            if (!integer) {
                hw_buf_add(out, copied, (size_t)(p - copied));
                hw_buf_putc(out, '"');
                hw_buf_add(out, p, n);
                hw_buf_putc(out, '"');
                copied = p + n;
            }
            p += n;
        } else {
            p++;
        }
    }
    if (out->len > 0)
        hw_buf_add(out, copied, (size_t)(end - copied));
}

/* ---- members ---- */

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static enum hw_status member(const struct reader *r, const json_t *object, const char *name,
                             json_type type, json_t **value)
{
    json_t *found = json_object_get(object, name);
    if (found == NULL)
        return refuse(r, 0, "member \"%s\" is missing", name);
    if (json_typeof(found) != type)
        return refuse(r, 0, "member \"%s\" is %s where %s belongs", name,
                      type_name(json_typeof(found)), type_name(type));
    *value = found;
    return HW_OK;
}

static enum hw_status member_string(const struct reader *r, const char *name, const char **string)
{
    json_t *value = NULL;
    enum hw_status st = member(r, r->json, name, JSON_STRING, &value);
    if (st == HW_OK)
        *string = json_string_value(value);
    return st;
}

static enum hw_status member_lsn(const struct reader *r, const char *name, hw_lsn *lsn)
{
    const char *text = "";
    enum hw_status st = member_string(r, name, &text);
    if (st != HW_OK)
        return st;
    if (hw_lsn_parse(text, lsn, NULL) != HW_OK)
        return refuse(r, 0, "member \"%s\" is no LSN", name);
    return HW_OK;
}

static enum hw_status member_xid(struct reader *r, uint32_t *xid)
{
    json_t *value = NULL;
    enum hw_status st = member(r, r->json, "xid", JSON_INTEGER, &value);
    if (st != HW_OK)
        return st;
    json_int_t number = json_integer_value(value);
    if (number < 1 || number > UINT32_MAX)
        return refuse(r, 0, "member \"xid\" is out of range");
    *xid = r->xid = (uint32_t)number;
    return HW_OK;
}

/* "2026-01-31 12:00:00.12+00", as timezone=UTC and datestyle=ISO make it, to RFC 3339. */
static enum hw_status member_time(const struct reader *r, char out[static 40])
{
    static const char shape[] = "0000-00-00 00:00:00";
    static const char micros[] = ".000000Z";
    const char *text = "";
    enum hw_status st = member_string(r, "timestamp", &text);
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
        return refuse(r, 0, "timestamp \"%.40s\" is not in ISO form and UTC", text);

    memcpy(out, text, n);
    out[10] = 'T';
    memcpy(out + n, micros, sizeof(micros));
    memcpy(out + n + 1, text + n + 1, digits);
    return HW_OK;
}

/* [{"name":…,"value":…}, …] to {name: value, …}. */
static enum hw_status member_columns(const struct reader *r, const char *name, json_t **columns)
{
    json_t *array = NULL;
    enum hw_status st = member(r, r->json, name, JSON_ARRAY, &array);
    if (st != HW_OK)
        return st;

    json_t *object = json_object();
    size_t i;
    json_t *column;
    json_array_foreach(array, i, column)
    {
        json_t *key = NULL, *value = json_object_get(column, "value");
        if (!json_is_object(column)) {
            st = refuse(r, 0, "\"%s\" holds %s where an object belongs", name,
                        type_name(json_typeof(column)));
            goto fail;
        }
        st = member(r, column, "name", JSON_STRING, &key);
        if (st != HW_OK)
            goto fail;
        const char *column_name = json_string_value(key);
        if (value == NULL) {
            st = refuse(r, 0, "column \"%s\" in \"%s\" has no value", column_name, name);
            goto fail;
        }
        if (json_is_object(value) || json_is_array(value)) {
            st = refuse(r, 0, "column \"%s\" in \"%s\" is %s", column_name, name,
                        type_name(json_typeof(value)));
            goto fail;
        }
        if (json_object_set_nocheck(object, column_name, value) != 0 ||
            json_object_size(object) != i + 1) {
            st = refuse(r, 0, "column \"%s\" appears twice in \"%s\"", column_name, name);
            goto fail;
        }
    }
    *columns = object;
    return HW_OK;

fail:
    json_decref(object);
    return st;
}

/* ---- records ---- */

static enum hw_status decode_boundary(struct reader *r, struct cdc_record *record)
{
    enum hw_status st = member_xid(r, &record->xid);
    if (st == HW_OK)
        st = member_lsn(r, "nextlsn", &record->next_lsn);
    if (st == HW_OK)
        st = member_time(r, record->committed_at);
    return st;
}

static enum hw_status decode_row(struct reader *r, struct cdc_record *record)
{
    struct cdc_change *change = &record->change;
    enum hw_status st = member_xid(r, &record->xid);
    if (st == HW_OK)
        st = member_string(r, "schema", &change->schema);
    if (st == HW_OK)
        st = member_string(r, "table", &change->table);
    if (st == HW_OK && (change->action == CDC_INSERT || change->action == CDC_UPDATE))
        st = member_columns(r, "columns", &change->columns);
    if (st == HW_OK && (change->action == CDC_DELETE || json_object_get(r->json, "identity")))
        st = member_columns(r, "identity", &change->identity);
    return st;
}

static enum hw_status decode_message(struct reader *r, struct cdc_record *record)
{
    json_t *transactional = json_object_get(r->json, "transactional");
    if (!json_is_boolean(transactional))
        return refuse(r, 0, "member \"transactional\" is missing or no boolean");

    json_t *content = NULL;
    enum hw_status st = HW_OK;
    if (json_is_true(transactional))
        st = member_xid(r, &record->xid);
    if (st == HW_OK)
        st = member_string(r, "prefix", &record->change.prefix);
    if (st == HW_OK)
        st = member(r, r->json, "content", JSON_STRING, &content);
    if (st == HW_OK) {
        record->change.content = json_string_value(content);
        record->change.content_len = json_string_length(content);
    }
    return st;
}

static enum hw_status decode_parsed(struct reader *r, struct cdc_record *record)
{
    const char *action = "";
    enum hw_status st = member_string(r, "action", &action);
    if (st == HW_OK)
        st = member_lsn(r, "lsn", &record->lsn);
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
        return refuse(r, 0, "action \"%.16s\" is unknown", action);
    }
}

enum hw_status cdc_record_decode(const char *text, size_t len, hw_lsn at, struct cdc_record *record,
                                 struct hw_error *err)
{
    struct reader r = {.text = text, .len = len, .at = at, .err = err};
    struct hw_buf quoted = {0};
    quote_numbers(text, len, &quoted);
    if (quoted.len > 0) {
        r.text = quoted.data;
        r.len = quoted.len;
    }

    struct cdc_record decoded = {0};
    enum hw_status st;
    json_error_t error;
    r.json = decoded.json = json_loadb(r.text, r.len, JSON_REJECT_DUPLICATES, &error);
    if (r.json == NULL)
        st = refuse(&r, error.position > 0 ? (size_t)error.position : 0, "%s", error.text);
    else if (!json_is_object(r.json))
        st = refuse(&r, 0, "it is no object");
    else
        st = decode_parsed(&r, &decoded);
    hw_buf_free(&quoted);

    if (st != HW_OK)
        cdc_record_free(&decoded);
    else
        *record = decoded;
    return st;
}

void cdc_record_free(struct cdc_record *record)
{
    json_decref(record->change.columns);
    json_decref(record->change.identity);
    json_decref(record->json);
    *record = (struct cdc_record){0};
}
