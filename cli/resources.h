/*
 * Resources from files: YAML documents or JSON, each {"kind": "node" | "config" | "assignment",
 * "name": …, …} as POST /v1/apply takes them, an array of such, or a list as get prints it,
 * {"items": […], "next": …}. A config may say `file: path` in the place of its content: the file,
 * below the document's own directory, is read here and sent. What the server alone sets is left
 * out.
 */
#ifndef HW_CLI_RESOURCES_H
#define HW_CLI_RESOURCES_H

#include <jansson.h>
#include <stdbool.h>

#include "common/buf.h"
#include "common/status.h"

struct cli_resources {
    json_t *list;   /* array, in the order in which they can be carried out one after another */
    char **origins; /* of each, "file:line" */
    size_t count;
    bool partial; /* a list among them says that there are more */
};
void cli_resources_free(struct cli_resources *resources);

/*
 * paths: files, directories (their *.yaml, *.yml and *.json, by name, not those below), or "-" for
 * stdin. Whatever is wrong is HW_EINVAL and says where: "file:line:column: …" or "file:line: …".
 */
enum hw_status cli_resources_read(char *const paths[], size_t count,
                                  struct cli_resources *resources, struct hw_error *err) HW_CHECKED;

#define CLI_FILE_MOST ((size_t)64 << 20) /* bytes of a file */

/* All of it; what was read is in the buffer in any case. */
enum hw_status cli_stdin_read(struct hw_buf *text, struct hw_error *err) HW_CHECKED;

/* What a file's name says that it is, or NULL: nothing. */
const char *cli_media_type_of(const char *file);

#endif
