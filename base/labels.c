#include "base/labels.h"

#include <string.h>

#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"

/* The value that a word spells in JSON when it is no string; NULL: none that we can hold. */
static json_t *scalar_of(const char *word)
{
    json_t *value = hw_json_load(word, strlen(word), JSON_DECODE_ANY, NULL);

    if (json_is_object(value) || json_is_array(value) || hw_json_is_string(value) ||
        (hw_json_digits(value) != NULL && !hw_json_number_fits(value))) {
        json_decref(value);
        return NULL;
    }
    return value;
}

/* Gives each alternative the label; value is taken over. */
static void put_label(json_t *alternatives, const char *label, json_t *value)
{
    json_t *object;
    size_t i;

    json_array_foreach(alternatives, i, object)
        json_object_set(object, label, value);
    json_decref(value);
}

/* A label with two values: each alternative becomes two. Both values are taken over. */
static enum hw_status put_either(json_t *alternatives, size_t most, const char *label,
                                 json_t *string, json_t *scalar, struct hw_error *err)
{
    HW_AUTO_JSON json_t *others = json_deep_copy(alternatives);

    put_label(alternatives, label, string);
    put_label(others, label, scalar);
    if (2 * json_array_size(others) > most)
        return hw_fail(err, HW_EINVAL,
                       "too many values may be strings or not: put \"\" around those that are "
                       "strings, or give a JSON object");
    json_array_extend(alternatives, others);
    return HW_OK;
}

/* A JSON string at the start of *rest, which then stands behind it. */
static enum hw_status read_quoted(const char **rest, const char *label, json_t **string,
                                  struct hw_error *err)
{
    json_error_t problem;
    HW_AUTO_JSON json_t *value =
        json_loads(*rest, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &problem);

    if (value == NULL)
        return hw_fail(err, HW_EINVAL, "%s: a string in double quotes: %s", label, problem.text);
    *rest += problem.position;
    if (**rest != '\0' && **rest != ',')
        return hw_fail(err, HW_EINVAL, "%s: a comma is missing before \"%s\"", label, *rest);
    *string = HW_TAKE(value);
    return HW_OK;
}

static enum hw_status read_value(const char **rest, const char *label, json_t *alternatives,
                                 size_t most, struct hw_error *err)
{
    json_t *string = NULL, *scalar = NULL;

    if (**rest == '"') {
        const enum hw_status status = read_quoted(rest, label, &string, err);
        if (status != HW_OK)
            return status;
    } else {
        const size_t len = strcspn(*rest, ",");
        HW_AUTO_FREE char *word = hw_strndup(*rest, len);

        *rest += len;
        string = json_string(word);
        if (string == NULL)
            return hw_fail(err, HW_EINVAL, "%s: the value is not UTF-8", label);
        scalar = most > 1 ? scalar_of(word) : NULL;
    }
    if (scalar != NULL)
        return put_either(alternatives, most, label, string, scalar, err);
    put_label(alternatives, label, string);
    return HW_OK;
}

/* label=value at *rest, which then stands behind it. */
static enum hw_status read_pair(const char **rest, json_t *alternatives, size_t most,
                                struct hw_error *err)
{
    *rest += strspn(*rest, " ");
    const size_t len = strcspn(*rest, "=,");
    HW_AUTO_FREE char *label = hw_strndup(*rest, len);

    if (len == 0 || (*rest)[len] != '=')
        return hw_fail(err, HW_EINVAL,
                       "\"%s\" is not label=value, such as site=north,slot=3; or give a whole JSON "
                       "object, such as {\"site\":\"north\",\"slot\":3}",
                       label);
    if (label[len - 1] == '!')
        return hw_fail(err, HW_EINVAL, "%s=: there is no \"not\": labels are asked for by = alone",
                       label);
    if (json_object_get(json_array_get(alternatives, 0), label) != NULL)
        return hw_fail(err, HW_EINVAL, "label \"%s\" is given twice", label);
    HW_AUTO_JSON json_t *utf8 = json_string(label);
    if (utf8 == NULL)
        return hw_fail(err, HW_EINVAL, "label \"%s\" is not UTF-8", label);
    *rest += len + 1;
    return read_value(rest, label, alternatives, most, err);
}

static enum hw_status read_object(const char *text, json_t *alternatives, struct hw_error *err)
{
    json_t *object;

    if (hw_json_parse_exact(text, strlen(text), &object, err) == HW_OK) {
        json_array_set_new(alternatives, 0, object);
        return HW_OK;
    }
    struct hw_error why = *err;
    return hw_fail(err, why.status,
                   "%.500s; a JSON object is meant, such as {\"site\":\"north\"}, which a shell "
                   "needs in single quotes",
                   why.message);
}

enum hw_status hw_labels_alternatives(const char *text, size_t most, json_t **out,
                                      struct hw_error *err)
{
    HW_AUTO_JSON json_t *alternatives = json_pack("[{}]");
    enum hw_status status = HW_OK;
    struct hw_error why;

    if (err == NULL)
        err = &why;
    if (text[0] == '{') {
        status = read_object(text, alternatives, err);
    } else if (text[0] != '\0') {
        status = read_pair(&text, alternatives, most, err);
        while (status == HW_OK && *text++ == ',')
            status = read_pair(&text, alternatives, most, err);
    }
    if (status == HW_OK)
        *out = HW_TAKE(alternatives);
    return status;
}

enum hw_status hw_labels_parse(const char *text, json_t **labels, struct hw_error *err)
{
    HW_AUTO_JSON json_t *alternatives = NULL;
    const enum hw_status status = hw_labels_alternatives(text, 1, &alternatives, err);

    if (status == HW_OK)
        *labels = json_incref(json_array_get(alternatives, 0));
    return status;
}
