#include "cli/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/json_text.h"
#include "base/memory.h"
#include "cli/fetch.h"
#include "cli/text.h"
#include "cli/yaml.h"

enum { DIGEST_SHOWN = 19 }; /* "sha256:" and twelve digits tell contents apart */

#define CSI_RESET "\033[0m"

/* ---- cells ---- */

/* Would a selector take the word for something other than this string alone? */
static bool needs_quotes(const char *word)
{
    HW_AUTO_JSON json_t *value = hw_json_load(word, strlen(word), JSON_DECODE_ANY, NULL);

    return strchr(word, ',') != NULL || *word == '"' || *word == '[' || *word == '{' ||
           (value != NULL && !hw_json_is_string(value));
}

/* Writes labels as a selector has them: site=north,crate=7,slot="3"; "-" for none. */
static void add_labels(struct hw_buf *out, const json_t *labels)
{
    const char *name, *separator = "";
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)labels, name, value) {
        hw_buf_printf(out, "%s%s=", separator, name);
        if (hw_json_is_string(value) && needs_quotes(json_string_value(value))) {
            hw_buf_json_string(out, json_string_value(value), json_string_length(value));
        } else if (hw_json_is_string(value)) {
            hw_buf_puts(out, json_string_value(value));
        } else {
            HW_AUTO_FREE char *text = cli_json_text(value, false);
            hw_buf_puts(out, text);
        }
        separator = ",";
    }
}

/* Writes 2026-01-31T12:00:00.123Z without the fraction. */
static void add_time(struct hw_buf *out, const char *time)
{
    const char *fraction = strchr(time, '.');

    if (fraction == NULL) {
        hw_buf_puts(out, time);
        return;
    }
    hw_buf_add(out, time, (size_t)(fraction - time));
    hw_buf_puts(out, fraction + 1 + strspn(fraction + 1, "0123456789"));
}

static void add_value(struct hw_buf *out, const json_t *value, int kind)
{
    const char *text = hw_json_is_string(value) ? json_string_value(value) : NULL;

    if (kind == CLI_FLAG)
        hw_buf_puts(out, json_is_true(value) ? "yes" : "-");
    else if (kind == CLI_SELECTOR && json_is_object(value) && json_object_size(value) == 0)
        hw_buf_puts(out, "everyone");
    else if ((kind == CLI_LABELS || kind == CLI_SELECTOR) && json_is_object(value))
        add_labels(out, value);
    else if (kind == CLI_DIGEST && text != NULL)
        hw_buf_printf(out, "%.*s", DIGEST_SHOWN, text);
    else if (kind == CLI_TIME && text != NULL)
        add_time(out, text);
    else if (text != NULL)
        hw_buf_puts(out, text);
    else if (value != NULL && !json_is_null(value)) {
        HW_AUTO_FREE char *json = cli_json_text(value, false);
        hw_buf_puts(out, json);
    }
    if (out->len == 0)
        hw_buf_putc(out, '-');
}

/* ---- tables ---- */

struct cell {
    char *text; /* fit for a terminal */
    size_t width;
};

static struct cell make_cell(const json_t *value, int kind)
{
    struct hw_buf raw = {0}, safe = {0};
    struct cell cell;

    add_value(&raw, value, kind);
    cell.width = cli_text_add(&safe, raw.data, raw.len, false);
    cell.text = safe.data;
    hw_buf_free(&raw);
    return cell;
}

static int state_colour(const char *state)
{
    if (strcmp(state, "in_sync") == 0 || strcmp(state, "applied") == 0)
        return 32;
    if (strcmp(state, "failed") == 0 || strcmp(state, "rejected") == 0 ||
        strcmp(state, "conflict") == 0)
        return 31;
    return strcmp(state, "pending") == 0 || strcmp(state, "unassigned") == 0 ? 33 : 0;
}

static void print_padding(size_t columns)
{
    printf("%*s", (int)(columns < 1000 ? columns : 1000), "");
}

/* Numbers are aligned to the right, and the last column ends with its text. */
static void print_cell(const struct cli *cli, const struct cell *cell, size_t width, int kind,
                       bool right, bool last)
{
    const int colour = cli->colour && kind == CLI_STATE ? state_colour(cell->text) : 0;

    if (right)
        print_padding(width - cell->width);
    if (colour != 0)
        printf("\033[%dm%s" CSI_RESET, colour, cell->text);
    else
        fputs(cell->text, stdout);
    if (!right && !last)
        print_padding(width - cell->width);
    fputs(last ? "\n" : "  ", stdout);
}

static bool is_numeric(const json_t *items, const char *member)
{
    const json_t *item;
    bool any = false;
    size_t i;

    json_array_foreach(items, i, item) {
        const json_t *value = json_object_get(item, member);
        if (hw_json_is_number(value))
            any = true;
        else if (value != NULL && !json_is_null(value))
            return false;
    }
    return any;
}

static void print_rows(const struct cli *cli, const json_t *items, const struct cli_column *columns,
                       bool headed)
{
    const size_t rows = json_array_size(items);
    size_t count = 0;

    while (columns[count].heading != NULL)
        count++;
    struct cell *cells = hw_alloc((rows + 1) * count * sizeof(*cells));
    size_t *widths = hw_alloc(count * sizeof(*widths));
    bool *right = hw_alloc(count * sizeof(*right));
    for (size_t c = 0; c < count; c++) {
        const char *heading = columns[c].heading;

        cells[c] = (struct cell){.text = hw_strdup(heading), .width = strlen(heading)};
        widths[c] = cells[c].width;
        right[c] = is_numeric(items, columns[c].member);
        for (size_t r = 1; r <= rows; r++) {
            struct cell *cell = &cells[r * count + c];
            const json_t *item = json_array_get(items, r - 1);

            *cell = make_cell(json_object_get(item, columns[c].member), columns[c].kind);
            if (cell->width > widths[c])
                widths[c] = cell->width;
        }
    }
    for (size_t i = 0; i < (rows + 1) * count; i++) {
        const size_t c = i % count;

        if (headed || i >= count)
            print_cell(cli, &cells[i], widths[c], i < count ? CLI_TEXT : columns[c].kind, right[c],
                       c + 1 == count);
        free(cells[i].text);
    }
    free(cells);
    free(widths);
    free(right);
}

