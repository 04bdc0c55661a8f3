/*
 * The agent as the first process of a container, to which everything is left that its commands
 * leave running: it waits for what ended, and only for that.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/agent_program.h"
#include "tests/support/process.h"
#include "tests/support/suite.h"

enum { WAIT_S = 60, REVISIONS = 3, DRAINS = REVISIONS };
#define NODE "edge-1"

/* Ten that end while the command runs, ten that end behind it, and one that stays. The one that
 * stays may still write, so a drain reads its output (agent/daemon/drain.h). */
#define LEAVES_CHILDREN                                                                            \
    "for i in 0 1 2 3 4 5 6 7 8 9; do (true &); done; sleep 0.2\n"                                 \
    "for i in 0 1 2 3 4 5 6 7 8 9; do (sleep 0.$i &); done; sleep 600 &\n"

/* A process namespace with its /proc; an ordinary user needs one of users around it. */
#define SPACE_OF_ROOT "exec unshare --pid --fork --kill-child --mount-proc -- \"$@\""
#define SPACE_OF_USER                                                                              \
    "exec unshare --user --map-current-user --pid --fork --kill-child --mount-proc -- \"$@\""

static struct agent_program a;

static const char *space(void)
{
    return geteuid() == 0 ? SPACE_OF_ROOT : SPACE_OF_USER;
}

/* Starts the agent by a line of shell, in which "$@" is its command line. */
static void start_agent(const char *line)
{
    const char *build = getenv("HW_BUILD_DIR");
    HW_AUTO_FREE char *program = hw_sprintf("%s/headwater-agent", build != NULL ? build : "build");
    HW_AUTO_FREE char *apply = agent_program_script(&a, "apply", LEAVES_CHILDREN);

    test_program_start(&a.program,
                       (const char *const[]){"sh", "-c", line, "sh", program, "--nats",
                                             a.up.server.url, "--node", NODE, "--state-dir",
                                             a.state_dir, "--output", a.output, "--apply", apply,
                                             NULL},
                       NULL);
    agent_program_wait_log(&a, "msg=starting");
}

static char *children_of(pid_t pid)
{
    HW_AUTO_FREE char *path = hw_sprintf("/proc/%d/task/%d/children", (int)pid, (int)pid);

    return test_read_file(path);
}

/* How many children a process has; zombies: that ended, and were not waited for. */
static int count_children(pid_t pid, int *zombies)
{
    HW_AUTO_FREE char *list = children_of(pid);
    char *next = list;
    int count = 0;

    *zombies = 0;
    for (long child; (child = strtol(next, &next, 10)) > 0; count++) {
        HW_AUTO_FREE char *path = hw_sprintf("/proc/%ld/stat", child);
        HW_AUTO_FREE char *stat = test_read_file(path);
        const char *behind_name = strrchr(stat, ')');

        *zombies += behind_name != NULL && behind_name[2] == 'Z';
    }
    return count;
}

static void apply_all(void)
{
    for (int revision = 1; revision <= REVISIONS; revision++) {
        HW_AUTO_FREE char *content = hw_sprintf("{\"rate_hz\": %d}", revision);

        upstream_desire(&a.up, NODE, revision, content);
        upstream_expect_applied(&a.up, NODE, revision);
    }
}

static bool has_only_living_children(pid_t pid, int count)
{
    int zombies;

    return count_children(pid, &zombies) == count && zombies == 0;
}

START_TEST(test_as_process_one)
{
    agent_program_open(&a, NODE);
    start_agent(space());
    HW_AUTO_FREE char *child = children_of(a.program.pid);
    const pid_t agent = (pid_t)strtol(child, NULL, 10);

    ck_assert_int_gt(agent, 0);
    apply_all();
    test_wait_for(has_only_living_children(agent, REVISIONS + DRAINS), WAIT_S);
    kill(agent, SIGTERM);
    ck_assert_int_eq(test_program_stop(&a.program, 0), 0);
    agent_program_close(&a);
}
END_TEST

/* By exec a shell hands on what it has in the background, too. */
START_TEST(test_behind_a_shell)
{
    agent_program_open(&a, NODE);
    start_agent("true & sleep 0.5 & sleep 600 & exec \"$@\"");
    apply_all();
    test_wait_for(has_only_living_children(a.program.pid, 1 + DRAINS), WAIT_S);
    agent_program_close(&a);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_behind_a_shell, test_as_process_one};
    const bool spaces =
        test_program_run((const char *const[]){"sh", "-c", space(), "sh", "true", NULL}, NULL, NULL,
                         NULL) == 0;
    Suite *suite = suite_create("agent first");

    test_suite_add(suite, 120, NULL, NULL, tests, spaces ? 2 : 1);
    const int status = test_suite_finish(suite);

    if (status == EXIT_SUCCESS && !spaces) {
        puts("skipped: the agent as process 1, as no process namespace may be made here");
        return 77;
    }
    return status;
}
