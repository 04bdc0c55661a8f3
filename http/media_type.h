/* Media types (RFC 9110 section 8.3). */
#ifndef HTTP_MEDIA_TYPE_H
#define HTTP_MEDIA_TYPE_H

#include <stdbool.h>

#include "base/status.h"

/*
 * Checks a Content-Type and brings it to the one form that is stored: type and subtype in lower
 * case, parameters as "; name=value", and without charset=utf-8, since all text is UTF-8 here. The
 * result is malloc'ed. HW_EINVAL: the field is no media type, names another charset, or is one of
 * the types that clients send when nobody chose one (those of forms).
 */
enum hw_status http_media_type_parse(const char *field, char **media_type,
                                     struct hw_error *err) HW_CHECKED;

bool http_media_type_is_json(const char *media_type);

/* Text travels as UTF-8, everything else as bytes: text/…, JSON, XML, YAML, TOML, JavaScript. */
bool http_media_type_is_text(const char *media_type);

#endif