void cli_print_table(const struct cli *cli, const json_t *items, const struct cli_column *columns)
{
    print_rows(cli, items, columns, true);
}

void cli_print_rows(const struct cli *cli, const json_t *items, const struct cli_column *columns)
{
    print_rows(cli, items, columns, false);
}

void cli_print_details(const json_t *object)
{
    const char *name;
    json_t *value;
    size_t widest = 0;

    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        if (strlen(name) > widest)
            widest = strlen(name);
    }
    if (widest > 32)
        widest = 32;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        struct cell cell = make_cell(value, CLI_TEXT);
        struct hw_buf safe = {0};
        const size_t width = cli_text_add(&safe, name, strlen(name), false);

        printf("%s%*s  %s\n", hw_buf_str(&safe), (int)(width < widest ? widest - width : 0), "",
               cell.text);
        hw_buf_free(&safe);
        free(cell.text);
    }
}

void cli_print_fields(const struct cli *cli, const json_t *object, const struct cli_column *fields)
{
    size_t widest = 0;

    for (const struct cli_column *f = fields; f->heading != NULL; f++)
        if (strlen(f->heading) > widest)
            widest = strlen(f->heading);
    for (const struct cli_column *f = fields; f->heading != NULL; f++) {
        struct cell cell = make_cell(json_object_get(object, f->member), f->kind);

        printf("%-*s  ", (int)widest, f->heading);
        print_cell(cli, &cell, 0, f->kind, false, true);
        free(cell.text);
    }
}

/* ---- forms ---- */

static void print_name(const json_t *item)
{
    const json_t *name = json_object_get(item, "name");
    const json_t *id = json_object_get(item, "id");
    struct hw_buf safe = {0};

    if (name == NULL && json_is_integer(id)) {
        printf("%lld\n", (long long)json_integer_value(id));
        return;
    }
    if (name == NULL)
        name = json_object_get(item, "node");
    if (!json_is_string(name))
        return;
    cli_text_add(&safe, json_string_value(name), json_string_length(name), false);
    puts(hw_buf_str(&safe));
    hw_buf_free(&safe);
}

static void print_names(const json_t *answer)
{
    const json_t *items = json_object_get(answer, "items");
    const json_t *item;
    size_t i;

    if (items == NULL)
        print_name(answer);
    json_array_foreach(items, i, item)
        print_name(item);
}

void cli_print(struct cli *cli, const json_t *answer, cli_show_fn *table)
{
    HW_AUTO_FREE char *text = NULL;

    switch (cli->output) {
    case CLI_TABLE:
        if (table != NULL)
            table(cli, answer);
        else
            cli_print_details(answer);
        break;
    case CLI_JSON:
        text = cli_json_text(answer, true);
        puts(text);
        break;
    case CLI_YAML:
        text = cli_yaml_text(answer);
        fputs(text, stdout);
        break;
    case CLI_NAME:
        print_names(answer);
        break;
    }
}

enum hw_status cli_print_list(struct cli *cli, const char *path, int64_t preset, cli_show_fn *show,
                              struct hw_error *err)
{
    HW_AUTO_JSON json_t *list = NULL;
    const enum hw_status st = cli_fetch_list(cli, path, preset, &list, err);

    if (st == HW_OK)
        cli_print(cli, list, show);
    return st;
}

void cli_print_bytes(const char *bytes, size_t len)
{
    struct hw_buf safe = {0};

    if (isatty(STDOUT_FILENO) == 0) {
        fwrite(bytes, 1, len, stdout);
        return;
    }
    cli_text_add(&safe, bytes, len, true);
    fwrite(hw_buf_str(&safe), 1, safe.len, stdout);
    if (safe.len > 0 && safe.data[safe.len - 1] != '\n')
        putchar('\n');
    hw_buf_free(&safe);
}

void cli_print_text(const struct cli *cli, const char *text, int colour)
{
    struct hw_buf safe = {0};

    cli_text_add(&safe, text, strlen(text), true);
    if (cli->colour && colour != 0)
        printf("\033[%dm%s" CSI_RESET, colour, hw_buf_str(&safe));
    else
        fputs(hw_buf_str(&safe), stdout);
    hw_buf_free(&safe);
}

void cli_show_config(struct cli *cli, const json_t *answer)
{
    const char *name = json_string_value(json_object_get(answer, "name"));
    HW_AUTO_FREE char *line =
        hw_sprintf("config %.130s is at revision %lld\n", name != NULL ? name : "?",
                   (long long)json_integer_value(json_object_get(answer, "revision")));

    cli_print_text(cli, line, 0);
}

void cli_warn(const json_t *answer)
{
    const json_t *warning;
    size_t i;

    json_array_foreach(json_object_get(answer, "warnings"), i, warning) {
        const json_t *message = json_object_get(warning, "message");
        struct hw_buf safe = {0};

        if (!json_is_string(message))
            continue;
        cli_text_add(&safe, json_string_value(message), json_string_length(message), false);
        fprintf(stderr, "headwater: warning: %s\n", hw_buf_str(&safe));
        hw_buf_free(&safe);
    }
}
