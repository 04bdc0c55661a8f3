#include "cli/resources.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "base/nearest.h"
#include "base/utf8.h"
#include "cli/document.h"
#include "cli/export_dir.h"
#include "cli/text.h"
#include "cli/yaml.h"

/* The order in which resources are carried out: a node or config is made before the assignment that
 * refers to it, and removed after it. */
static const char *const kinds[] = {"node", "config", "assignment"};
enum { RANK_COUNT = 2 * HW_COUNT(kinds) };

struct collector {
    const char *path;      /* of the file that is read, as it is shown */
    const char *directory; /* of what its resources name; "" is the working directory */
    struct item {
        json_t *resource;
        char *origin;
        int rank;
    } * items;
    size_t count;
    json_t *seen; /* "kind name" to the origin */
    bool partial;
};

void cli_resources_free(struct cli_resources *resources)
{
    json_decref(resources->list);
    for (size_t i = 0; i < resources->count; i++)
        free(resources->origins[i]);
    free(resources->origins);
    *resources = (struct cli_resources){0};
}

/* ---- content in a file ---- */

/* Is the path relative and without a step up? A document from elsewhere must not be able to have
 * any file sent. */
static bool stays_below(const char *path)
{
    if (*path == '/' || *path == '\0')
        return false;
    for (const char *p = path; p != NULL; p = strchr(p, '/')) {
        p += *p == '/';
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0'))
            return false;
    }
    return true;
}

/* The path of the file, malloc'ed. Neither the path nor a link may lead out of the directory. That
 * a file is missing is noticed when it is read. */
static enum hw_status find_file(const struct collector *c, const char *file, char **path,
                                struct hw_error *err)
{
    HW_AUTO_FREE char *given = hw_sprintf("%s%s", c->directory, file);
    HW_AUTO_FREE char *top = realpath(*c->directory != '\0' ? c->directory : ".", NULL);
    HW_AUTO_FREE char *real = realpath(given, NULL);
    const size_t len = top != NULL ? strlen(top) : 0;
    bool below = stays_below(file);

    if (below && real != NULL)
        below = top != NULL && strncmp(real, top, len) == 0 &&
                (real[len] == '/' || real[len] == '\0' || len == 1);
    if (!below)
        return hw_fail(err, HW_EINVAL,
                       "file: \"%s\" must be a path below the directory of this document%s", file,
                       stays_below(file) ? ", and a link leads out of it" : "");
    *path = real != NULL ? HW_TAKE(real) : HW_TAKE(given);
    return HW_OK;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t len = strlen(text), tail = strlen(end);

    return len >= tail && strcmp(text + len - tail, end) == 0;
}

/* A config has one of these members; "file" becomes one of the others when it is sent. */
static enum hw_status check_content(const json_t *resource, struct hw_error *err)
{
    static const char *const forms[] = {"content", "text", "base64", "file"};
    const char *first = NULL;

    for (size_t i = 0; i < HW_COUNT(forms); i++) {
        if (json_object_get(resource, forms[i]) == NULL)
            continue;
        if (first != NULL)
            return hw_fail(err, HW_EINVAL,
                           "%s and %s exclude each other: content is JSON, text is taken as it is, "
                           "base64 is bytes, file names a file that holds them",
                           first, forms[i]);
        first = forms[i];
    }
    return HW_OK;
}

/* Refuses a file that is to be JSON and is not: the database would name the line, but not the file.
 * Numbers beyond 64 bits are left to the database, which can hold them. */
static enum hw_status check_json(const char *path, const char *bytes, size_t len,
                                 struct hw_error *err)
{
    json_error_t problem;
    HW_AUTO_JSON json_t *value = hw_json_load(bytes, len, JSON_DECODE_ANY, &problem);

    if (value != NULL || (json_error_code(&problem) != json_error_invalid_syntax &&
                          json_error_code(&problem) != json_error_premature_end_of_input))
        return HW_OK;
    return hw_fail(err, HW_EINVAL, "%s:%d:%d: %s%s", path, problem.line, problem.column,
                   problem.text, hw_json_hint(bytes, len, &problem));
}

static bool is_json_type(const json_t *type)
{
    const char *text = json_string_value(type);

    return text != NULL && (strcmp(text, "application/json") == 0 || ends_with(text, "+json"));
}

