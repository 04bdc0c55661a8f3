/*
 * The output of a command: tables for people, JSON and YAML for scripts. Words of the server go
 * through cli/text.h before a terminal gets them. Everything goes to stdout, unless a function says
 * otherwise.
 */
#ifndef HW_CLI_OUTPUT_H
#define HW_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/cli.h"

struct cli_column {
    const char *heading; /* NULL ends the columns */
    const char *member;
    enum { CLI_TEXT, CLI_DIGEST, CLI_TIME, CLI_LABELS, CLI_SELECTOR, CLI_STATE, CLI_FLAG } kind;
};

/* Prints an array of objects; "-" stands where a member is absent or null. */
void cli_print_table(const struct cli *cli, const json_t *items, const struct cli_column *columns);

/* The same without the headings. */
void cli_print_rows(const struct cli *cli, const json_t *items, const struct cli_column *columns);

/* Each member of an object on a line of its own. */
void cli_print_details(const json_t *object);

/* Some members of an object, each on a line of its own, formatted as in a table. */
void cli_print_fields(const struct cli *cli, const json_t *object, const struct cli_column *fields);

/* Prints it in the form that -o asks for. table shows it to people; NULL stands for
 * cli_print_details. */
void cli_print(struct cli *cli, const json_t *answer, cli_show_fn *table);

/* Fetches a list as cli_fetch_list does, and prints it with cli_print. */
enum hw_status cli_print_list(struct cli *cli, const char *path, int64_t preset, cli_show_fn *table,
                              struct hw_error *err) HW_CHECKED;

/* Prints bytes as they are; on a terminal, as text that does it no harm. */
void cli_print_bytes(const char *bytes, size_t len);

/* Prints text that may hold words of others. colour: 31 red, 32 green, 33 yellow, 1 bold; 0
 * none. */
void cli_print_text(const struct cli *cli, const char *text, int colour);

/* "config NAME is at revision N" */
cli_show_fn cli_show_config;

/* Prints the warnings of an answer on stderr. */
void cli_warn(const json_t *answer);

#endif
