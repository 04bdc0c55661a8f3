/*
 * export: writes everything that is desired to files that apply takes: nodes.yaml, configs.yaml,
 * assignments.yaml, and the contents below configs/, byte for byte.
 *
 * The API is read page by page, and something may change between two pages. So the newest entry of
 * the audit is read before and after. If it is another one, all is read again.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "base/names.h"
#include "base/points.h"
#include "cli/commands/commands.h"
#include "cli/document.h"
#include "cli/export_dir.h"
#include "cli/fetch.h"
#include "cli/output.h"
#include "cli/yaml.h"

/* One file of documents, with the contents that it names, is no more than one apply takes. */
enum { ATTEMPTS = 5, CASE_DIGITS = 8, DOCUMENTS_MOST = 10000, CONTENTS_MOST = 16 << 20 };

struct export
{
    struct cli *cli;
    struct cli_export_dir *dir;
    json_t *nodes, *configs, *assignments; /* arrays of documents */
    json_t *names;                         /* object: name of a config to its document */
    json_t *pins;                          /* object: names that configs of pins take; true: done */
    json_t *files;                         /* object: files that are taken, in lower case */
    size_t pinned;                         /* configs that are older revisions of others */
};

static void export_clear(struct export *x)
{
    json_decref(x->nodes);
    json_decref(x->configs);
    json_decref(x->assignments);
    json_decref(x->names);
    json_decref(x->pins);
    json_decref(x->files);
    *x = (struct export){.cli = x->cli, .dir = x->dir};
}

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));

    return text != NULL ? text : "";
}

/* ---- reading ---- */

/* The newest entries of the audit as text, which is another text after every change; malloc'ed.
 * Entries about one kind come in the order of their commits. */
static enum hw_status last_change(struct cli *cli, char **text, struct hw_error *err)
{
    static const char *const kinds[] = {"node", "config", "assignment"};
    HW_AUTO_JSON json_t *all = json_array();

    for (size_t i = 0; i < HW_COUNT(kinds); i++) {
        HW_AUTO_FREE char *path = hw_sprintf("/v1/audit?kind=%s&fields=id&limit=1", kinds[i]);
        HW_AUTO_JSON json_t *page = NULL;
        const enum hw_status st = cli_fetch(cli, path, &page, err);

        if (st != HW_OK)
            return st;
        json_array_append(all, json_object_get(page, "items"));
    }
    *text = hw_json_text(all, false);
    return HW_OK;
}

/* All resources of a kind as documents; each has a name that is one. */
static enum hw_status read_all(struct export *x, const char *collection, const char *kind,
                               json_t **documents, struct hw_error *err)
{
    HW_AUTO_FREE char *path = hw_sprintf("/v1/%s", collection);
    HW_AUTO_JSON json_t *list = NULL;
    enum hw_status st = cli_fetch_list(x->cli, path, 0, &list, err);
    json_t *item;
    size_t i;

    *documents = json_array();
    json_array_foreach(json_object_get(list, "items"), i, item) {
        HW_AUTO_JSON json_t *document = json_pack("{s:s}", "kind", kind);

        if (st == HW_OK && json_object_update(document, item) != 0)
            st = hw_fail(err, HW_EPROTO, "GET %s: an item is no object", path);
        if (st == HW_OK && hw_name_check(text_of(document, "name"), err) != HW_OK) {
            (void)hw_fail_in(err, "GET %s", path);
            st = err->status = HW_EPROTO;
        }
        json_array_append(*documents, document);
    }
    return st;
}

/* ---- contents ---- */

/* The suffix of a file's name, which tells people and editors what is in it. */
static const char *extension_of(const char *media_type)
{
    static const char *const known[][2] = {
        {"application/json", "json"}, {"application/yaml", "yaml"}, {"application/toml", "toml"},
        {"application/xml", "xml"},   {"text/plain", "txt"},        {"text/markdown", "md"},
        {"text/csv", "csv"},          {"text/yaml", "yaml"},        {"text/xml", "xml"},
    };
    const size_t len = strcspn(media_type, "; \t");

    for (size_t i = 0; i < HW_COUNT(known); i++)
        if (strlen(known[i][0]) == len && strncmp(known[i][0], media_type, len) == 0)
            return known[i][1];
    if (len > 5 && strncmp(media_type + len - 5, "+json", 5) == 0)
        return "json";
    return strncmp(media_type, "text/", 5) == 0 ? "txt" : "bin";
}

