#include "api/refusal.h"

#include <string.h>

#include "common/log.h"
#include "common/memory.h"

/* SQLSTATEs and what they are to a client (PostgreSQL manual, appendix A); the first match counts.
 */
static const struct {
    const char *sqlstate;   /* a whole one, or a class */
    const char *constraint; /* or NULL: any */
    enum api_problem problem;
} rules[] = {
    {"54", "config_size_limit", API_TOO_LARGE},
    {"54", "config_schema_limit", API_INVALID_CONTENT},
    {"23", "config_content_is_json", API_INVALID_CONTENT},
    {"23", "config_content_fits_schema", API_INVALID_CONTENT},
    {"22", "apply_body_is_json", API_MALFORMED_JSON},
    {"22", "apply_body_is_legal", API_INVALID_BODY},
    {"55000", "apply_if_match_holds", API_PRECONDITION_FAILED},
    {"55000", "set_member_is_of_one_set", API_CONFLICT},
    {"55000", "proposal_base_is_newest", API_CONFLICT},
    {"55000", "proposal_is_pending", API_CONFLICT},
    {"23001", NULL, API_CONFLICT},
    {"23505", NULL, API_CONFLICT},
    {"22023", "position_is_past", API_POSITION_AHEAD},
    {"22", NULL, API_REFUSED},
    {"23", NULL, API_REFUSED},
    {"54", NULL, API_REFUSED},
    {"P0001", NULL, API_REFUSED},
    {"P0002", NULL, API_NO_SUCH_RESOURCE},
    {"55P03", NULL, API_CONTENTION},
    {"40", NULL, API_CONTENTION},
    {"57014", NULL, API_OVERLOADED},
    {"53", NULL, API_OVERLOADED},
    {"3D000", NULL, API_NOT_READY}, /* no such database, schema, table, column, function */
    {"3F000", NULL, API_NOT_READY},
    {"42P01", NULL, API_NOT_READY},
    {"42703", NULL, API_NOT_READY},
    {"42883", NULL, API_NOT_READY},
    {"25006", NULL, API_NOT_READY}, /* a standby, or default_transaction_read_only */
    {"42501", NULL, API_NOT_READY},
};

static enum api_problem classify(const struct hw_db_outcome *outcome)
{
    for (size_t i = 0; i < HW_COUNT(rules); i++)
        if (strncmp(outcome->sqlstate, rules[i].sqlstate, strlen(rules[i].sqlstate)) == 0 &&
            (rules[i].constraint == NULL || strcmp(outcome->constraint, rules[i].constraint) == 0))
            return rules[i].problem;
    return API_INTERNAL;
}

static const char *field(const struct hw_db_outcome *outcome, int code)
{
    if (outcome->results == NULL || outcome->failed < 0 || outcome->failed >= outcome->count)
        return NULL;
    return PQresultErrorField(outcome->results[outcome->failed], code);
}

static const char *primary_message(const struct hw_db_outcome *outcome)
{
    const char *text = field(outcome, PG_DIAG_MESSAGE_PRIMARY);

    return text != NULL ? text : outcome->err.message;
}

/* Which rule, and where: a path into the body ("$.…"), or a pointer into a content or a schema. */
static json_t *members(const struct hw_db_outcome *outcome)
{
    const char *path = field(outcome, PG_DIAG_COLUMN_NAME);
    json_t *object = json_object();

    if (path == NULL)
        path = "";
    if (*outcome->constraint != '\0')
        json_object_set_new(object, "constraint", json_string(outcome->constraint));
    if (*path == '$' || strcmp(outcome->constraint, "config_content_fits_schema") == 0 ||
        strcmp(outcome->constraint, "config_schema_is_legal") == 0)
        json_object_set_new(object, "path", json_string(path));
    return object;
}

/* What stands between two sentences, of which the first may have its full stop. */
static const char *joint(const char *first, const char *second)
{
    const size_t len = strlen(first);

    if (*second == '\0')
        return "";
    return len > 0 && first[len - 1] == '.' ? " " : ". ";
}

static void answer_sql_error(struct api_request *request, const struct hw_db_outcome *outcome)
{
    enum api_problem problem = classify(outcome);
    const char *message = primary_message(outcome);

    /* What others refer to cannot go; what refers to nothing cannot come. */
    if (strcmp(outcome->sqlstate, "23503") == 0 && strcmp(request->method, "DELETE") == 0)
        problem = API_CONFLICT;
    switch (problem) {
    case API_INTERNAL:
        api_answer_internal(request, outcome->sqlstate, outcome->err.message);
        return;
    case API_NOT_READY:
        if (strcmp(outcome->sqlstate, "42501") == 0) {
            hw_log_warn("the database refuses our role; it needs what headwater_api may",
                        HW_E(&outcome->err));
            api_answer_problem(request, problem,
                               "The database refuses the service's role (%s); connect as "
                               "headwater_api, or GRANT headwater_api to that role",
                               message);
            return;
        }
        if (strcmp(outcome->sqlstate, "25006") == 0) {
            api_answer_problem(request, problem,
                               "The database takes no writes (%s): is it a standby? With several "
                               "hosts in --database, target_session_attrs=read-write finds the "
                               "primary",
                               message);
            return;
        }
        hw_log_warn("the database's schema is not this version's", HW_E(&outcome->err));
        api_answer_problem(request, problem,
                           "The database does not have the schema (%s); "
                           "run headwater-api migrate",
                           message);
        return;
    default:
        api_answer_problem_with(
            request, problem, members(outcome), "%s%s%s%s%s", message,
            joint(message, outcome->detail), outcome->detail,
            joint(*outcome->detail != '\0' ? outcome->detail : message, outcome->hint),
            outcome->hint);
    }
}

void api_refusal_answer(struct api_request *request, const struct hw_db_outcome *outcome,
                        bool write)
{
    switch (outcome->status) {
    case HW_EUNAVAIL:
    case HW_ESTOPPED:
        if (write && outcome->sent)
            api_answer_problem(request, API_COMMIT_OUTCOME_UNKNOWN,
                               "The database was lost while it worked on this: read the resource "
                               "to find out whether the change is there");
        else if (outcome->status == HW_ESTOPPED)
            api_answer_problem(request, API_SHUTTING_DOWN, "Try again when it is back");
        else
            api_answer_problem(request, API_DATABASE_UNAVAILABLE, "%s", outcome->err.message);
        return;
    default:
        if (outcome->sqlstate[0] == '\0')
            api_answer_problem(request, API_OVERLOADED, "%s", outcome->err.message);
        else
            answer_sql_error(request, outcome);
    }
}
