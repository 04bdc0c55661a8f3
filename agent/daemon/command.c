#include "agent/daemon/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/daemon/drain.h"
#include "agent/disk/document.h"
#include "base/memory.h"

struct agent_command {
    struct hw_loop *loop;
    pid_t pid; /* also the id of its process group */
    int pidfd;
    int output; /* our end of the pipe */
    struct hw_io *exit_io, *output_io;
    struct hw_timer timer;
    int64_t timeout_ms;
    bool timed_out;
    char *name;
    char *record;
    char tail[2 * AGENT_COMMAND_TAIL]; /* the last half counts */
    size_t tail_len;
    bool tail_cut; /* output was dropped before it */
    agent_command_fn *done;
    void *arg;
};

/* ---- the record of a running command ---- */

#define RECORD_MAX 128

static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    bool read = false;

    if (file == NULL)
        return false;
    read = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return read;
}

/* The record that tells a process from every other one that ever ran: its id, its start time in
 * ticks since the boot (proc(5)), and the boot. */
static bool identify(pid_t pid, char out[static RECORD_MAX])
{
    char path[64], boot[64], stat[1024];
    char *start;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (!read_line(path, stat, sizeof(stat)) ||
        !read_line("/proc/sys/kernel/random/boot_id", boot, sizeof(boot)))
        return false;
    /* The second field of the line is the program's name in parentheses, which may contain
     * anything, also parentheses. The start time is the 22nd field. */
    start = strrchr(stat, ')');
    for (int field = 2; start != NULL && field < 22; field++)
        start = strchr(start + 1, ' ');
    if (start == NULL)
        return false;
    snprintf(out, RECORD_MAX, "%d %.*s %.36s\n", (int)pid, (int)strcspn(start + 1, " "), start + 1,
             boot);
    return true;
}

/* It is not synced to the disk, because it means nothing after a reboot. */
static void write_record(const char *path, pid_t pid)
{
    char record[RECORD_MAX];
    FILE *file;

    if (path == NULL || !identify(pid, record))
        return;
    file = fopen(path, "we");
    if (file == NULL)
        return;
    fputs(record, file);
    fclose(file);
}

/* Ends a process group. The leader need not be a child of this process. */
static void end_group(pid_t group, int pidfd)
{
    struct pollfd leader = {.fd = pidfd, .events = POLLIN};

    kill(-group, SIGTERM);
    while (poll(&leader, 1, AGENT_COMMAND_GRACE) < 0 && errno == EINTR)
        continue;
    kill(-group, SIGKILL);
}

bool agent_command_reap(const char *path)
{
    char record[RECORD_MAX], now[RECORD_MAX];
    bool found = false;
    pid_t pid;
    int pidfd;

    if (!read_line(path, record, sizeof(record)))
        return false;
    pid = (pid_t)strtol(record, NULL, 10);
    pidfd = pid > 1 ? pidfd_open(pid, 0) : -1;
    if (pidfd >= 0) {
        found = identify(pid, now) && strcmp(record, now) == 0;
        if (found)
            end_group(pid, pidfd);
        close(pidfd);
    }
    unlink(path);
    return found;
}

/* ---- running ---- */

static void keep_tail(struct agent_command *c, const char *bytes, size_t len)
{
    const size_t half = AGENT_COMMAND_TAIL;

    c->tail_cut |= len > half || c->tail_len + len > sizeof(c->tail);
    if (len > half) {
        bytes += len - half;
        len = half;
    }
    if (c->tail_len + len > sizeof(c->tail)) {
        memmove(c->tail, c->tail + c->tail_len - half, half);
        c->tail_len = half;
    }
    memcpy(c->tail + c->tail_len, bytes, len);
    c->tail_len += len;
}

/* Reads a bounded amount of output; false at its end. */
static bool read_output(struct agent_command *c)
{
    char bytes[16384];

    for (int i = 0; i < 16; i++) {
        const ssize_t n = read(c->output, bytes, sizeof(bytes));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        keep_tail(c, bytes, (size_t)n);
    }
    return true;
}

static void on_output(void *arg, short revents)
{
    struct agent_command *c = arg;

    (void)revents;
    if (read_output(c))
        return;
    hw_io_remove(c->output_io);
    c->output_io = NULL;
}

static void release(struct agent_command *c)
{
    hw_timer_stop(&c->timer);
    hw_io_remove(c->exit_io);
    hw_io_remove(c->output_io);
    close(c->pidfd);
    agent_drain(c->output);
    if (c->record != NULL)
        unlink(c->record);
    free(c->record);
    free(c->name);
    free(c);
}

