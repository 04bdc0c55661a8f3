#include "api/refusal.h"

#include <string.h>

#include "api/api.h"
#include "api/contention.h"
#include "api/problem.h"
#include "api/request/precondition.h"
#include "base/memory.h"
#include "common/log.h"
#include "http/answer.h"
#include "pg/pool.h"

/* The problem for each SQLSTATE (PostgreSQL manual, appendix A); the first match counts. */
static const struct {
    const char *sqlstate;   /* a whole one, or a class */
    const char *constraint; /* or NULL: any */
    const struct http_problem *problem;
} rules[] = {
    {"54", "config_size_limit", &http_too_large},
    {"54", "config_schema_limit", &api_invalid_content},
    {"23", "config_content_is_json", &api_invalid_content},
    {"23", "config_content_fits_schema", &api_invalid_content},
    {"22", "apply_body_is_json", &api_malformed_json},
    {"22", "apply_body_is_legal", &api_invalid_body},
    {"55000", "apply_if_match_holds", &api_precondition_failed},
    {"55000", "precondition_holds", &api_precondition_failed},
    {"55000", "set_member_is_of_one_set", &api_conflict},
    {"55000", "proposal_base_is_newest", &api_conflict},
    {"55000", "proposal_is_pending", &api_conflict},
    {"23001", NULL, &api_conflict},
    {"23505", NULL, &api_conflict},
    {"22023", "position_is_past", &api_position_ahead},
    {"22", NULL, &api_refused},
    {"23", NULL, &api_refused},
    {"54", NULL, &api_refused},
    {"P0001", NULL, &api_refused},
    {"P0002", NULL, &api_no_such_resource},
    {"55P03", NULL, &api_contention},
    {"40", NULL, &api_contention},
    {"57014", NULL, &api_too_slow},
    {"53", NULL, &http_overloaded},
    {"3D000", NULL, &api_not_ready}, /* no such database, schema, table, column, function */
    {"3F000", NULL, &api_not_ready},
    {"42P01", NULL, &api_not_ready},
    {"42703", NULL, &api_not_ready},
    {"42883", NULL, &api_not_ready},
    {"25006", NULL, &api_not_ready}, /* a standby, or default_transaction_read_only */
    {"42501", NULL, &api_not_ready},
};

