#include "tests/support/agent_program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "tests/support/process.h"

void agent_program_open_without_buckets(struct agent_program *a, const char *node)
{
    HW_AUTO_FREE char *out = NULL;

    *a = (struct agent_program){.node = node};
    upstream_open_without_buckets(&a->up);
    a->dir = test_temp_dir();
    out = hw_sprintf("%s/out", a->dir);
    if (mkdir(out, 0755) != 0)
        test_fail("cannot make %s", out);
    a->state_dir = hw_sprintf("%s/state", a->dir);
    a->output = hw_sprintf("%s/output.conf", out);
    a->runs = hw_sprintf("%s/runs", a->dir);
}

void agent_program_open(struct agent_program *a, const char *node)
{
    agent_program_open_without_buckets(a, node);
    upstream_make_buckets(&a->up);
}

void agent_program_close(struct agent_program *a)
{
    if (a->program.pid != 0)
        agent_program_stop(a);
    upstream_close(&a->up);
    free(a->dir);
    free(a->state_dir);
    free(a->output);
    free(a->runs);
}

void agent_program_write(const char *path, const char *content)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

    if (fd < 0 || write(fd, content, strlen(content)) != (ssize_t)strlen(content))
        test_fail("cannot write %s", path);
    close(fd);
}

char *agent_program_script(struct agent_program *a, const char *name, const char *body)
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/%s.sh", a->dir, name);
    HW_AUTO_FREE char *text =
        hw_sprintf("echo \"%s $HEADWATER_REVISION $(cat \"$HEADWATER_FILE\")\" >> '%s'\n%s\n", name,
                   a->runs, body);

    agent_program_write(path, text);
    return hw_sprintf("sh '%s'", path);
}

void agent_program_start(struct agent_program *a, const char *const options[],
                         const char *const env[])
{
    const char *argv[40] = {"headwater-agent", "--nats",     a->up.server.url, "--node", a->node,
                            "--state-dir",     a->state_dir, "--log-level",    "debug"};
    size_t count = 9;

    for (; *options != NULL; options++)
        argv[count++] = *options;
    test_program_start(&a->program, argv, env);
}

void agent_program_stop(struct agent_program *a)
{
    const int status = test_program_stop(&a->program, SIGTERM);

    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        test_fail("the agent ended with %x", (unsigned)status);
}

void agent_program_kill(struct agent_program *a)
{
    if (!WIFSIGNALED(test_program_stop(&a->program, SIGKILL)))
        test_fail("the agent had ended by itself");
}

int agent_program_command(struct agent_program *a, const char *const words[], char **said)
{
    const char *argv[16] = {"headwater-agent", "--state-dir", a->state_dir, "--node", a->node};
    size_t count = 5;

    for (; *words != NULL; words++)
        argv[count++] = *words;
    return test_program_run(argv, NULL, NULL, said);
}

bool agent_program_file_is(const char *path, const char *content)
{
    HW_AUTO_FREE char *text = test_read_file(path);

    return strcmp(text, content) == 0;
}

void agent_program_wait_file(struct agent_program *a, const char *path, const char *content)
{
    for (const double until = test_deadline(UPSTREAM_WAIT_S);
         !agent_program_file_is(path, content);) {
        if (test_now() > until)
            test_fail("%s is:\n%s\ninstead of:\n%s", path, test_read_file(path), content);
        upstream_turn(&a->up, 10);
    }
}

void agent_program_wait_runs(struct agent_program *a, const char *content)
{
    agent_program_wait_file(a, a->runs, content);
}

void agent_program_wait_log(struct agent_program *a, const char *text)
{
    for (const double until = test_deadline(UPSTREAM_WAIT_S);;) {
        HW_AUTO_FREE char *log = test_read_file(a->program.log);

        if (strstr(log, text) != NULL)
            return;
        if (test_now() > until)
            test_fail("the log does not say: %s", text);
        upstream_turn(&a->up, 10);
    }
}
