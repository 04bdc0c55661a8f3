#include "api/token_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "common/streams.h"
#include "pg/database.h"

/* Whether sql, without values, gives true. */
static enum hw_status ask(PGconn *conn, const char *sql, bool *yes, struct hw_error *err)
{
    PGresult *result;
    const enum hw_status status = hw_db_exec(conn, sql, 0, NULL, &result, err);

    if (status != HW_OK)
        return status;
    *yes = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
    return HW_OK;
}

/* To stderr, so that the token alone is in a file. */
static void explain(bool first)
{
    fputs("headwater-api: this is shown once; nobody can look it up later\n", stderr);
    if (first)
        fputs("headwater-api: it is the first one: from now on every call needs a token, those of "
              "monitoring too, and whoever has none is answered 401\n"
              "headwater-api: for each of them: headwater-api token create NAME --role "
              "viewer|operator|approver|admin, or with this one: headwater token create NAME "
              "--role ROLE; they keep theirs in a file that HEADWATER_TOKEN_FILE names\n",
              stderr);
}

static enum hw_status create(PGconn *conn, const struct api_token_options *options,
                             struct hw_error *err)
{
    HW_AUTO_FREE char *seconds =
        options->expires_ms > 0 ? hw_sprintf("%.3f", (double)options->expires_ms / 1000) : NULL;
    const char *const values[] = {options->name, options->role, seconds};
    struct hw_error why;
    PGresult *result;
    bool first = false;
    enum hw_status status =
        ask(conn, "SELECT NOT EXISTS (SELECT FROM headwater.token_info)", &first, err);

    if (status == HW_OK)
        status = hw_db_exec(
            conn, "SELECT headwater.create_token($1, $2, make_interval(secs => $3::float8))", 3,
            values, &result, err);
    if (status != HW_OK)
        return status;
    puts(PQgetvalue(result, 0, 0));
    PQclear(result);
    status = hw_stdout_flush(err);
    if (status == HW_OK)
        explain(first);
    /* Nobody can read it again, so it may not be good for whoever finds it. */
    else if (hw_db_exec(conn, "SELECT headwater.revoke_token($1)", 1, values, NULL, &why) == HW_OK)
        hw_fail_in(err, "the token %s could not be shown, and is revoked: make one by another name",
                   options->name);
    else
        hw_fail_in(err,
                   "the token %s could not be shown, and is good until you revoke it, since that "
                   "failed (%s)",
                   options->name, why.message);
    return status;
}

static enum hw_status list(PGconn *conn, struct hw_error *err)
{
    PGresult *rows;
    enum hw_status status = hw_db_exec(
        conn,
        "SELECT name, role, state, "
        "coalesce(to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"'), "
        "'never'), "
        "coalesce(to_char(last_used_at AT TIME ZONE 'UTC', "
        "'YYYY-MM-DD\"T\"HH24:MI\"Z\"'), 'never') "
        "FROM headwater.token_info ORDER BY name",
        0, NULL, &rows, err);

    if (status != HW_OK)
        return status;
    printf("%-24s %-9s %-8s %-18s %s\n", "NAME", "ROLE", "STATE", "EXPIRES", "USED");
    for (int i = 0; i < PQntuples(rows); i++)
        printf("%-24s %-9s %-8s %-18s %s\n", PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1),
               PQgetvalue(rows, i, 2), PQgetvalue(rows, i, 3), PQgetvalue(rows, i, 4));
    PQclear(rows);
    return HW_OK;
}

static enum hw_status revoke(PGconn *conn, const char *name, struct hw_error *err)
{
    const enum hw_status status =
        hw_db_exec(conn, "SELECT headwater.revoke_token($1)", 1, &name, NULL, err);

    if (status == HW_OK)
        printf("token %s is revoked\n", name);
    return status;
}

enum hw_status api_token_check(const char *what, const struct api_token_options *options,
                               struct hw_error *err)
{
    const bool creates = strcmp(what, "create") == 0;

    if (!creates && strcmp(what, "list") != 0 && strcmp(what, "revoke") != 0)
        return hw_fail(err, HW_EINVAL, "token %s: is not one of create, list, revoke", what);
    if (strcmp(what, "list") != 0 && options->name == NULL)
        return hw_fail(err, HW_EINVAL, "token %s: a name is missing", what);
    if (strcmp(what, "list") == 0 && options->name != NULL)
        return hw_fail(err, HW_EINVAL, "token list: it takes no name");
    if (creates && options->role == NULL)
        return hw_fail(err, HW_EINVAL,
                       "token create: --role is missing: viewer, operator, approver or admin");
    if (!creates && (options->role != NULL || options->expires_ms > 0))
        return hw_fail(err, HW_EINVAL, "--role and --expires-in go with token create");
    return HW_OK;
}

enum hw_status api_token_command(const char *conninfo, const char *what,
                                 const struct api_token_options *options, struct hw_error *err)
{
    PGconn *conn;
    enum hw_status status = hw_db_connect(conninfo, "headwater-api token", &conn, err);

    if (status != HW_OK)
        return status;
    if (strcmp(what, "create") == 0)
        status = create(conn, options, err);
    else if (strcmp(what, "list") == 0)
        status = list(conn, err);
    else
        status = revoke(conn, options->name, err);
    PQfinish(conn);
    return status;
}

enum hw_status api_token_any_active(const char *conninfo, bool *active, struct hw_error *err)
{
    PGconn *conn;
    enum hw_status status = hw_db_connect(conninfo, "headwater-api", &conn, err);
    bool exists = false;

    if (status != HW_OK)
        return status;
    status = ask(conn, "SELECT to_regclass('headwater.token_info') IS NOT NULL", &exists, err);
    if (status == HW_OK && !exists)
        *active = false;
    else if (status == HW_OK)
        status =
            ask(conn, "SELECT EXISTS (SELECT FROM headwater.token_info WHERE state = 'active')",
                active, err);
    PQfinish(conn);
    return status;
}
