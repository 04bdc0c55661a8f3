/*
 * Nodes, configs and assignments are resources of the same form: each has a name, a version, which
 * is its entity tag, and four methods. A struct api_resource gives the SQL of one of them, and says
 * how a row reads as JSON. An entity tag is strong: it is the version that the database counts up
 * with each change, and never uses again.
 *
 * Every write begins with a statement that takes the writers' lock and judges the conditions of the
 * request. What follows in its transaction finds what that statement found, so a write that is
 * answered with success was made, or changed nothing because nothing differed.
 */
#ifndef API_RESOURCE_H
#define API_RESOURCE_H

#include <jansson.h>
#include <libpq-fe.h>

#include "api/row.h"
#include "http/request.h"

struct api_transaction;

struct api_resource {
    const char *kind;   /* "node", for messages */
    const char *path;   /* "/v1/nodes/", the name follows */
    const char *upsert; /* create, or change what differs: $1 name, $2… values */
    const char *delete; /* $1 name */
    const char *select; /* $1 name; the columns of list */
    const char *list; /* $1 names after this one, or NULL, $2 how many; columns name, version… */
    const struct api_column *columns;
    bool warns; /* the answer to a PUT has warnings, see api/warnings.h */
};

enum { API_RESOURCE_VALUES_MAX = 5 };

/*
 * Begins a write of one resource: headwater.check_precondition() is its first statement, so done's
 * results[0] has the version that there was (NULL: none), as "version". is_of_something: the
 * resource must be there, otherwise 404. NULL when the request was answered with the problem.
 */
struct api_transaction *api_resource_write(struct http_request *request, const char *kind,
                                           const char *name, bool is_of_something);

/* PUT: the values are those from $2 on. Answers 201 or 200 with the resource. */
void api_resource_put(struct http_request *request, const struct api_resource *resource, int count,
                      const char *const *values);
/* Answers a PUT that was carried out by a statement of the caller's. results: those of the check,
 * of that statement, and of the select behind it. */
void api_resource_on_put(struct http_request *request, const void *resource,
                         PGresult *const *results);
void api_resource_get(struct http_request *request, const struct api_resource *resource);
void api_resource_delete(struct http_request *request, const struct api_resource *resource);
void api_resource_list(struct http_request *request, const struct api_resource *resource);
/* Answers a list that a statement of the caller's gave, with one row more than ?limit= where there
 * is a next page. columns: a list of struct api_column. */
void api_resource_on_list(struct http_request *request, const void *columns,
                          PGresult *const *results);

/* 404: there is no <kind> "<name>". */
void api_resource_missing(struct http_request *request, const char *kind, const char *name);

/* {"items":[…],"next":…} with at most limit rows. The rows are in the order of the first column.
 * Where there are more rows, next is the first column of the last item, for ?after=. */
json_t *api_resource_page(const PGresult *rows, int limit, const struct api_column *columns);

/* Are all members that ?fields= names among the columns? False when the request was answered with
 * the problem. */
bool api_resource_fields(struct http_request *request, const struct api_column *columns);
/* Removes the members that ?fields= does not name from the items of a page; returns the page. */
json_t *api_resource_select(const struct http_request *request, json_t *page);

#endif
