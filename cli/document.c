#include "cli/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli/client/http.h"
#include "cli/text.h"
#include "cli/yaml.h"

enum {
    CONTENTS_MOST = 32 * 1024 * 1024, /* bytes of all contents of one list: in base64 they are still
                                         within the bounds of YAML */
    TREE_MOST = 64 * 1024,            /* bytes of a content that is shown as a tree */
    TREE_DEPTH =
        CLI_YAML_DEPTH / 2, /* its depth, so that it can stand within a document of a list */
};

static const struct {
    const char *collection, *kind;
    const char *set_by_server; /* blanks around each */
} kinds[] = {
    {"nodes", "node", " version created_at updated_at "},
    {"configs", "config",
     " revision digest size message version created_at updated_at updated_by "},
    {"assignments", "assignment", " version created_at updated_at "},
};

void cli_document_strip(json_t *document)
{
    const char *kind = json_string_value(json_object_get(document, "kind")), *name;
    const char *set_by_server = "";
    json_t *value;
    void *next;

    for (size_t i = 0; i < HW_COUNT(kinds); i++)
        if (kind != NULL && strcmp(kind, kinds[i].kind) == 0)
            set_by_server = kinds[i].set_by_server;
    json_object_foreach_safe(document, next, name, value) {
        HW_AUTO_FREE char *word = hw_sprintf(" %s ", name);

        if (strstr(set_by_server, word) != NULL)
            json_object_del(document, name);
    }
}

/* ---- bytes ---- */

/* As apply understands it: content is for JSON alone. */
static bool is_json_type(const char *media_type)
{
    const size_t len = media_type != NULL ? strlen(media_type) : 0;

    return len > 5 && strchr(media_type, ';') == NULL &&
           (strcmp(media_type, "application/json") == 0 ||
            strcmp(media_type + len - 5, "+json") == 0);
}

static bool is_deeper(const json_t *value, int depth)
{
    const char *name;
    json_t *member;
    size_t i;

    if ((json_is_object(value) || json_is_array(value)) && depth == 0)
        return true;
    json_array_foreach(value, i, member) {
        if (is_deeper(member, depth - 1))
            return true;
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, member) {
        if (is_deeper(member, depth - 1))
            return true;
    }
    return false;
}

