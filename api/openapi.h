/*
 * The description of the API (OpenAPI 3.1): api/openapi.json, which the program carries, serves at
 * /openapi.json and shows to people at /v1/reference. That page is made of the document while the
 * program is built (api/reference). Beyond OpenAPI the document holds
 *
 *     x-role      of an operation: the role that its caller must have, null for none
 *     x-requests  of an operation: requests that provoke each of the answers that it documents
 *     x-problems  of the document: the problems that there are, and a request that provokes each,
 *                 or why no request alone does
 *
 * tests/integration/test_api_openapi.c holds the routes, the answers and this document together.
 */
#ifndef API_OPENAPI_H
#define API_OPENAPI_H

#include <stddef.h>

extern const char api_openapi[]; /* its text, a NUL behind */
extern const size_t api_openapi_len;

extern const char api_reference[]; /* the page, a NUL behind */
extern const size_t api_reference_len;

#endif