const char *cli_media_type_of(const char *file)
{
    return ends_with(file, ".json") ? "application/json" : NULL;
}

/* "file" becomes "text", or "base64" where the bytes are no text. */
static enum hw_status take_file(struct collector *c, json_t *resource, struct hw_error *err)
{
    json_t *member = json_object_get(resource, "file");
    HW_AUTO_FREE char *path = NULL, *bytes = NULL;
    size_t len;

    if (member == NULL)
        return HW_OK;
    const char *file = json_string_value(member);
    if (file == NULL)
        return hw_fail(err, HW_EINVAL, "file must be a string");
    if (find_file(c, file, &path, err) != HW_OK)
        return err->status;
    if (json_object_get(resource, "media_type") == NULL && cli_media_type_of(file) != NULL)
        json_object_set_new(resource, "media_type", json_string(cli_media_type_of(file)));
    if (json_object_get(resource, "media_type") == NULL)
        return hw_fail(
            err, HW_EINVAL,
            "media_type is missing: what is %s? text/plain, application/octet-stream, \xE2\x80\xA6",
            file);
    if (hw_file_read(path, CLI_FILE_MOST, &bytes, &len, err) != HW_OK)
        return hw_fail_in(err, "file");
    if (is_json_type(json_object_get(resource, "media_type")) &&
        check_json(path, bytes, len, err) != HW_OK)
        return hw_fail_in(err, "file");
    if (hw_utf8_valid(bytes, len, NULL) && memchr(bytes, '\0', len) == NULL) {
        json_object_set_new(resource, "text", json_stringn(bytes, len));
    } else {
        HW_AUTO_FREE char *encoded = hw_base64_encode(bytes, len);
        json_object_set_new(resource, "base64", json_string(encoded));
    }
    json_object_del(resource, "file");
    return HW_OK;
}

/* ---- resources ---- */

/* Refuses a resource without a member, and names one that is spelled much like it. */
static enum hw_status refuse_without(const json_t *resource, const char *name, const char *what,
                                     struct hw_error *err)
{
    const char *other;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)resource, other, value) {
        struct hw_nearest nearest = {.word = other};

        hw_nearest_try(&nearest, name);
        if (nearest.best != NULL)
            return hw_fail(err, HW_EINVAL, "%s is missing; is %.100s it?", name, other);
    }
    return hw_fail(err, HW_EINVAL, "%s is missing: %s", name, what);
}

static enum hw_status rank_of(const json_t *resource, int *rank, struct hw_error *err)
{
    const char *kind = json_string_value(json_object_get(resource, "kind"));
    const json_t *delete = json_object_get(resource, "delete");

    if (!json_is_object(resource))
        return hw_fail(err, HW_EINVAL, "a resource must be a mapping with kind and name");
    if (kind == NULL)
        return refuse_without(resource, "kind", "node, config or assignment", err);
    if (json_object_get(resource, "name") == NULL)
        return refuse_without(resource, "name", "what it is called", err);
    if (!json_is_string(json_object_get(resource, "name"))) {
        HW_AUTO_FREE char *text = cli_json_text(json_object_get(resource, "name"), false);
        return hw_fail(err, HW_EINVAL,
                       "name is %.100s, which is not a string: put it in quotes if it is one",
                       text);
    }
    if (delete != NULL && !json_is_boolean(delete))
        return hw_fail(err, HW_EINVAL, "delete must be true or false");
    for (int i = 0; i < (int)HW_COUNT(kinds); i++) {
        if (strcmp(kinds[i], kind) == 0) {
            *rank = json_is_true(delete) ? RANK_COUNT - 1 - i : i;
            return HW_OK;
        }
    }
    struct hw_nearest nearest = {.word = kind};
    for (size_t i = 0; i < HW_COUNT(kinds); i++)
        hw_nearest_try(&nearest, kinds[i]);
    return hw_fail(err, HW_EINVAL, "kind: \"%.100s\" is none of node, config and assignment%s%s%s",
                   kind, nearest.best != NULL ? "; did you mean " : "",
                   nearest.best != NULL ? nearest.best : "", nearest.best != NULL ? "?" : "");
}

static const char *member(const json_t *resource, const char *name)
{
    return json_string_value(json_object_get(resource, name));
}

static enum hw_status see(struct collector *c, const json_t *resource, const char *origin,
                          struct hw_error *err)
{
    HW_AUTO_FREE char *key =
        hw_sprintf("%s %s", member(resource, "kind"), member(resource, "name"));
    const json_t *before = json_object_get(c->seen, key);

