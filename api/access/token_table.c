#include "api/access/token_table.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "api/migrate.h"
#include "api/row.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/memory.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/outage.h"

enum {
    REREAD_MS = 30000,    /* stands in for a notification that was lost */
    READ_AGAIN_MS = 1000, /* after a failure */
    USES_AFTER_MS = 1000, /* from a token's use until the database is told of all uses since */
    USES_EVERY_MS = 60000,
    SECRET_CHARS = 43,
    TOKEN_CHARS = 4 + API_TOKEN_ID_DIGITS + 1 + SECRET_CHARS, /* hwt_<id>_<secret> */
};

static const char select_sql[] =
    "SELECT id, name, role, encode(hash, 'hex') AS hash, CASE WHEN isfinite(expires_at) "
    "THEN (extract(epoch FROM expires_at - (headwater.now() - clock_timestamp())) "
    "* 1000000)::bigint END AS expires_us, "
    "revoked_at IS NOT NULL AS is_revoked FROM headwater.token";

/* Where the row is missing or hidden, nobody is let in without a token. */
static const char required_sql[] = "SELECT required FROM headwater.token_head";

struct rereader {
    STAILQ_ENTRY(rereader) link;
    void (*done)(void *arg);
    void *arg;
};
STAILQ_HEAD(rereaders, rereader);

struct api_token_table {
    struct hw_loop *loop;
    struct api_listener *listener;
    struct api_subscriber subscriber;
    bool busy;            /* a question of ours runs */
    bool stale, uses_due; /* to do in the next turns */
    bool known;           /* which tokens there are */
    bool required;        /* the database says that there were some */
    bool told_missing;    /* the log says that they are not there any more */
    bool lacks_schema, stopped;
    struct hw_map tokens; /* by id */
    struct hw_timer reread, uses;
    struct rereaders waiting, served; /* for the next reading; by the one that runs */
    struct hw_error trouble;
    struct hw_outage outage; /* of a database that is there, and not as it is needed */
};

/* ---- the tokens ---- */

static void clear_tokens(struct hw_map *tokens)
{
    struct api_token *token;

    for (size_t at = 0; (token = hw_map_next(tokens, &at)) != NULL;) {
        free(token->name);
        free(token);
    }
    hw_map_clear(tokens);
}

static void take_row(struct hw_map *tokens, const struct hw_map *before, const PGresult *rows,
                     int row)
{
    HW_AUTO_FREE char *hash = hw_sprintf("sha256:%s", api_row_text(rows, row, "hash"));
    const char *id = api_row_text(rows, row, "id");
    const char *expires = api_row_text(rows, row, "expires_us");
    const struct api_token *old = hw_map_get(before, id);
    struct api_token *token;
    struct hw_digest digest;

    /* The table's constraints promise that neither happens. */
    if (strlen(id) != API_TOKEN_ID_DIGITS || hw_digest_parse(hash, &digest, NULL) != HW_OK)
        return;
    token = hw_alloc(sizeof(*token));
    strcpy(token->id, id);
    token->name = hw_strdup(api_row_text(rows, row, "name"));
    token->role = api_role_of(api_row_text(rows, row, "role"));
    token->hash = digest;
    if (expires == NULL ||
        __builtin_mul_overflow(strtoll(expires, NULL, 10), 1000, &token->expires_ns))
        token->expires_ns = INT64_MAX;
    token->is_revoked = api_row_is_true(rows, row, "is_revoked");
    if (old != NULL) {
        token->was_used = old->was_used;
        token->told_at = old->told_at;
    }
    hw_map_add(tokens, token->id, token);
}

static void take_tokens(struct api_token_table *table, const PGresult *rows)
{
    struct hw_map before = table->tokens;

    table->tokens = (struct hw_map){0};
    for (int i = 0; i < PQntuples(rows); i++)
        take_row(&table->tokens, &before, rows, i);
    clear_tokens(&before);
    if (table->required && table->tokens.count == 0 && !table->told_missing)
        hw_log_warn("there were tokens, and the database shows none now: every call is refused, "
                    "until a token is made (headwater-api token create), or SELECT "
                    "headwater.forget_tokens() says that none is needed");
    table->told_missing = table->required && table->tokens.count == 0;
    if (!table->known)
        hw_log_info("tokens read", HW_I("tokens", (int64_t)table->tokens.count));
    table->known = true;
}

bool api_token_has_expired(const struct api_token *token)
{
    return token->expires_ns <= hw_clock_now();
}

bool api_token_table_any_active(const struct api_token_table *table)
{
    const struct api_token *token;

    for (size_t at = 0; (token = hw_map_next(&table->tokens, &at)) != NULL;)
        if (!token->is_revoked && !api_token_has_expired(token))
            return true;
    return false;
}

