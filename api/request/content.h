/* Documents as bytes. The database keeps them as text, or in base64; they are answered as they came
 * in. */
#ifndef API_REQUEST_CONTENT_H
#define API_REQUEST_CONTENT_H

#include <libpq-fe.h>

#include "http/request.h"

/* Answers row 0: columns content, encoding, media_type, and tag, which becomes the ETag. name is
 * what a browser would call the file. */
void api_content_answer(struct http_request *request, const PGresult *row, const char *name);

#endif
