#include "http/media_type.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/memory.h"

enum { MEDIA_TYPE_MAX = 255 };

/* RFC 9110 section 5.6.2 */
static size_t token(const char *p)
{
    return strspn(p, "!#$%&'*+-.^_`|~0123456789"
                     "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static void add_lower(struct hw_buf *buf, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hw_buf_putc(buf, (char)tolower((unsigned char)text[i]));
}

/* One ";name=value" at *at. */
static enum hw_status add_parameter(const char **at, struct hw_buf *out, struct hw_error *err)
{
    const char *name = *at + strspn(*at, "; \t");
    const size_t name_len = token(name);
    const char *value = name + name_len + 1;
    size_t value_len;

    if (*name == '\0') {
        *at = name;
        return HW_OK;
    }
    if (name_len == 0 || name[name_len] != '=')
        return hw_fail(err, HW_EINVAL, "\"%s\" is not a parameter of a media type", name);
    value_len = *value == '"' ? strcspn(value + 1, "\"\\") + 2 : token(value);
    if (value_len == 0 || strlen(value) < value_len ||
        (*value == '"' && value[value_len - 1] != '"'))
        return hw_fail(err, HW_EINVAL, "\"%s\" is not a parameter of a media type", name);
    for (size_t i = 0; i < value_len; i++)
        if (value[i] < ' ' || value[i] > '~')
            return hw_fail(err, HW_EINVAL, "Content-Type: only plain ASCII is taken");
    *at = value + value_len;
    *at += strspn(*at, " \t");
    if (name_len == 7 && strncasecmp(name, "charset", 7) == 0) {
        const bool quoted = *value == '"';

        if (value_len != (quoted ? 7 : 5) || strncasecmp(value + quoted, "utf-8", 5) != 0)
            return hw_fail(err, HW_EINVAL, "text is taken as UTF-8 only");
        return HW_OK;
    }
    hw_buf_puts(out, "; ");
    add_lower(out, name, name_len);
    hw_buf_putc(out, '=');
    hw_buf_add(out, value, value_len);
    return HW_OK;
}

enum hw_status http_media_type_parse(const char *field, char **media_type, struct hw_error *err)
{
    static const char *const forms[] = {"application/x-www-form-urlencoded", "multipart/form-data"};
    const size_t type_len = token(field);
    const size_t subtype_len = field[type_len] == '/' ? token(field + type_len + 1) : 0;
    const char *at = field + type_len + 1 + subtype_len;
    struct hw_buf out = {0};
    enum hw_status status = HW_OK;

    if (type_len == 0 || subtype_len == 0 || strlen(field) > MEDIA_TYPE_MAX)
        return hw_fail(err, HW_EINVAL, "Content-Type: \"%.200s\" is not a media type", field);
    add_lower(&out, field, type_len + 1 + subtype_len);
    for (size_t i = 0; i < HW_COUNT(forms) && status == HW_OK; i++)
        if (strcmp(hw_buf_str(&out), forms[i]) == 0)
            status =
                hw_fail(err, HW_EINVAL,
                        "Content-Type: %s is how a form is sent; name the type of the content, "
                        "for example -H 'Content-Type: application/json'",
                        forms[i]);
    at += strspn(at, " \t");
    while (status == HW_OK && *at != '\0') {
        if (*at != ';')
            status = hw_fail(err, HW_EINVAL, "Content-Type: \"%s\" is not a media type", field);
        else
            status = add_parameter(&at, &out, err);
    }
    if (status == HW_OK && out.len > MEDIA_TYPE_MAX) /* blanks were put between the parameters */
        status =
            hw_fail(err, HW_EINVAL, "Content-Type: has more than %d characters", MEDIA_TYPE_MAX);
    if (status != HW_OK) {
        hw_buf_free(&out);
        return status;
    }
    *media_type = out.data;
    return HW_OK;
}

/* Is the essence (what stands before the parameters) type, or does it end with suffix? */
static bool is(const char *media_type, const char *type)
{
    const size_t essence = strcspn(media_type, "; \t");
    const size_t len = strlen(type);

    if (type[0] == '+')
        return essence > len && strncmp(media_type + essence - len, type, len) == 0;
    if (type[len - 1] == '/')
        return strncmp(media_type, type, len) == 0;
    return essence == len && strncmp(media_type, type, len) == 0;
}

bool http_media_type_is_json(const char *media_type)
{
    return is(media_type, "application/json") || is(media_type, "+json");
}

bool http_media_type_is_text(const char *media_type)
{
    static const char *const types[] = {
        "text/",
        "application/xml",
        "+xml",
        "application/yaml",
        "application/x-yaml",
        "+yaml",
        "application/toml",
        "application/javascript",
    };

    if (http_media_type_is_json(media_type))
        return true;
    for (size_t i = 0; i < HW_COUNT(types); i++)
        if (is(media_type, types[i]))
            return true;
    return false;
}
