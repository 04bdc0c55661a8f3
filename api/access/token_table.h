/*
 * All access tokens, by their hashes, in memory, so that a request costs no query and a token goes
 * on being known while the database is away. They are read when the database is reached, again at
 * each notification "headwater_token", and every 30 s in case one was lost. The table also tells
 * the database, now and then, which tokens were used.
 *
 * Tokens that were revoked or have expired are in the table like all others: the service asks for
 * no token only while there never was one, so time alone must not open it. Nor does a table that
 * shows nothing: that there were tokens is a fact of its own in the database (token_head), which
 * headwater.forget_tokens() alone takes back.
 */
#ifndef API_ACCESS_TOKEN_TABLE_H
#define API_ACCESS_TOKEN_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/access/role.h"
#include "api/listener.h"
#include "base/digest.h"
#include "common/loop.h"

enum { API_TOKEN_ID_DIGITS = 16 };

struct api_token {
    char id[API_TOKEN_ID_DIGITS + 1];
    char *name;
    enum api_role role;
    struct hw_digest hash; /* SHA-256 of the whole token */
    int64_t expires_ns;    /* Unix time; INT64_MAX: never */
    bool is_revoked;
    bool was_used; /* and the database was not told yet */
    int64_t told_at;
};

struct api_token_table;
struct api_token_table *api_token_table_new(struct hw_loop *loop, struct api_listener *listener);
/* Whoever waits for api_token_table_reread is called. */
void api_token_table_stop(struct api_token_table *table);
void api_token_table_free(struct api_token_table *table); /* NULL is fine */

bool api_token_table_known(const struct api_token_table *table); /* were they read? */
/* Why they were not, with what to do; no secret. */
const char *api_token_table_trouble(const struct api_token_table *table);
/* The reason is that the database has no schema of ours. */
bool api_token_table_lacks_schema(const struct api_token_table *table);

/* Must callers show one? Not while there never was one, or since all were forgotten on purpose. */
bool api_token_table_required(const struct api_token_table *table);
size_t api_token_table_count(const struct api_token_table *table);
/* Is there a token that is good now? */
bool api_token_table_any_active(const struct api_token_table *table);

/* Has the text the form of a token, hwt_<id>_<secret>? */
bool api_token_is_well_formed(const char *text);
/* The token that is well-formed text. NULL when there is none; that takes as long. */
struct api_token *api_token_table_find(const struct api_token_table *table, const char *text);
bool api_token_has_expired(const struct api_token *token);

/* The token let somebody in. */
void api_token_table_note_use(struct api_token_table *table, struct api_token *token);

/* Calls done when everything that is committed now is in the table; at once where the database is
 * lost. */
void api_token_table_reread(struct api_token_table *table, void (*done)(void *arg), void *arg);

#endif
