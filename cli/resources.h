/*
 * Resources from files. A file is YAML documents or JSON. Each document is {"kind": "node" |
 * "config" | "assignment", "name": …, …} as POST /v1/apply takes it, an array of such, or a list as
 * get prints it, {"items": […], "next": …}. A config may say `file: path` instead of its content;
 * the file, below the document's own directory, is read here and sent. Members that only the server
 * sets are left out.
 */
#ifndef HW_CLI_RESOURCES_H
#define HW_CLI_RESOURCES_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

struct cli_resources {
    json_t *list;   /* an array, in the order in which they can be carried out */
    char **origins; /* of each, "file:line" */
    size_t count;
    bool partial; /* one of the lists says that there is more */
};
void cli_resources_free(struct cli_resources *resources);

/*
 * paths: files; directories, of which the *.yaml, *.yml and *.json are read by name, and not those
 * below; or "-" for stdin. Every mistake is HW_EINVAL and says where it is: "file:line:column: …"
 * or "file:line: …".
 */
enum hw_status cli_resources_read(char *const paths[], size_t count,
                                  struct cli_resources *resources, struct hw_error *err) HW_CHECKED;

#define CLI_FILE_MOST ((size_t)64 << 20) /* bytes of a file */

/* Reads stdin to its end. What was read is in the buffer in any case. */
enum hw_status cli_stdin_read(struct hw_buf *text, struct hw_error *err) HW_CHECKED;

/* The media type that a file's name suggests, or NULL. */
const char *cli_media_type_of(const char *file);

#endif
