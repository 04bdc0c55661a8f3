#include "tests/recovery/doubled.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tests/recovery/hostile.h"
#include "tests/support/patience.h"
#include "tests/support/process.h"

enum { PATIENCE_S = 60 };

static bool logs_conflict(const struct rig_agent *agent)
{
    HW_AUTO_FREE char *log = test_read_file(agent->program.log);

    return strstr(log, DOUBLED_LOGGED) != NULL;
}

static bool run_the_same(const struct rig_agent *a, const struct rig_agent *b)
{
    HW_AUTO_FREE char *one = test_read_file(a->output);
    HW_AUTO_FREE char *other = test_read_file(b->output);

    return strcmp(one, other) == 0;
}

/* What the fleet says of the node, and what a wait for the change says of its one node. */
static char *look(struct rig *rig, const char *node, const char *change)
{
    return test_sql(&rig->pg,
                    "SELECT format('fleet %%s, last report %%s, wait: nodes %%s applied %%s pending"
                    " %%s', f.state, f.reported_state, w.nodes, w.applied, w.pending)"
                    " FROM headwater.fleet f, headwater.judge_waits('{}', ARRAY[%s]) w"
                    " WHERE f.node = '%s'",
                    change, node);
}

/* A document that is new, so that each agent sees who else reports it. Returns the change. */
static char *give_document(struct rig *rig, const char *node)
{
    free(test_sql(&rig->pg,
                  "INSERT INTO headwater.config (name, content) VALUES ('twins', '{\"twins\":2}');"
                  "INSERT INTO headwater.assignment (name, config, node, priority)"
                  " VALUES ('twins', 'twins', '%s', 9)",
                  node));
    return test_sql(&rig->pg,
                    "SELECT max(rev)::text FROM headwater.desired_history"
                    " WHERE node = '%s'",
                    node);
}

char *doubled_unsettled(struct rig *rig)
{
    const struct rig_agent *const second = &rig->agents[RIG_SECOND];
    const struct rig_agent *const first = rig_first_of_two(rig);
    double until = test_deadline(PATIENCE_S);
    const char *wanted = "fleet conflict, last report in_sync, wait: nodes 1 applied 0 pending 1";

    if (first == NULL)
        return NULL;
    HW_AUTO_FREE char *change = give_document(rig, first->node);
    for (;;) {
        HW_AUTO_FREE char *said = look(rig, first->node, change);
        const bool logged = logs_conflict(first) && logs_conflict(second);

        if (logged && run_the_same(first, second) && said != NULL && strcmp(said, wanted) == 0)
            break;
        if (test_now() > until)
            return hw_sprintf("%s is doubled: %s%s", first->node, said,
                              logged ? "" : "; and not both agents have logged it");
        rig_wait(rig, 0.1);
    }
    rig_end_second(rig);
    free(test_sql(&rig->pg, "UPDATE headwater.setting SET silence = '1 second'"));
    until = test_deadline(PATIENCE_S);
    wanted = "fleet in_sync, last report in_sync, wait: nodes 1 applied 1 pending 0";
    for (;;) {
        HW_AUTO_FREE char *said = look(rig, first->node, change);

        if (said != NULL && strcmp(said, wanted) == 0)
            return NULL;
        if (test_now() > until)
            return hw_sprintf("%s is doubled no more: %s", first->node, said);
        rig_wait(rig, 0.1);
    }
}

void doubled_judge(struct checker *checker, const struct test_postgres *pg, const char *node)
{
    HW_AUTO_FREE char *found =
        test_sql(pg,
                 "SELECT string_agg(DISTINCT node || ' ' || (conflict ->> 'instances'), ', ')"
                 " FROM headwater.reported_history"
                 " WHERE conflict IS NOT NULL AND node NOT IN ('" HOSTILE_NODE "', '%s')",
                 node != NULL ? node : "");

    if (found != NULL)
        checker_problem(checker, "agents", "nodes with one agent were in conflict: %s", found);
}
