/*
 * The API's own description (api/openapi.json), and what it says of values and answers. This is the
 * built-in validator: it checks the keywords that the description uses, and no others may be used.
 */
#ifndef TEST_OPENAPI_H
#define TEST_OPENAPI_H

#include "tests/support/database.h"
#include "tests/support/http.h"

/* Reads the description; conn is asked whether texts match patterns, as they do in ECMA-262. */
void test_openapi_load(PGconn *conn);
void test_openapi_free(void);

extern json_t *test_openapi;                      /* the description */
extern const char *const test_openapi_keywords[]; /* what the validator checks; NULL ends it */

const char *test_openapi_text(const json_t *object, const char *member); /* NULL: no string */
/* Follows {"$ref":"#/a/b"}; a reference to nothing fails the test. */
json_t *test_openapi_resolve(json_t *value);

/* method: in capitals. */
typedef void test_operation_fn(const char *path, const char *method, json_t *operation, void *arg);
void test_openapi_each(test_operation_fn *operation, void *arg);

/* What is wrong with a value, which stands where; malloc'ed, or NULL. */
char *test_openapi_fault(const json_t *value, json_t *schema, const char *where);
/* What is wrong with an answer to an operation: an error of ours, a status, a header field, a media
 * type or a member that is not described, or one that is missing; malloc'ed, or NULL. */
char *test_openapi_answer_fault(const struct test_answer *answer, const json_t *operation,
                                const char *method);

/* What the described requests are about, as it was before each of them. The node failing has
 * failed, and the node example runs what it should, or does not yet. Its proposals: 1 pending, 2 in
 * conflict, 3 rejected, 4 refused. Tokens called test-… stay. */
void test_openapi_fill(PGconn *conn, bool in_sync);

#endif
