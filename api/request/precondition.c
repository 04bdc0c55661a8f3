#include "api/request/precondition.h"

#include <string.h>

#include "api/problem.h"
#include "base/buf.h"
#include "http/answer.h"
#include "http/etag.h"

/* Is the tag a version, a positive bigint in its one usual spelling? */
static bool is_version(const struct http_etag *tag)
{
    const size_t digits = tag->len - 2;

    return !tag->weak && digits >= 1 && digits <= 18 && tag->opaque[1] != '0' &&
           strspn(tag->opaque + 1, "0123456789") == digits;
}

char *api_precondition_versions(const char *field)
{
    struct hw_buf literal = {0};
    struct http_etag tag;
    bool valid = true;

    if (http_etag_is_any(field))
        return NULL;
    hw_buf_putc(&literal, '{');
    while (http_etag_next(&field, &tag, &valid)) {
        if (!is_version(&tag))
            continue;
        if (literal.len > 1)
            hw_buf_putc(&literal, ',');
        hw_buf_add(&literal, tag.opaque + 1, tag.len - 2);
    }
    hw_buf_putc(&literal, '}');
    return literal.data;
}

bool api_precondition_read(struct http_request *request, struct api_precondition *condition)
{
    const char *match = http_request_header(request, HTTP_IF_MATCH);
    const char *none_match = http_request_header(request, HTTP_IF_NONE_MATCH);

    if (match != NULL && !http_etag_list_valid(match)) {
        http_answer_problem(request, &http_malformed_request,
                            "If-Match: must be * or a list of tags such as \"17\"");
        return false;
    }
    if (none_match != NULL && strcmp(none_match, "*") != 0) {
        http_answer_problem(request, &http_malformed_request,
                            "If-None-Match: a write takes * alone: create, never replace");
        return false;
    }
    *condition = (struct api_precondition){
        .versions =
            match != NULL ? http_request_keep(request, api_precondition_versions(match)) : NULL,
        .must_exist = match != NULL && http_etag_is_any(match) ? "t" : "f",
        .must_not_exist = none_match != NULL ? "t" : "f",
    };
    return true;
}

bool api_precondition_is_weak(const struct http_request *request)
{
    const char *match = http_request_header(request, HTTP_IF_MATCH);
    struct http_etag tag;
    bool valid = true;

    while (match != NULL && !http_etag_is_any(match) && http_etag_next(&match, &tag, &valid))
        if (tag.weak)
            return true;
    return false;
}

bool api_precondition_none(struct http_request *request)
{
    const char *none_match = http_request_header(request, HTTP_IF_NONE_MATCH);

    if (http_request_header(request, HTTP_IF_MATCH) != NULL)
        http_answer_problem(request, &api_precondition_failed,
                            "If-Match: nothing here has an entity tag that could be compared");
    else if (none_match != NULL && http_etag_is_any(none_match))
        http_answer_problem(request, &api_precondition_failed,
                            "If-None-Match: what this path names is there already");
    else
        return true;
    return false;
}