    if (before != NULL)
        return hw_fail(err, HW_EINVAL, "%s \"%s\" is there already, at %s",
                       member(resource, "kind"), member(resource, "name"),
                       json_string_value(before));
    json_object_set_new(c->seen, key, json_string(origin));
    return HW_OK;
}

static void forget(struct collector *c, const json_t *resource)
{
    HW_AUTO_FREE char *key =
        hw_sprintf("%s %s", member(resource, "kind"), member(resource, "name"));

    json_object_del(c->seen, key);
}

/* The resource is taken over in any case. */
static enum hw_status add_resource(struct collector *c, json_t *resource, size_t line,
                                   struct hw_error *err)
{
    HW_AUTO_JSON json_t *owned = resource;
    HW_AUTO_FREE char *origin = hw_sprintf("%s:%zu", c->path, line);
    enum hw_status st;
    int rank = 0;

    st = rank_of(resource, &rank, err);
    if (st == HW_OK)
        st = check_content(resource, err);
    if (st == HW_OK)
        st = take_file(c, resource, err);
    if (st == HW_OK)
        st = see(c, resource, origin, err);
    if (st != HW_OK) {
        err->status = HW_EINVAL; /* a missing file is HW_EINVAL as well, because HW_ENOENT is a
                                    missing resource */
        return hw_fail_in(err, "%s", origin);
    }
    cli_document_strip(resource);
    c->items = hw_realloc(c->items, (c->count + 1) * sizeof(*c->items));
    c->items[c->count++] =
        (struct item){.resource = HW_TAKE(owned), .origin = HW_TAKE(origin), .rank = rank};
    return HW_OK;
}

/* Is it a list as get prints it? */
static bool is_list(const json_t *document)
{
    return json_object_get(document, "kind") == NULL &&
           json_is_array(json_object_get(document, "items"));
}

/* Takes a document: one resource, an array or a list of them, or nothing (as between two
 * separators). */
static enum hw_status add_document(void *arg, json_t *document, size_t line, struct hw_error *err)
{
    HW_AUTO_JSON json_t *owned = document;
    struct collector *c = arg;
    json_t *resource;
    size_t i;

    if (json_is_null(document))
        return HW_OK;
    if (is_list(document)) {
        const json_t *next = json_object_get(document, "next");

        c->partial |= next != NULL && !json_is_null(next);
        document = json_object_get(document, "items");
    }
    if (!json_is_array(document))
        return add_resource(c, HW_TAKE(owned), line, err);
    json_array_foreach(document, i, resource) {
        const enum hw_status st = add_resource(c, json_incref(resource), line, err);
        if (st != HW_OK)
            return st;
    }
    return HW_OK;
}

/* ---- files ---- */

static size_t lines_before(const char *text, size_t len)
{
    size_t lines = 0;

    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    return lines;
}

/* Reads JSON values one behind the other. False: it is no JSON, so YAML is worth a try. */
static bool read_json(struct collector *c, const char *text, size_t len, enum hw_status *st,
                      struct hw_error *err)
{
    static const char blanks[] = " \t\r\n";
    size_t at = strspn(text, blanks);

    *st = HW_OK;
    if (text[at] != '{' && text[at] != '[')
        return false;
    while (*st == HW_OK && at < len) {
        const size_t line = lines_before(text, at) + 1;
        json_error_t problem;
        json_t *value = hw_json_load(text + at, len - at,
                                     JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &problem);

        if (value == NULL) {
            *st =
                hw_fail(err, HW_EINVAL, "%s:%zu:%d: %s%s", c->path, line + (size_t)problem.line - 1,
                        problem.column, problem.text, hw_json_hint(text + at, len - at, &problem));
            return false;
        }
        *st = add_document(c, value, line, err);
        at += (size_t)problem.position;
        at += strspn(text + at, blanks);
    }
    return true;
}

static enum hw_status read_text(struct collector *c, const char *text, size_t len,
                                struct hw_error *err)
{
    const size_t before = c->count;
    enum hw_status st;

    if (read_json(c, text, len, &st, err) || (st != HW_OK && ends_with(c->path, ".json")))
        return st;
    while (c->count > before) {
        struct item *item = &c->items[--c->count];
        forget(c, item->resource);
        json_decref(item->resource);
        free(item->origin);
    }
    return cli_yaml_read(c->path, text, len, add_document, c, err);
}

