#include "api/request/content.h"

#include <stdlib.h>
#include <string.h>

#include "api/row.h"
#include "base/base64.h"
#include "base/memory.h"
#include "http/answer.h"

void api_content_answer(struct http_request *request, const PGresult *row, const char *name)
{
    const char *content = api_row_text(row, 0, "content");
    const size_t len = strlen(content);
    HW_AUTO_FREE char *disposition = hw_sprintf("attachment; filename=\"%s\"", name);
    struct hw_error err;
    unsigned char *bytes;
    size_t size = len;

    if (strcmp(api_row_text(row, 0, "encoding"), "base64") == 0) {
        if (hw_base64_decode(content, len, &bytes, &size, &err) != HW_OK) {
            http_answer_internal(request, "decoding content", err.message);
            return;
        }
    } else {
        bytes = malloc(len + 1);
        if (bytes == NULL) {
            http_answer_problem(request, &http_overloaded, "There is no memory for the content");
            return;
        }
        memcpy(bytes, content, len + 1);
    }
    http_answer_etag(request, "%s", api_row_text(row, 0, "tag"));
    http_answer_header(request, HTTP_CONTENT_DISPOSITION, disposition);
    http_answer_bytes(request, HTTP_OK, bytes, size, api_row_text(row, 0, "media_type"));
}
