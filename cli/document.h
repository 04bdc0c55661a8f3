/*
 * Resources as documents: apply takes the documents that get prints and export writes. A document
 * has "kind", the members that the API answers and, for a config, its bytes and its schema. Members
 * that only the server sets (version, times, digest, …) describe the state; apply passes them over.
 */
#ifndef HW_CLI_DOCUMENT_H
#define HW_CLI_DOCUMENT_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"
#include "cli/cli.h"

/*
 * Makes documents of an answer: of one resource, or of all items of a list. collection: "nodes",
 * "configs" or "assignments". The contents of configs are fetched. If those of a list are too many
 * for one answer, they are left out, and stderr says so.
 */
enum hw_status cli_document_complete(struct cli *cli, const char *collection, json_t *answer,
                                     struct hw_error *err) HW_CHECKED;

/* Removes the members that only the server sets. */
void cli_document_strip(json_t *document);

/*
 * Adds the bytes of a config in a form that gives the same bytes back by JSON and by YAML:
 * "content" for JSON that is written as this program writes it, otherwise "text", or "base64" for
 * bytes that are no text.
 */
void cli_document_set_bytes(json_t *document, const char *bytes, size_t len);

/* Fetches the bytes of a revision of a config; the caller frees them with the answer. */
enum hw_status cli_document_fetch(struct cli *cli, const char *config, json_int_t revision,
                                  struct cli_answer *answer, struct hw_error *err) HW_CHECKED;

/* The schema of a config, JSON null where it has none; the caller's. */
enum hw_status cli_document_schema(struct cli *cli, const char *config, json_t **schema,
                                   struct hw_error *err) HW_CHECKED;

#endif
