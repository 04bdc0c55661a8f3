/* put: a file becomes the content of a config. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/names.h"
#include "cli/commands/commands.h"
#include "cli/output.h"
#include "cli/resources.h"
#include "cli/write.h"

/* *media_type is a constant or the value of an option. */
static enum hw_status choose_media_type(struct cli *cli, const char **media_type,
                                        struct hw_error *err)
{
    const struct cli_options *o = cli->o;

    *media_type = o->media_type != NULL ? o->media_type : cli_media_type_of(o->file);
    if (*media_type == NULL)
        return cli_misused(cli, err,
                           "put: what is in %s? --media-type says it, such as application/json, "
                           "text/plain or application/octet-stream",
                           o->file);
    return HW_OK;
}

static enum hw_status read_content(const char *file, struct hw_buf *content, struct hw_error *err)
{
    HW_AUTO_FREE char *bytes = NULL;
    size_t len;

    if (strcmp(file, "-") == 0 ? cli_stdin_read(content, err) != HW_OK
                               : hw_file_read_any(file, CLI_FILE_MOST, &bytes, &len, err) != HW_OK)
        return err->status = HW_EINVAL; /* HW_ENOENT would mean that the config is missing */
    if (bytes != NULL)
        hw_buf_add(content, bytes, len);
    return HW_OK;
}

enum hw_status cli_put(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    const struct cli_options *o = cli->o;
    const char *name = operands[count - 1], *media_type;
    struct hw_buf content = {0}, path = {0};

    if (count == 2 && strcmp(operands[0], "config") != 0)
        return cli_misused(cli, err, "put: it takes one config, and its file by -f FILE");
    if (o->file == NULL)
        return cli_misused(cli, err, "put: a file is missing: -f FILE, or -f - for standard input");
    if (o->create && o->if_match != NULL)
        return cli_misused(cli, err, "--create and --if-match exclude each other");
    enum hw_status st = hw_name_check(name, err);
    if (st == HW_OK)
        st = choose_media_type(cli, &media_type, err);
    if (st == HW_OK)
        st = read_content(o->file, &content, err);
    if (st == HW_OK) {
        hw_buf_puts(&path, "/v1/configs");
        cli_path_add(&path, name);
        cli_query_add(&path, "message", o->message);
        st = cli_write(cli,
                       &(struct cli_request){.method = "PUT",
                                             .path = path.data,
                                             .media_type = media_type,
                                             .body = hw_buf_str(&content),
                                             .len = content.len,
                                             .if_match = o->if_match,
                                             .create = o->create},
                       cli_show_config, err);
        if (st != HW_OK)
            (void)hw_fail_in(err, "config \"%.130s\"", name);
        if (st == HW_ECONFLICT && o->create)
            (void)hw_fail(err, st,
                          "there is a config \"%.130s\" already; without --create it "
                          "gets this content",
                          name);
    }
    hw_buf_free(&content);
    hw_buf_free(&path);
    return st;
}
