/* Media types (RFC 9110 section 8.3) as configurations carry them. */
#ifndef HTTP_MEDIA_TYPE_H
#define HTTP_MEDIA_TYPE_H

#include <stdbool.h>

#include "common/status.h"

/*
 * Checks a Content-Type and brings it to the one form that is stored: type and subtype in lower
 * case, parameters as "; name=value", charset=utf-8 left out, for that is what text is here. The
 * result is malloc'ed. HW_EINVAL for what is no media type, another charset, and the types that
 * clients send when nobody chose one (forms).
 */
enum hw_status http_media_type_parse(const char *field, char **media_type,
                                     struct hw_error *err) HW_CHECKED;

bool http_media_type_is_json(const char *media_type);

/* Text travels as UTF-8, everything else as bytes: text/…, JSON, XML, YAML, TOML, JavaScript. */
bool http_media_type_is_text(const char *media_type);

#endif