static const struct http_problem *classify(const struct hw_db_outcome *outcome)
{
    for (size_t i = 0; i < HW_COUNT(rules); i++)
        if (strncmp(outcome->sqlstate, rules[i].sqlstate, strlen(rules[i].sqlstate)) == 0 &&
            (rules[i].constraint == NULL || strcmp(outcome->constraint, rules[i].constraint) == 0))
            return rules[i].problem;
    return &http_internal;
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

/* The rule that was broken, and where: a path into the body ("$.…"), or a pointer into a content or
 * a schema. */
static json_t *members(const struct hw_db_outcome *outcome)
{
    const char *path = field(outcome, PG_DIAG_COLUMN_NAME);
    json_t *object = json_object();

    if (path == NULL)
        path = "";
    if (*outcome->constraint != '\0')
        json_object_set_new(object, "constraint", json_string(outcome->constraint));
    if (*path == '$' || strcmp(outcome->constraint, "config_content_fits_schema") == 0 ||
        strcmp(outcome->constraint, "config_number_limit") == 0 ||
        strcmp(outcome->constraint, "config_schema_is_legal") == 0)
        json_object_set_new(object, "path", json_string(path));
    return object;
}

/* The text between two sentences, the first of which may lack its full stop. */
static const char *joint(const char *first, const char *second)
{
    const size_t len = strlen(first);

    if (*second == '\0')
        return "";
    return len > 0 && first[len - 1] == '.' ? " " : ". ";
}

/* The database is not as this program needs it. */
static void answer_unfit(struct http_request *request, const struct hw_db_outcome *outcome,
                         const char *message)
{
    if (outcome->failed >= 0 && outcome->failed < outcome->count && outcome->results != NULL &&
        hw_db_hides(outcome->results[outcome->failed])) {
        hw_log_warn("the database hides rows from our role", HW_E(&outcome->err));
        http_answer_problem(request, &api_not_ready, "The database answers nothing (%s). %s",
                            message, HW_DB_HIDES_ADVICE);
    } else if (strcmp(outcome->sqlstate, "42501") == 0) {
        hw_log_warn("the database refuses our role; it needs what headwater_api may",
                    HW_E(&outcome->err));
        http_answer_problem(request, &api_not_ready,
                            "The database refuses the service's role (%s); connect as "
                            "headwater_api, or GRANT headwater_api to that role",
                            message);
    } else if (strcmp(outcome->sqlstate, "25006") == 0) {
        const char *refusal = hw_pool_refuses_writes(api_of(request)->pool);

        http_answer_problem(request, &api_not_ready,
                            "The database takes no writes now (%s); a server that does is looked "
                            "for: try again when /readyz says that there is one",
                            refusal != NULL ? refusal : message);
    } else {
        hw_log_warn("the database's schema is not this version's", HW_E(&outcome->err));
        http_answer_problem(request, &api_not_ready,
                            "The database does not have the schema (%s); "
                            "run headwater-api migrate",
                            message);
    }
}

/* The request waited for a lock until its time was over, or for those who wait for it. */
static void answer_contention(struct http_request *request, const char *message)
{
    const char *holder = api_contention_holder(api_of(request)->contention);

    http_answer_problem(request, &api_contention, "%s%s%s", message, joint(message, "x"),
                        holder != NULL ? holder
                                       : "Others were in its way; try again when they are done");
}

/* The database ended a statement, because its time was over or because somebody asked for that. To
 * send it again helps only in the second case. */
static void answer_too_slow(struct http_request *request, const char *message)
{
    hw_log_warn("the database ended a statement of a request", HW_S("method", request->method),
                HW_S("target", request->raw_target), HW_S("why", message));
    http_answer_problem(request, &api_too_slow,
                        "The database ended this (%s), and nothing was changed: a statement may "
                        "work for %d s. Ask for less at once; psql has no such limit",
                        message, HW_POOL_STATEMENT_MS / 1000);
}

static void answer_sql_error(struct http_request *request, const struct hw_db_outcome *outcome)
{
    const struct http_problem *problem = classify(outcome);
    const char *message = primary_message(outcome);

    /* A foreign key refuses two things: to delete a row that others refer to, which is a conflict,
     * and to write one that refers to nothing, which is a wrong value. */
    if (strcmp(outcome->sqlstate, "23503") == 0 && strcmp(request->method, "DELETE") == 0)
        problem = &api_conflict;
    if (problem == &http_internal)
        http_answer_internal(request, outcome->sqlstate, outcome->err.message);
    else if (problem == &api_precondition_failed && api_precondition_is_weak(request))
        http_answer_problem_with(
            request, problem, members(outcome),
            "%s. If-Match has a weak tag (W/\"…\"), which never matches: a proxy that compresses "
            "answers makes tags weak; send the tag without W/, or have it leave answers as they "
            "are",
            message);
    else if (strcmp(outcome->sqlstate, "55P03") == 0)
        answer_contention(request, message);
    else if (problem == &api_too_slow)
        answer_too_slow(request, message);
    else if (problem == &api_not_ready)
        answer_unfit(request, outcome, message);
    else
        http_answer_problem_with(
            request, problem, members(outcome), "%s%s%s%s%s", message,
            joint(message, outcome->detail), outcome->detail,
            joint(*outcome->detail != '\0' ? outcome->detail : message, outcome->hint),
            outcome->hint);
}

void api_refusal_answer(struct http_request *request, const struct hw_db_outcome *outcome,
                        bool write)
{
    switch (outcome->status) {
    case HW_EUNAVAIL:
    case HW_ESTOPPED:
        if (write && outcome->sent)
            http_answer_problem(request, &api_commit_outcome_unknown,
                                "The database was lost while it worked on this: read the resource "
                                "to find out whether the change is there");
        else if (outcome->status == HW_ESTOPPED)
            http_answer_problem(request, &api_shutting_down, "Try again when it is back");
        else
            http_answer_problem(request, &api_database_unavailable, "%s", outcome->err.message);
        return;
    default:
        /* A line of reads does not wait for who holds up the writes. */
        if (outcome->sqlstate[0] == '\0' && !http_request_is_read(request) &&
            api_contention_holder(api_of(request)->contention) != NULL)
            answer_contention(request, outcome->err.message);
        else if (outcome->sqlstate[0] == '\0')
            http_answer_problem(request, &http_overloaded, "%s", outcome->err.message);
        else
            answer_sql_error(request, outcome);
    }
}
