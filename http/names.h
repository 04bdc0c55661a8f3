/* Status codes and header fields (RFC 9110) that handlers name. */
#ifndef HTTP_NAMES_H
#define HTTP_NAMES_H

enum {
    HTTP_OK = 200,
    HTTP_CREATED = 201,
    HTTP_NO_CONTENT = 204,
    HTTP_NOT_MODIFIED = 304,
    HTTP_BAD_REQUEST = 400,
    HTTP_SERVICE_UNAVAILABLE = 503,
};

#define HTTP_ALLOW               "Allow"
#define HTTP_AUTHORIZATION       "Authorization"
#define HTTP_CACHE_CONTROL       "Cache-Control"
#define HTTP_CONTENT_DISPOSITION "Content-Disposition"
#define HTTP_HEADWATER_CHANGE    "Headwater-Change" /* the rev of the change that a write made */
#define HTTP_HEADWATER_LSN       "Headwater-LSN"    /* a position at or behind a write's commit */
#define HTTP_IDEMPOTENCY_KEY     "Idempotency-Key"  /* draft-ietf-httpapi-idempotency-key-header */
#define HTTP_IF_MATCH            "If-Match"
#define HTTP_IF_NONE_MATCH       "If-None-Match"
#define HTTP_LOCATION            "Location"
#define HTTP_RETRY_AFTER         "Retry-After"
#define HTTP_WWW_AUTHENTICATE    "WWW-Authenticate"

#endif