/* ---- reading them ---- */

static void work(struct api_token_table *table);

static void on_time_to_reread(void *arg)
{
    struct api_token_table *table = arg;

    table->stale = true;
    hw_timer_start(table->loop, &table->reread, REREAD_MS, on_time_to_reread, table);
    work(table);
}

static void call_back(struct rereaders *list)
{
    struct rereader *rereader;

    while ((rereader = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        rereader->done(rereader->arg);
        free(rereader);
    }
}

/* Said here for the whole program, since the tokens are read again and again, whether anyone calls
 * or not. */
static void tell_unfit(struct api_token_table *table, const struct hw_error *why)
{
    const int64_t now = hw_loop_now();

    if (hw_outage_goes_on(&table->outage, why->message, now))
        hw_log_warn("the database is not as this program needs it",
                    HW_I("lasts_s", hw_outage_age(&table->outage, now) / 1000), HW_E(why));
}

static void note_trouble(struct api_token_table *table, const struct hw_db_outcome *outcome)
{
    struct hw_error *const why = &table->trouble;

    *why = outcome->err;
    table->lacks_schema =
        strcmp(outcome->sqlstate, "42P01") == 0 || strcmp(outcome->sqlstate, "3F000") == 0;
    if (table->lacks_schema)
        hw_fail(why, why->status,
                "the database does not have the schema (%s): is it the right one? Then run "
                "headwater-api migrate as its owner or a superuser",
                outcome->err.message);
    else if (strcmp(outcome->sqlstate, "42501") == 0)
        hw_fail(why, why->status,
                "%s: this role may not read all of the schema; connect as headwater_api or GRANT "
                "headwater_api TO the role, and ALTER TABLE ... DISABLE ROW LEVEL SECURITY where "
                "that hides rows",
                outcome->err.message);
    if (outcome->status != HW_EUNAVAIL) /* a lost database is told of by the pool */
        tell_unfit(table, why);
}

/* False: the schema is of another version. */
static bool check_schema(struct api_token_table *table, const PGresult *applied)
{
    int64_t lasted;
    struct hw_error why;

    if (api_migrate_check(applied, &why) != HW_OK) {
        tell_unfit(table, &why);
        return false;
    }
    if (hw_outage_ends(&table->outage, hw_loop_now(), &lasted))
        hw_log_info("the database is as this program needs it",
                    HW_I("schema", api_migrate_version()), HW_I("lasted_s", lasted / 1000));
    return true;
}

static void on_read(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_token_table *table = arg;

    table->busy = false;
    if (table->stopped)
        return;
    if (outcome->status == HW_OK) {
        table->lacks_schema = false;
        table->required = PQntuples(outcome->results[2]) == 0 ||
                          api_row_is_true(outcome->results[2], 0, "required");
        take_tokens(table, outcome->results[1]);
        if (!check_schema(table, outcome->results[0]))
            hw_timer_start(table->loop, &table->reread, READ_AGAIN_MS, on_time_to_reread, table);
    } else {
        table->stale = true;
        note_trouble(table, outcome);
        hw_timer_start(table->loop, &table->reread, READ_AGAIN_MS, on_time_to_reread, table);
    }
    call_back(&table->served);
    if (outcome->status == HW_OK)
        work(table);
}

static void read_tokens(struct api_token_table *table)
{
    static const struct hw_db_query queries[] = {
        {.sql = api_migrate_applied_sql},
        {.sql = select_sql},
        {.sql = required_sql},
    };

    if (!api_listener_ask(table->listener, HW_DB_SEPARATE, queries, HW_COUNT(queries), on_read,
                          table))
        return; /* it is down, and will be up */
    table->busy = true;
    table->stale = false;
    STAILQ_CONCAT(&table->served, &table->waiting);
}

static void on_told(void *arg, const struct hw_db_outcome *outcome)
{
    struct api_token_table *table = arg;

    table->busy = false;
    if (outcome->status != HW_OK)
        hw_log_debug("cannot tell which tokens were used", HW_E(&outcome->err));
    work(table);
}

static void tell_uses(struct api_token_table *table)
{
    struct hw_buf ids = {0};
    struct api_token *token;

    table->uses_due = false;
    hw_buf_putc(&ids, '{');
    for (size_t at = 0; (token = hw_map_next(&table->tokens, &at)) != NULL;) {
        if (!token->was_used)
            continue;
        hw_buf_printf(&ids, "%s%s", ids.len > 1 ? "," : "", token->id);
        token->was_used = false;
        token->told_at = hw_loop_now();
    }
    hw_buf_putc(&ids, '}');
    const char *const values[] = {ids.data};
    const struct hw_db_query query = {
        .sql = "SELECT headwater.note_token_use($1::text[])", .count = 1, .values = values};

    table->busy = api_listener_ask(table->listener, HW_DB_ATOMIC, &query, 1, on_told, table);
    hw_buf_free(&ids);
}

static void work(struct api_token_table *table)
{
    if (!table->stopped && !table->busy && (table->stale || table->uses_due))
        api_listener_line_up(table->listener, &table->subscriber);
}

static void on_turn(void *arg)
{
    struct api_token_table *table = arg;

    if (table->stopped || table->busy)
        return;
    if (table->stale)
        read_tokens(table);
    else if (table->uses_due)
        tell_uses(table);
}

static void on_down(void *arg, const struct hw_error *why)
{
    struct api_token_table *table = arg;

    table->lacks_schema = false;
    table->trouble = *why;
    call_back(&table->waiting);
}

static void on_notify(void *arg)
{
    struct api_token_table *table = arg;

    table->stale = true;
    work(table);
}

/* ---- beginning and end ---- */

struct api_token_table *api_token_table_new(struct hw_loop *loop, struct api_listener *listener)
{
    static const char *const channels[] = {"headwater_token", NULL};
    struct api_token_table *table = hw_alloc(sizeof(*table));

    table->loop = loop;
    table->listener = listener;
    STAILQ_INIT(&table->waiting);
    STAILQ_INIT(&table->served);
    hw_fail(&table->trouble, HW_EUNAVAIL, "no connection to the database was made yet");
    table->subscriber = (struct api_subscriber){.channels = channels,
                                                .up = on_time_to_reread,
                                                .down = on_down,
                                                .notify = on_notify,
                                                .turn = on_turn,
                                                .arg = table};
    api_listener_subscribe(listener, &table->subscriber);
    return table;
}

void api_token_table_stop(struct api_token_table *table)
{
    table->stopped = true;
    hw_timer_stop(&table->reread);
    hw_timer_stop(&table->uses);
    call_back(&table->served);
    call_back(&table->waiting);
}

void api_token_table_free(struct api_token_table *table)
{
    if (table == NULL)
        return;
    if (!table->stopped)
        api_token_table_stop(table);
    clear_tokens(&table->tokens);
    free(table);
}

bool api_token_table_known(const struct api_token_table *table)
{
    return table->known;
}

const char *api_token_table_trouble(const struct api_token_table *table)
{
    return table->trouble.message;
}

bool api_token_table_lacks_schema(const struct api_token_table *table)
{
    return table->lacks_schema;
}

bool api_token_table_required(const struct api_token_table *table)
{
    return table->required || table->tokens.count > 0;
}

size_t api_token_table_count(const struct api_token_table *table)
{
    return table->tokens.count;
}

void api_token_table_reread(struct api_token_table *table, void (*done)(void *arg), void *arg)
{
    struct rereader *rereader;

    if (table->stopped || !api_listener_up(table->listener)) {
        done(arg);
        return;
    }
    rereader = hw_alloc(sizeof(*rereader));
    rereader->done = done;
    rereader->arg = arg;
    STAILQ_INSERT_TAIL(&table->waiting, rereader, link);
    table->stale = true;
    work(table);
}

/* ---- finding one ---- */

bool api_token_is_well_formed(const char *text)
{
    return strlen(text) == TOKEN_CHARS && strncmp(text, "hwt_", 4) == 0 &&
           strspn(text + 4, "0123456789abcdef") == API_TOKEN_ID_DIGITS &&
           text[4 + API_TOKEN_ID_DIGITS] == '_' &&
           strspn(text + 4 + API_TOKEN_ID_DIGITS + 1,
                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                  "0123456789-_") == SECRET_CHARS;
}

struct api_token *api_token_table_find(const struct api_token_table *table, const char *text)
{
    static const struct hw_digest nobody;
    char id[API_TOKEN_ID_DIGITS + 1] = "";
    struct api_token *token;
    struct hw_digest hash;
    bool same;

    memcpy(id, text + 4, API_TOKEN_ID_DIGITS);
    hw_digest_of(text, TOKEN_CHARS, &hash);
    token = hw_map_get(&table->tokens, id);
    same = CRYPTO_memcmp(hash.bytes, token != NULL ? token->hash.bytes : nobody.bytes,
                         sizeof(hash.bytes)) == 0;
    return same ? token : NULL;
}

static void on_uses_due(void *arg)
{
    struct api_token_table *table = arg;

    table->uses_due = true;
    work(table);
}

void api_token_table_note_use(struct api_token_table *table, struct api_token *token)
{
    if (token->told_at != 0 && hw_loop_now() - token->told_at < USES_EVERY_MS)
        return;
    token->was_used = true;
    if (!table->uses_due && !hw_timer_running(&table->uses))
        hw_timer_start(table->loop, &table->uses, USES_AFTER_MS, on_uses_due, table);
}