static void describe(const struct agent_command *c, const siginfo_t *end, char *text, size_t size)
{
    const size_t from = c->tail_len > AGENT_COMMAND_TAIL ? c->tail_len - AGENT_COMMAND_TAIL : 0;
    size_t start = from, len = c->tail_len;
    char tail[AGENT_COMMAND_TAIL + 1];

    text[0] = '\0';
    if (c->timed_out)
        snprintf(text, size, "%s did not end within %g s and was stopped", c->name,
                 (double)c->timeout_ms / 1000);
    else if (end->si_code != CLD_EXITED)
        snprintf(text, size, "%s was ended by signal %d (%s)", c->name, end->si_status,
                 strsignal(end->si_status));
    else if (end->si_status != 0)
        snprintf(text, size, "%s exited with status %d", c->name, end->si_status);
    if (text[0] == '\0')
        return;

    /* A text that was cut must not begin in the middle of a character. */
    while ((from > 0 || c->tail_cut) && start < len && (c->tail[start] & 0xC0) == 0x80)
        start++;
    while (len > start && strchr(" \t\r\n", c->tail[len - 1]) != NULL)
        len--;
    agent_text_clean(tail, sizeof(tail), c->tail + start, len - start);
    if (tail[0] != '\0') {
        const size_t used = strlen(text);

        snprintf(text + used, size - used, ": %s", tail);
    }
}

static void on_exit_of(void *arg, short revents)
{
    struct agent_command *c = arg;
    agent_command_fn *const done = c->done;
    void *const done_arg = c->arg;
    char error[AGENT_COMMAND_TAIL + 256];
    siginfo_t end = {0};

    (void)revents;
    (void)read_output(c);
    /* As long as nobody has waited for the leader, the group's id belongs to no one else. */
    if (c->timed_out)
        kill(-c->pid, SIGKILL);
    if (waitid(P_PIDFD, (id_t)c->pidfd, &end, WEXITED | WNOHANG) != 0 || end.si_pid == 0)
        return;
    describe(c, &end, error, sizeof(error));
    release(c);
    done(done_arg, error);
}

static void on_timer(void *arg)
{
    struct agent_command *c = arg;

    kill(-c->pid, c->timed_out ? SIGKILL : SIGTERM);
    if (c->timed_out)
        return;
    c->timed_out = true;
    hw_timer_start(c->loop, &c->timer, AGENT_COMMAND_GRACE, on_timer, c);
}

static int spawn(const struct agent_command_spec *spec, int output, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, output, 1);
    posix_spawn_file_actions_adddup2(&files, output, 2);
    posix_spawn_file_actions_addclosefrom_np(&files,
                                             3); /* closes the sockets of libraries as well */
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    rc = posix_spawnp(pid, spec->argv[0], &files, &attributes, spec->argv, spec->env);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

enum hw_status agent_command_start(struct hw_loop *loop, const struct agent_command_spec *spec,
                                   agent_command_fn *done, void *arg, struct agent_command **out,
                                   struct hw_error *err)
{
    struct agent_command *c;
    int ends[2], rc, pidfd;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return hw_fail_errno(err, "making a pipe for %s", spec->argv[0]);
    rc = spawn(spec, ends[1], &pid);
    close(ends[1]);
    if (rc != 0) {
        close(ends[0]);
        errno = rc;
        return rc != ENOENT ? hw_fail_errno(err, "starting %s", spec->argv[0])
                            : hw_fail(err, HW_ENOENT,
                                      "starting %s: there is no such program on this node, or the "
                                      "interpreter that its first line names is not there",
                                      spec->argv[0]);
    }
    pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        hw_fail_errno(err, "watching %s", spec->argv[0]);
        kill(-pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(ends[0]);
        return HW_EIO;
    }
    fcntl(ends[0], F_SETFL,
          O_NONBLOCK); /* this end only: the command's end is another file description */

    c = hw_alloc(sizeof(*c));
    *c = (struct agent_command){.loop = loop,
                                .pid = pid,
                                .pidfd = pidfd,
                                .output = ends[0],
                                .timeout_ms = spec->timeout_ms,
                                .name = hw_strdup(spec->argv[0]),
                                .record = spec->record != NULL ? hw_strdup(spec->record) : NULL,
                                .done = done,
                                .arg = arg};
    write_record(c->record, pid);
    c->exit_io = hw_io_add(loop, pidfd, POLLIN, on_exit_of, c);
    c->output_io = hw_io_add(loop, c->output, POLLIN, on_output, c);
    hw_timer_start(loop, &c->timer, spec->timeout_ms, on_timer, c);
    *out = c;
    return HW_OK;
}

void agent_orphans_reap(const struct agent_command *running)
{
    siginfo_t end = {0};

    /* waitid only looks at the child (WNOWAIT). The end of the running command is taken by way of
     * its own descriptor. Until then it hides the other children behind it. */
    while (waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) == 0 && end.si_pid != 0 &&
           (running == NULL || end.si_pid != running->pid)) {
        waitpid(end.si_pid, NULL, WNOHANG);
        end.si_pid = 0;
    }
}

void agent_command_end(struct agent_command *c)
{
    if (c == NULL)
        return;
    end_group(c->pid, c->pidfd);
    waitpid(c->pid, NULL, 0);
    release(c);
}