/* The value if sending it as JSON gives exactly these bytes; otherwise NULL. */
static json_t *as_tree(const char *bytes, size_t len)
{
    HW_AUTO_JSON json_t *value = NULL;

    if (len > TREE_MOST)
        return NULL;
    value = hw_json_load(bytes, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (value == NULL || is_deeper(value, TREE_DEPTH))
        return NULL;
    HW_AUTO_FREE char *written = cli_json_text(value, false);
    const bool same = strlen(written) == len && memcmp(written, bytes, len) == 0;
    return same ? HW_TAKE(value) : NULL;
}

/* The digest of a config is that of its bytes, so they must come back exactly. A tree is nicer
 * to read, but JSON can be written in many ways; it is used only for bytes that apply would
 * write again in the same way. */
void cli_document_set_bytes(json_t *document, const char *bytes, size_t len)
{
    const bool is_json = is_json_type(json_string_value(json_object_get(document, "media_type")));
    json_t *tree = is_json ? as_tree(bytes, len) : NULL;

    if (tree != NULL) {
        json_object_set_new(document, "content", tree);
    } else if (hw_utf8_valid(bytes, len, NULL) && memchr(bytes, '\0', len) == NULL) {
        json_object_set_new(document, "text", json_stringn(bytes, len));
    } else {
        HW_AUTO_FREE char *encoded = hw_base64_encode(bytes, len);
        json_object_set_new(document, "base64", json_string(encoded));
    }
}

/* ---- from the server ---- */

enum hw_status cli_document_fetch(struct cli *cli, const char *config, json_int_t revision,
                                  struct cli_answer *answer, struct hw_error *err)
{
    HW_AUTO_FREE char *number = hw_sprintf("%lld", (long long)revision);
    struct hw_buf path = {0};

    hw_buf_puts(&path, "/v1/configs");
    cli_path_add(&path, config);
    cli_path_add(&path, "content");
    cli_query_add(&path, "revision", number);
    const enum hw_status st =
        cli_http_send(cli->http, &(struct cli_request){.path = path.data}, answer, err);
    hw_buf_free(&path);
    return st == HW_OK ? HW_OK : hw_fail_in(err, "config \"%.130s\"", config);
}

enum hw_status cli_document_schema(struct cli *cli, const char *config, json_t **schema,
                                   struct hw_error *err)
{
    struct cli_answer answer = {0};
    struct hw_buf path = {0};

    hw_buf_puts(&path, "/v1/configs");
    cli_path_add(&path, config);
    cli_path_add(&path, "schema");
    enum hw_status st =
        cli_http_send(cli->http, &(struct cli_request){.path = path.data}, &answer, err);
    if (st == HW_ENOENT) {
        *schema = json_null();
        st = HW_OK;
    } else if (st == HW_OK) {
        *schema =
            hw_json_load(answer.body, answer.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
        if (*schema == NULL)
            st = hw_fail(err, HW_EPROTO, "GET %s: the answer is not JSON", path.data);
    }
    hw_buf_free(&path);
    cli_answer_free(&answer);
    return st == HW_OK ? HW_OK : hw_fail_in(err, "config \"%.130s\"", config);
}

static enum hw_status complete_config(struct cli *cli, json_t *document, struct hw_error *err)
{
    const char *name = json_string_value(json_object_get(document, "name"));
    const json_t *revision = json_object_get(document, "revision");
    struct cli_answer content = {0};
    json_t *schema = NULL;

    if (name == NULL || !json_is_integer(revision))
        return hw_fail(err, HW_EPROTO, "the answer is no config: it has no name or no revision");
    enum hw_status st = cli_document_fetch(cli, name, json_integer_value(revision), &content, err);
    if (st == HW_OK)
        st = cli_document_schema(cli, name, &schema, err);
    if (st == HW_OK) {
        cli_document_set_bytes(document, content.body, content.len);
        json_object_set_new(document, "schema", schema);
    }
    cli_answer_free(&content);
    return st;
}

/* The kind is the first member, where people look for it. */
static void add_kind(json_t *resource, const char *kind)
{
    HW_AUTO_JSON json_t *members = json_copy(resource);

    json_object_clear(resource);
    json_object_set_new(resource, "kind", json_string(kind));
    json_object_update(resource, members);
}

static json_int_t total_size(const json_t *items)
{
    const json_t *item;
    json_int_t total = 0;
    size_t i;

    json_array_foreach(items, i, item) {
        const json_int_t size = json_integer_value(json_object_get(item, "size"));

        if (size > 0 && total <= CONTENTS_MOST)
            total += size;
    }
    return total;
}

enum hw_status cli_document_complete(struct cli *cli, const char *collection, json_t *answer,
                                     struct hw_error *err)
{
    HW_AUTO_JSON json_t *one = json_pack("[O]", answer);
    json_t *list = json_object_get(answer, "items");
    json_t *items = list != NULL ? list : one, *item;
    const bool is_config = strcmp(collection, "configs") == 0;
    const bool complete = is_config && (list == NULL || total_size(items) <= CONTENTS_MOST);
    size_t kind = 0, i;

    if (cli->output != CLI_JSON && cli->output != CLI_YAML)
        return HW_OK;
    while (strcmp(kinds[kind].collection, collection) != 0)
        kind++;
    json_array_foreach(items, i, item) {
        if (!json_is_object(item))
            continue;
        add_kind(item, kinds[kind].kind);
        const enum hw_status st = complete ? complete_config(cli, item, err) : HW_OK;
        if (st != HW_OK)
            return st;
    }
    if (is_config && !complete)
        fprintf(stderr,
                "headwater: the contents are left out: they are more than %d MiB; ask for fewer "
                "with --limit, or have them written by headwater export DIR\n",
                CONTENTS_MOST >> 20);
    return HW_OK;
}