static char *lower(const char *text)
{
    char *copy = hw_strdup(text);

    for (char *p = copy; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

/*
 * The name of the file for a content, malloc'ed. Names of configs are valid names of files. But
 * some file systems do not tell Base from base, so of such names only the one in lower case is left
 * as it is.
 */
static char *choose_file(struct export *x, const char *config, const char *media_type)
{
    HW_AUTO_FREE char *folded = lower(config);
    char distinction[HW_DIGEST_HEX_MAX] = "";

    if (json_integer_value(json_object_get(x->files, folded)) > 1 && strcmp(folded, config) != 0) {
        struct hw_digest digest;

        hw_digest_of(config, strlen(config), &digest);
        hw_digest_hex(&digest, distinction);
    }
    return hw_sprintf(CLI_EXPORT_CONTENTS "%s%s%.*s.%s", config, *distinction != '\0' ? "~" : "",
                      (int)CASE_DIGITS, distinction, extension_of(media_type));
}

static void count_file(struct export *x, const char *config)
{
    HW_AUTO_FREE char *folded = lower(config);

    json_object_set_new(x->files, folded,
                        json_integer(json_integer_value(json_object_get(x->files, folded)) + 1));
}

/* Fetches the bytes of a revision, writes them to a file, and makes the document name it. */
static enum hw_status write_content(struct export *x, json_t *document, const char *config,
                                    json_int_t revision, struct hw_error *err)
{
    const char *name = text_of(document, "name");
    char digest_text[HW_DIGEST_STR_MAX];
    struct cli_answer answer = {0};
    struct hw_digest digest;
    enum hw_status st = cli_document_fetch(x->cli, config, revision, &answer, err);

    if (st == HW_OK && (answer.media_type == NULL || answer.etag == NULL))
        st =
            hw_fail(err, HW_EPROTO, "config \"%.130s\": the answer has no ETag or no type", config);
    if (st == HW_OK) {
        hw_digest_of(answer.body, answer.len, &digest);
        if (strcmp(hw_digest_format(&digest, digest_text), answer.etag) != 0)
            st = hw_fail(err, HW_ECORRUPT, "config \"%.130s\", revision %lld: the bytes are not %s",
                         config, (long long)revision, answer.etag);
    }
    if (st == HW_OK) {
        HW_AUTO_FREE char *file = choose_file(x, name, answer.media_type);

        json_object_set_new(document, "file", json_string(file));
        json_object_set_new(document, "media_type", json_string(answer.media_type));
        json_object_set_new(document, "digest", json_string(digest_text));
        json_object_set_new(document, "size", json_integer((json_int_t)answer.len));
        st = cli_export_add(x->dir, file, answer.body, answer.len, err);
    }
    cli_answer_free(&answer);
    return st;
}

static enum hw_status write_contents(struct export *x, struct hw_error *err)
{
    enum hw_status st = HW_OK;
    json_t *document;
    size_t i;

    json_array_foreach(x->configs, i, document) {
        const char *name = text_of(document, "name");
        const json_int_t revision = json_integer_value(json_object_get(document, "revision"));
        json_t *schema = NULL;

        st = write_content(x, document, name, revision, err);
        if (st == HW_OK)
            st = cli_document_schema(x->cli, name, &schema, err);
        if (st != HW_OK)
            return st;
        json_object_set_new(document, "schema", schema);
    }
    return st;
}

/* ---- pins ---- */

/* Revisions begin at 1 where the files are applied, so a pin to a revision would mean another
 * content there. The pinned content therefore becomes a config of its own, with a name made of
 * both; malloc'ed. */
static char *name_of_pin(const char *config, json_int_t revision)
{
    return hw_sprintf("%s.revision-%lld", config, (long long)revision);
}

static bool is_pinned(const json_t *assignment)
{
    return json_is_integer(json_object_get(assignment, "revision"));
}

/* Adds the config that a pinned assignment gets, once for all that are pinned to it. A config that
 * has the name already must be the same. */
static enum hw_status write_pin(struct export *x, const json_t *assignment, const char *name,
                                struct hw_error *err)
{
    const char *config = text_of(assignment, "config");
    const json_int_t revision = json_integer_value(json_object_get(assignment, "revision"));
    const json_t *other = json_object_get(x->names, name);
    HW_AUTO_JSON json_t *document = json_pack("{s:s, s:s}", "kind", "config", "name", name);
    enum hw_status st = write_content(x, document, config, revision, err);

    if (st != HW_OK)
        return st;
    if (other == NULL) {
        json_object_set(x->names, name, document);
        json_array_append(x->configs, document);
        x->pinned++;
    } else if (strcmp(text_of(other, "digest"), text_of(document, "digest")) != 0 ||
               strcmp(text_of(other, "media_type"), text_of(document, "media_type")) != 0) {
        st = hw_fail(
            err, HW_ECONFLICT,
            "there is a config \"%.130s\" already, with another content than that revision", name);
    }
    return st;
}

static enum hw_status write_pins(struct export *x, struct hw_error *err)
{
    json_t *assignment;
    size_t i;

    json_array_foreach(x->assignments, i, assignment) {
        const char *config = text_of(assignment, "config");
        HW_AUTO_FREE char *name =
            name_of_pin(config, json_integer_value(json_object_get(assignment, "revision")));

        if (!is_pinned(assignment))
            continue;
        enum hw_status st = hw_name_check(name, err);
        if (st == HW_OK && !json_is_true(json_object_get(x->pins, name)))
            st = write_pin(x, assignment, name, err);
        if (st != HW_OK)
            return hw_fail_in(err,
                              "assignment \"%.130s\" stays on a revision, which goes into a config "
                              "of its own",
                              text_of(assignment, "name"));
        json_object_set_new(x->pins, name, json_true());
        json_object_set_new(assignment, "config", json_string(name));
        json_object_del(assignment, "revision");
    }
    return HW_OK;
}

/* ---- documents ---- */

/* The n-th file of documents of a kind: "nodes.yaml", "nodes-2.yaml", … */
static enum hw_status end_file(struct export *x, const char *collection, int number,
                               struct hw_buf *text, struct hw_error *err)
{
    HW_AUTO_FREE char *file = number == 1 ? hw_sprintf("%s.yaml", collection)
                                          : hw_sprintf("%s-%d.yaml", collection, number);
    const enum hw_status st = cli_export_add(x->dir, file, text->data, text->len, err);

    hw_buf_reset(text);
    return st;
}

static enum hw_status write_documents(struct export *x, const char *collection,
                                      const json_t *documents, struct hw_error *err)
{
    enum hw_status st = HW_OK;
    struct hw_buf text = {0};
    json_int_t size = 0;
    int number = 1, count = 0;
    json_t *document;
    size_t i;

    json_array_foreach(documents, i, document) {
        const json_int_t more = json_integer_value(json_object_get(document, "size"));

        if (count > 0 && (count == DOCUMENTS_MOST || size + more > CONTENTS_MOST)) {
            st = end_file(x, collection, number++, &text, err);
            count = 0;
            size = 0;
        }
        if (st != HW_OK)
            break;
        if (count++ == 0)
            hw_buf_puts(&text, "# Written by headwater export, which replaces it.\n");
        size += more;
        cli_document_strip(document);
        HW_AUTO_FREE char *yaml = cli_yaml_text(document);
        hw_buf_printf(&text, "---\n%s", yaml);
    }
    if (st == HW_OK && count > 0)
        st = end_file(x, collection, number, &text, err);
    hw_buf_free(&text);
    return st;
}

static enum hw_status read_once(struct export *x, struct hw_error *err)
{
    json_t *document;
    size_t i;

    export_clear(x);
    x->names = json_object();
    x->pins = json_object();
    x->files = json_object();
    enum hw_status st = cli_export_reset(x->dir, err);
    if (st == HW_OK)
        st = read_all(x, "nodes", "node", &x->nodes, err);
    if (st == HW_OK)
        st = read_all(x, "configs", "config", &x->configs, err);
    if (st == HW_OK)
        st = read_all(x, "assignments", "assignment", &x->assignments, err);
    if (st != HW_OK)
        return st;
    json_array_foreach(x->configs, i, document) {
        json_object_set(x->names, text_of(document, "name"), document);
        count_file(x, text_of(document, "name"));
    }
    json_array_foreach(x->assignments, i, document) {
        HW_AUTO_FREE char *name = name_of_pin(
            text_of(document, "config"), json_integer_value(json_object_get(document, "revision")));

        if (is_pinned(document) && json_object_get(x->names, name) == NULL &&
            json_object_get(x->pins, name) == NULL) {
            json_object_set_new(x->pins, name, json_null());
            count_file(x, name);
        }
    }
    st = write_contents(x, err);
    if (st == HW_OK)
        st = write_pins(x, err);
    if (st == HW_OK)
        st = write_documents(x, "nodes", x->nodes, err);
    if (st == HW_OK)
        st = write_documents(x, "configs", x->configs, err);
    if (st == HW_OK)
        st = write_documents(x, "assignments", x->assignments, err);
    return st;
}

/* Reads again until nothing changed meanwhile, also after a refusal that such a change may have
 * caused. */
static enum hw_status read_consistently(struct export *x, struct hw_error *err)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        HW_AUTO_FREE char *before = NULL, *after = NULL;
        enum hw_status st = last_change(x->cli, &before, err);

        if (st != HW_OK)
            return st;
        const enum hw_status read = read_once(x, err);
        HW_POINT("export-read");
        if (read != HW_OK && read != HW_ENOENT && read != HW_ECONFLICT)
            return read;
        struct hw_error failure;
        st = last_change(x->cli, &after, &failure);
        if (st == HW_OK && strcmp(before, after) == 0)
            return read;
        if (st != HW_OK)
            return read != HW_OK ? read : hw_fail(err, st, "%s", failure.message);
    }
    return hw_fail(err, HW_EUNAVAIL,
                   "the configuration changed each of the %d times that it was read: nothing was "
                   "written; try again when it is calmer",
                   ATTEMPTS);
}

