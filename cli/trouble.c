#include "cli/trouble.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "cli/client/http.h"
#include "cli/text.h"

enum { ASK_MS = 3000, TROUBLE_MOST = 3 };

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value != NULL ? value : "";
}

/* The API answers, but it has no database, or one without the schema. */
static json_t *system_of_problem(const struct cli_answer *answer)
{
    const json_t *problem = answer->details;
    const bool lacks_schema = strcmp(answer->problem, "not-ready") == 0;

    if (problem == NULL || (!lacks_schema && strcmp(answer->problem, "database-unavailable") != 0))
        return NULL;
    return json_pack("{s:b, s:[{s:s, s:s, s:s, s:s, s:s}], s:{s:b}}", "healthy", false, "problems",
                     "code", lacks_schema ? "schema_old" : "database_unreachable", "part",
                     "database", "severity", "error", "what", text(problem, "detail"), "do",
                     lacks_schema
                         ? "run headwater-api migrate as the database's owner or a superuser"
                         : "see that PostgreSQL runs, and that headwater-api's --database "
                           "(HEADWATER_DATABASE_URL) names it, its user and its password",
                     "database", "reachable", false);
}

enum hw_status cli_trouble_ask(struct cli *cli, int64_t timeout_ms, json_t **system,
                               struct hw_error *err)
{
    const struct cli_request request = {.path = "/v1/system", .timeout_ms = timeout_ms};
    struct cli_answer answer = {0};
    enum hw_status st = cli_http_json(cli->http, &request, &answer, system, err);

    if (st == HW_EUNAVAIL && (*system = system_of_problem(&answer)) != NULL)
        st = HW_OK;
    cli_answer_free(&answer);
    return st;
}

/* A failure in asking is not told: the error before it is what matters. */
void cli_trouble_tell(struct cli *cli)
{
    HW_AUTO_JSON json_t *system = NULL;
    const json_t *problem;
    struct hw_error err;
    size_t i;

    if (cli_trouble_ask(cli, ASK_MS, &system, &err) != HW_OK)
        return;
    json_array_foreach(json_object_get(system, "problems"), i, problem) {
        HW_AUTO_FREE char *line = hw_sprintf("%s: %s", text(problem, "what"), text(problem, "do"));
        struct hw_buf safe = {0};

        if (i == TROUBLE_MOST)
            break;
        cli_text_add(&safe, line, strlen(line), false);
        fprintf(stderr, "headwater: %s\n", hw_buf_str(&safe));
        hw_buf_free(&safe);
    }
}
