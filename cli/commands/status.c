/* status: one look at the whole system, and what is wrong with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "cli/commands/commands.h"
#include "cli/output.h"
#include "cli/trouble.h"
#include "common/clock.h"

enum { GREEN = 32, RED = 31, YELLOW = 33 };

/* ---- reading: what is absent or null is unknown ---- */

/* The member at a path such as "replication.slot.active". */
static const json_t *at(const json_t *value, const char *path)
{
    for (const char *end; *path != '\0'; path = *end == '.' ? end + 1 : end) {
        end = path + strcspn(path, ".");
        HW_AUTO_FREE char *name = hw_strndup(path, (size_t)(end - path));
        value = json_object_get(value, name);
    }
    return value;
}

static const char *text(const json_t *system, const char *path)
{
    const char *found = json_string_value(at(system, path));

    return found != NULL ? found : "?";
}

static long long number(const json_t *system, const char *path)
{
    return (long long)json_number_value(at(system, path));
}

static bool is_known(const json_t *system, const char *path)
{
    const json_t *value = at(system, path);

    return value != NULL && !json_is_null(value);
}

/* A number of bytes as text: "512 B", "1.5 GiB". */
static char *bytes(const json_t *system, const char *path)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = json_number_value(at(system, path));
    size_t unit = 0;

    if (!is_known(system, path))
        return hw_strdup("?");
    while (value >= 1024 && unit + 1 < HW_COUNT(units)) {
        value /= 1024;
        unit++;
    }
    return hw_sprintf(unit > 0 && value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

/* The time since a time of the server's as text: "3 h". */
static char *since(const json_t *system, const char *path)
{
    static const struct {
        int64_t seconds;
        const char *unit;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    int64_t then, seconds;
    size_t i = 0;

    if (!hw_clock_parse(text(system, path), &then))
        return hw_strdup("?");
    seconds = (hw_clock_now() - then) / 1000000000;
    if (seconds < 0)
        seconds = 0;
    while (i + 1 < HW_COUNT(units) && seconds < units[i].seconds)
        i++;
    return hw_sprintf("%lld %s", (long long)(seconds / units[i].seconds), units[i].unit);
}

/* ---- the lines: each a text, malloc'ed; NULL: unknown ---- */

static char *api_line(const json_t *s)
{
    HW_AUTO_FREE char *up = since(s, "api.started_at");

    return hw_sprintf("headwater-api %s at %s, up %s", text(s, "api.version"),
                      text(s, "api.address"), up);
}

static char *database_line(const json_t *s)
{
    if (!json_is_true(at(s, "database.reachable")))
        return json_is_false(at(s, "database.reachable")) ? hw_strdup("cannot be reached") : NULL;
    if (!is_known(s, "database.schema.actual"))
        return hw_sprintf("PostgreSQL %s, %s, schema unknown", text(s, "database.server_version"),
                          text(s, "database.name"));
    return hw_sprintf("PostgreSQL %s, %s, schema %lld, change %lld",
                      text(s, "database.server_version"), text(s, "database.name"),
                      number(s, "database.schema.actual"), number(s, "changelog.rev"));
}

static char *slot_line(const json_t *s)
{
    HW_AUTO_FREE char *lag = bytes(s, "replication.slot.lag_bytes");

    if (!is_known(s, "replication.slot.exists"))
        return NULL;
    if (json_is_false(at(s, "replication.slot.exists")))
        return hw_sprintf("%s: there is none", text(s, "replication.slot.name"));
    return hw_sprintf("%s: %s, %s, %s behind", text(s, "replication.slot.name"),
                      json_is_true(at(s, "replication.slot.active")) ? "in use" : "nobody reads it",
                      text(s, "replication.slot.wal_status"), lag);
}

static char *archive_line(const json_t *s)
{
    HW_AUTO_FREE char *held = bytes(s, "replication.archive.retained_bytes");

    if (!is_known(s, "replication.archive.exists"))
        return NULL;
    if (json_is_false(at(s, "replication.archive.exists")))
        return hw_sprintf("%s: there is none", text(s, "replication.archive.name"));
    return hw_sprintf("%s: %s, %s of log", text(s, "replication.archive.name"),
                      text(s, "replication.archive.wal_status"), held);
}

static char *leader_line(const json_t *s)
{
    HW_AUTO_FREE char *for_long = since(s, "leader.said.leading_since");

    if (json_is_string(at(s, "leader.said.yielded")))
        return hw_sprintf("nobody leads: the one on %s (process %lld) has yielded, since %s",
                          text(s, "leader.said.host"), number(s, "leader.said.pid"),
                          text(s, "leader.said.yielded"));
    if (json_is_object(at(s, "leader.said")))
        return hw_sprintf("%s on %s (process %lld), leads for %s, epoch %lld, change %lld",
                          text(s, "leader.said.state"), text(s, "leader.said.host"),
                          number(s, "leader.said.pid"), for_long, number(s, "leader.said.epoch"),
                          number(s, "leader.said.rev"));
    if (json_is_false(at(s, "leader.leads")))
        return hw_strdup("nobody leads");
    if (json_is_null(at(s, "leader.leads")))
        return NULL;
    if (is_known(s, "replication.slot.holder.application"))
        return hw_sprintf("%s, from %s", text(s, "replication.slot.holder.application"),
                          text(s, "replication.slot.holder.address"));
    return hw_strdup("somebody leads");
}

static char *standby_line(const json_t *s)
{
    const long long count = number(s, "reconcilers.standing_by");

    if (!is_known(s, "reconcilers.standing_by"))
        return NULL;
    return hw_sprintf("%lld %s by", count, count == 1 ? "reconciler stands" : "reconcilers stand");
}

static char *nats_line(const json_t *s)
{
    const json_t *stream;
    long long messages = 0;
    size_t i;

    if (!is_known(s, "nats.connected"))
        return NULL;
    if (json_is_false(at(s, "nats.connected")))
        return hw_strdup("cannot be reached");
    json_array_foreach(at(s, "nats.streams"), i, stream) {
        messages += number(stream, "messages");
    }
    return hw_sprintf("%s, bucket %s, %lld messages", text(s, "nats.url"), text(s, "nats.bucket"),
                      messages);
}

static char *fleet_line(const json_t *s)
{
    struct hw_buf out = {0};
    const char *state;
    json_t *count;

    if (!json_is_object(at(s, "fleet")))
        return NULL;
    hw_buf_printf(&out, "%lld %s", number(s, "fleet.nodes"),
                  number(s, "fleet.nodes") == 1 ? "node" : "nodes");
    json_object_foreach((json_t *)(uintptr_t)at(s, "fleet.counts"), state, count) {
        if (json_integer_value(count) > 0)
            hw_buf_printf(&out, ", %lld %s", (long long)json_integer_value(count), state);
    }
    return out.data;
}

/* ---- showing ---- */

/* The worst severity of a part's problems: "error", "warning", or NULL. */
static const char *severity_of(const json_t *system, const char *part)
{
    const char *worst = NULL;
    const json_t *problem;
    size_t i;

    json_array_foreach(at(system, "problems"), i, problem) {
        if (strcmp(text(problem, "part"), part) != 0)
            continue;
        if (worst == NULL || strcmp(text(problem, "severity"), "error") == 0)
            worst = text(problem, "severity");
    }
    return worst;
}

static void show(struct cli *cli, const json_t *system)
{
    static const struct {
        const char *name;
        char *(*line)(const json_t *system);
        const char *why_unknown;
    } parts[] = {
        {"api", api_line, "?"},
        {"database", database_line, "not known"},
        {"slot", slot_line, "not known"},
        {"archive", archive_line, "not known"},
        {"leader", leader_line, "not known"},
        {"standby", standby_line, "may not be seen"},
        {"nats", nats_line, "not known: headwater-api was not told where it is (--nats)"},
        {"fleet", fleet_line, "not known"},
    };
    const json_t *problem;
    size_t i;

    for (i = 0; i < HW_COUNT(parts); i++) {
        const char *severity = severity_of(system, parts[i].name);
        HW_AUTO_FREE char *line = parts[i].line(system);
        HW_AUTO_FREE char *rest =
            hw_sprintf("  %-9s %s\n", parts[i].name, line != NULL ? line : parts[i].why_unknown);

        if (severity != NULL)
            cli_print_text(cli, "!!", strcmp(severity, "error") == 0 ? RED : YELLOW);
        else
            cli_print_text(cli, line != NULL ? "OK" : "??", line != NULL ? GREEN : 0);
        cli_print_text(cli, rest, 0);
    }
    json_array_foreach(at(system, "problems"), i, problem) {
        const bool is_error = strcmp(text(problem, "severity"), "error") == 0;
        HW_AUTO_FREE char *what =
            hw_sprintf("\n%s: %s\n", text(problem, "code"), text(problem, "what"));
        HW_AUTO_FREE char *how = hw_sprintf("    %s\n", text(problem, "do"));

        cli_print_text(cli, what, is_error ? RED : YELLOW);
        cli_print_text(cli, how, 0);
    }
}

/* ---- asking ---- */

enum hw_status cli_status(struct cli *cli, char **operands, int count, struct hw_error *err)
{
    HW_AUTO_JSON json_t *system = NULL;
    enum hw_status st = cli_trouble_ask(cli, 0, &system, err);

    (void)operands, (void)count;
    if (st == HW_EUNAVAIL || st == HW_ETIMEOUT) {
        const struct hw_error why = *err;

        return hw_fail(err, st,
                       "%.500s; the rest is seen through the API: see that headwater-api runs "
                       "(systemctl status headwater-api), and that --server (HEADWATER_SERVER) "
                       "names it",
                       why.message);
    }
    if (st != HW_OK)
        return st;
    cli_print(cli, system, show);
    cli->negative = !json_is_true(json_object_get(system, "healthy"));
    return HW_OK;
}