static void show_export(struct cli *cli, const json_t *answer)
{
    struct hw_buf line = {0};

    hw_buf_printf(&line, "%s: ", text_of(answer, "directory"));
    static const char *const members[] = {"nodes", "configs", "assignments"};
    for (size_t i = 0; i < HW_COUNT(members); i++)
        hw_buf_printf(&line, "%s%lld %s", i > 0 ? ", " : "",
                      (long long)json_integer_value(json_object_get(answer, members[i])),
                      members[i]);
    const json_int_t pinned = json_integer_value(json_object_get(answer, "pinned"));
    if (pinned > 0)
        hw_buf_printf(&line, " (%lld of the configs are revisions that assignments stay on)",
                      (long long)pinned);
    hw_buf_putc(&line, '\n');
    cli_print_text(cli, line.data, 0);
    hw_buf_free(&line);
}

enum hw_status cli_export(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    struct export x = {.cli = cli};

    (void)count;
    if (*operands[0] == '\0')
        return cli_misused(cli, err, "export: the directory has no name");
    enum hw_status st = cli_export_open(operands[0], &x.dir, err);
    if (st == HW_OK)
        st = read_consistently(&x, err);
    if (st == HW_OK)
        st = cli_export_commit(x.dir, err);
    if (st == HW_OK) {
        HW_AUTO_JSON json_t *answer =
            json_pack("{s:s, s:I, s:I, s:I, s:I}", "directory", operands[0], "nodes",
                      (json_int_t)json_array_size(x.nodes), "configs",
                      (json_int_t)json_array_size(x.configs), "assignments",
                      (json_int_t)json_array_size(x.assignments), "pinned", (json_int_t)x.pinned);
        cli_print(cli, answer, show_export);
    }
    export_clear(&x);
    cli_export_close(x.dir);
    return st;
}