enum hw_status cli_stdin_read(struct hw_buf *text, struct hw_error *err)
{
    char bytes[65536];
    size_t got;

    while ((got = fread(bytes, 1, sizeof(bytes), stdin)) > 0 && text->len <= CLI_FILE_MOST)
        hw_buf_add(text, bytes, got);
    if (ferror(stdin))
        return hw_fail_errno(err, "reading standard input");
    if (text->len > CLI_FILE_MOST)
        return hw_fail(err, HW_ELIMIT, "standard input is larger than %zu MiB",
                       CLI_FILE_MOST >> 20);
    return HW_OK;
}

static enum hw_status read_stdin(struct collector *c, struct hw_error *err)
{
    struct hw_buf text = {0};
    enum hw_status st = cli_stdin_read(&text, err);

    c->path = "stdin";
    c->directory = "";
    if (st == HW_OK)
        st = read_text(c, hw_buf_str(&text), text.len, err);
    hw_buf_free(&text);
    return st;
}

static enum hw_status read_file(struct collector *c, const char *path, struct hw_error *err)
{
    const char *slash = strrchr(path, '/');
    HW_AUTO_FREE char *directory =
        slash != NULL ? hw_strndup(path, (size_t)(slash - path) + 1) : hw_strdup("");
    HW_AUTO_FREE char *text = NULL;
    size_t len;

    if (hw_file_read_any(path, CLI_FILE_MOST, &text, &len, err) != HW_OK)
        return err->status;
    c->path = path;
    c->directory = directory;
    const enum hw_status st = read_text(c, text, len, err);
    c->path = c->directory = NULL;
    return st;
}

static int is_resource_file(const struct dirent *entry)
{
    return entry->d_name[0] != '.' &&
           (ends_with(entry->d_name, ".yaml") || ends_with(entry->d_name, ".yml") ||
            ends_with(entry->d_name, ".json"));
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static enum hw_status read_directory(struct collector *c, const char *path, struct hw_error *err)
{
    struct dirent **entries;
    enum hw_status st = cli_export_check(path, err);

    if (st != HW_OK)
        return st;
    const int count = scandir(path, &entries, is_resource_file, by_bytes);
    if (count < 0)
        return hw_fail_errno(err, "reading %s", path);
    for (int i = 0; i < count; i++) {
        HW_AUTO_FREE char *file =
            hw_sprintf("%s%s%s", path, ends_with(path, "/") ? "" : "/", entries[i]->d_name);
        if (st == HW_OK)
            st = read_file(c, file, err);
        free(entries[i]);
    }
    free(entries);
    if (st == HW_OK && count == 0)
        st = hw_fail(err, HW_EINVAL, "%s: no file in it ends with .yaml, .yml or .json", path);
    return st;
}

static enum hw_status read_path(struct collector *c, const char *path, struct hw_error *err)
{
    struct stat st;

    if (strcmp(path, "-") == 0)
        return read_stdin(c, err);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return read_directory(c, path, err);
    return read_file(c, path, err);
}

enum hw_status cli_resources_read(char *const paths[], size_t count,
                                  struct cli_resources *resources, struct hw_error *err)
{
    HW_AUTO_JSON json_t *seen = json_object();
    struct collector c = {.seen = seen};
    enum hw_status st = HW_OK;

    for (size_t i = 0; st == HW_OK && i < count; i++)
        st = read_path(&c, paths[i], err);
    if (st == HW_OK && c.count == 0)
        st = hw_fail(err, HW_EINVAL, "%s: no resource in it", paths[0]);
    if (st != HW_OK)
        err->status = st = HW_EINVAL;
    *resources = (struct cli_resources){.list = json_array(),
                                        .partial = c.partial,
                                        .origins = hw_alloc((c.count + 1) * sizeof(char *))};
    for (int rank = 0; rank < RANK_COUNT; rank++) {
        for (size_t i = 0; i < c.count; i++) {
            if (c.items[i].rank != rank)
                continue;
            json_array_append_new(resources->list, c.items[i].resource);
            resources->origins[resources->count++] = c.items[i].origin;
        }
    }
    free(c.items);
    if (st != HW_OK)
        cli_resources_free(resources);
    return st;
}
