#include "tests/support/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/servers.h"

#define MAX_CHILDREN 64
#define STOP_S       5 /* which our programs promise */
#define RUN_S        120

static char base_dir[64];
static pid_t main_pid; /* of the test program, as opposed to the forks that run single tests */
static pid_t keeper_pid;
static int keeper_pipe;

/* The children of this very process: a fork starts with none. */
static struct {
    pid_t owner;
    int count;
    struct {
        pid_t pid;
        int death_signal;
        char output[160];
    } child[MAX_CHILDREN];
} mine;

/* ---- failing ----------------------------------------------------------------------------------
 */

static void kill_mine(void);
static void end_orphans(void);

void test_print_tail(const char *path)
{
    char *text = test_read_file(path);
    const char *from = text + strlen(text);
    for (int lines = 0; from > text && (from[-1] != '\n' || lines++ < 20); from--)
        continue;
    if (*from != '\0')
        fprintf(stderr, "---- the end of %s:\n%s----\n", path, from);
    free(text);
}

/* Not by exit: a leak report would only bury the message. */
static void __attribute__((noreturn)) give_up(void)
{
    if (mine.owner == getpid())
        for (int i = 0; i < mine.count; i++)
            test_print_tail(mine.child[i].output);
    fflush(NULL);
    kill_mine();
    end_orphans();
    _exit(1);
}

void test_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("test: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    give_up();
}

void test_fail_at(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    give_up();
}

/* ---- time -------------------------------------------------------------------------------------
 */

double test_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void test_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

/* ---- the temporary directory and its keeper -----------------------------------------------------
 */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    remove(path);
    return 0;
}

void test_remove_tree(const char *path)
{
    /* A server that is just dying may still create a file. */
    for (const double until = test_deadline(10); access(path, F_OK) == 0 && test_now() < until;
         test_pause())
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void __attribute__((noreturn)) keeper(int pipe_end)
{
    setsid();
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    signal(SIGHUP, SIG_IGN);
    prctl(PR_SET_NAME, "test-keeper");
    const int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    char byte;
    while (read(pipe_end, &byte, 1) < 0 && errno == EINTR)
        continue;
    test_remove_tree(base_dir);
    _exit(0);
}

static void clean_up(void)
{
    kill_mine();
    if (getpid() != main_pid)
        return;
    if (write(keeper_pipe, "", 1) == 1)
        test_reap(keeper_pid, 15, NULL);
    end_orphans();
}

/* A test that Check forked must not outlive a killed test program. */
static void in_fork(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Before main, so that tests that Check forks share one directory and one keeper. */
static void __attribute__((constructor)) set_up(void)
{
    extern char **environ;
    for (char **entry = environ; *entry != NULL;) {
        char name[64] = "";
        sscanf(*entry, "%63[^=]", name);
        /* What a developer's shell has set must not steer a test; HW_BUILD_DIR stays. */
        if (strncmp(name, "HEADWATER_", 10) == 0 || strncmp(name, "PG", 2) == 0) {
            unsetenv(name);
            entry = environ;
        } else {
            entry++;
        }
    }
    setenv("SHELL", "/bin/sh", 1); /* script(1) runs it; a service's user may have none */
    const char *tmp = getenv("TMPDIR");
    snprintf(base_dir, sizeof(base_dir), "%s/headwater-test-XXXXXX",
             tmp != NULL && *tmp == '/' && strlen(tmp) < 32 ? tmp : "/tmp");
    int ends[2];
    if (mkdtemp(base_dir) == NULL || chmod(base_dir, 0711) != 0 || pipe2(ends, O_CLOEXEC) != 0) {
        perror(base_dir);
        _exit(1);
    }
    /* What the command line remembers is not for the home of whom runs the tests. */
    setenv("XDG_STATE_HOME", base_dir, 1);
    setenv("XDG_CONFIG_HOME", base_dir, 1);
    char path[4096]; /* where Debian puts nats-server, and the PATH of ordinary users has not */
    snprintf(path, sizeof(path), "%s:/usr/sbin",
             getenv("PATH") != NULL ? getenv("PATH") : "/usr/bin");
    setenv("PATH", path, 1);

    main_pid = getpid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    keeper_pid = fork();
    if (keeper_pid == 0) {
        close(ends[1]);
        keeper(ends[0]);
    }
    close(ends[0]);
    keeper_pipe = ends[1];
    pthread_atfork(NULL, NULL, in_fork);
    atexit(clean_up);
}

const char *test_base_dir(void)
{
    return base_dir;
}

void test_new_path(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s/%s-%06x", base_dir, name, arc4random() & 0xffffff);
    if (access(path, F_OK) == 0)
        test_new_path(path, size, name);
}

char *test_temp_dir(void)
{
    char path[128];
    test_new_path(path, sizeof(path), "tmp");
    if (mkdir(path, 0755) != 0)
        test_fail("cannot make the directory %s: %s", path, strerror(errno));
    return strdup(path);
}

long test_own_kib(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    char *text = test_read_file(path);
    /* In pages: all of them, the resident ones, and those of the latter that are of files: none yet
     * in a process that is just being started. */
    char *at = text, *end;
    (void)strtol(at, &at, 10);
    const long resident = strtol(at, &at, 10);
    const long of_files = strtol(at, &end, 10);
    if (resident < of_files || end == at)
        test_fail("%s is not as expected: %s", path, text);
    free(text);
    return (resident - of_files) * sysconf(_SC_PAGESIZE) / 1024;
}

char *test_read_file(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *copy = open_memstream(&text, &size);
    FILE *file = fopen(path, "re");
    char block[8192];
    for (size_t n; file != NULL && (n = fread(block, 1, sizeof(block), file)) > 0;)
        fwrite(block, 1, n, copy);
    if (file != NULL)
        fclose(file);
    fclose(copy);
    return text;
}

/* ---- children -----------------------------------------------------------------------------------
 */

static void __attribute__((noreturn))
become(const struct test_child *child, pid_t parent, int input)
{
    setpgid(0, 0);
    const int output = open(child->output, O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(input, 0);
    dup2(output, 1);
    dup2(output, 2);
    if (child->as_postgres && geteuid() == 0) {
        const struct passwd *user = getpwnam("postgres");
        if (user == NULL || initgroups(user->pw_name, user->pw_gid) != 0 ||
            setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0) {
            fputs("cannot become the user postgres\n", stderr);
            _exit(127);
        }
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    /* Behind setuid, which clears it. */
    prctl(PR_SET_PDEATHSIG, child->death_signal);
    if (getppid() != parent)
        _exit(127);
    for (const char *const *entry = child->env; entry != NULL && *entry != NULL; entry++)
        putenv((char *)(uintptr_t)*entry);
    execvp(child->argv[0], (char *const *)(uintptr_t)child->argv);
    fprintf(stderr, "cannot run %s: %s\n", child->argv[0], strerror(errno));
    _exit(127);
}

pid_t test_spawn(const struct test_child *child)
{
    const pid_t self = getpid();
    if (mine.owner != self) {
        mine.owner = self;
        mine.count = 0;
    }
    if (mine.count == MAX_CHILDREN)
        test_fail("more than %d children at once", MAX_CHILDREN);
    int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (child->input != NULL) {
        FILE *file = tmpfile();
        if (file == NULL || fputs(child->input, file) < 0 || fflush(file) != 0)
            test_fail("cannot write a temporary file: %s", strerror(errno));
        close(input);
        input = fcntl(fileno(file), F_DUPFD_CLOEXEC, 3);
        fclose(file);
        lseek(input, 0, SEEK_SET);
    }
    fflush(NULL);
    /* A signal that comes before exec must not meet a handler of ours (Check's ends its group). */
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    const pid_t pid = fork();
    if (pid == 0) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        signal(SIGHUP, SIG_DFL); /* the tests may run under nohup */
        sigprocmask(SIG_SETMASK, &before, NULL);
        become(child, self, input);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(input);
    if (pid < 0)
        test_fail("cannot fork: %s", strerror(errno));
    setpgid(pid, pid);
    mine.child[mine.count].pid = pid;
    mine.child[mine.count].death_signal = child->death_signal;
    snprintf(mine.child[mine.count].output, sizeof(mine.child[0].output), "%s", child->output);
    mine.count++;
    return pid;
}

bool test_reap(pid_t pid, double timeout_s, int *status)
{
    /* A descriptor tells the end of processes that are no children of ours, too: a test in a fork
     * stops what the fixture of the program started. */
    const int fd = pidfd_open(pid, 0);
    if (fd >= 0) {
        struct pollfd poller = {.fd = fd, .events = POLLIN};
        const double until = test_deadline(timeout_s);
        int ready;
        do {
            const double left = until - test_now();
            ready = poll(&poller, 1, left > 0 ? (int)(left * 1000) + 1 : 0);
        } while (ready < 0 && errno == EINTR);
        close(fd);
        if (ready == 0)
            return false;
    }
    int code = -1;
    if (waitpid(pid, &code, WNOHANG) != pid)
        code = -1;
    if (status != NULL)
        *status = code;
    for (int i = 0; mine.owner == getpid() && i < mine.count; i++)
        if (mine.child[i].pid == pid)
            mine.child[i--] = mine.child[--mine.count];
    return true;
}

static void kill_mine(void)
{
    if (mine.owner != getpid())
        return;
    for (int i = 0; i < mine.count; i++)
        kill(mine.child[i].pid, mine.child[i].death_signal);
    while (mine.count > 0) {
        const pid_t pid = mine.child[mine.count - 1].pid;
        if (!test_reap(pid, 5, NULL)) {
            kill(pid, SIGKILL);
            test_reap(pid, 5, NULL);
        }
    }
}

/* Kills what was left to this process as the reaper of all that was started below it. */
static void end_orphans(void)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    if (getpid() != main_pid)
        return;
    for (const double until = test_deadline(10); test_now() < until; test_pause()) {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
        char *children = test_read_file(path), *next = children;
        const bool none = *children == '\0';
        for (pid_t pid; (pid = (pid_t)strtol(next, &next, 10)) > 0;)
            if (pid != keeper_pid)
                kill(pid, SIGKILL);
        free(children);
        if (none)
            return;
    }
}

/* ---- programs -----------------------------------------------------------------------------------
 */

/* A child's argv with argv[0] as the path of a program of ours, where it holds no slash and there
 * is such a program. */
static void resolve(const char *const argv[], char *path, size_t size, const char **resolved,
                    size_t max)
{
    size_t count = 0;
    while (argv[count] != NULL)
        count++;
    if (count == 0 || count >= max)
        test_fail("a program with %zu arguments", count);
    memcpy(resolved, argv, (count + 1) * sizeof(*argv));
    if (strchr(argv[0], '/') != NULL)
        return;
    const char *build = getenv("HW_BUILD_DIR");
    snprintf(path, size, "%s/%s", build != NULL ? build : "build", argv[0]);
    if (access(path, X_OK) == 0)
        resolved[0] = path;
}

static void check_sanitizers(const char *log)
{
    static const char *const signs[] = {"ERROR: AddressSanitizer", "ERROR: LeakSanitizer",
                                        "WARNING: ThreadSanitizer", "runtime error:"};
    char *text = test_read_file(log);
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        if (strstr(text, signs[i]) != NULL)
            test_fail("a sanitizer's report:\n%s", text);
    free(text);
}

void test_program_start(struct test_program *p, const char *const argv[], const char *const env[])
{
    char path[512];
    const char *resolved[64];
    resolve(argv, path, sizeof(path), resolved, 64);
    const char *slash = strrchr(argv[0], '/');
    test_new_path(p->log, sizeof(p->log), slash != NULL ? slash + 1 : argv[0]);
    p->pid = test_spawn(&(struct test_child){
        .argv = resolved, .env = env, .output = p->log, .death_signal = SIGKILL});
}

int test_program_stop(struct test_program *p, int signo)
{
    int status;
    if (signo != 0)
        kill(p->pid, signo);
    if (!test_reap(p->pid, STOP_S, &status)) {
        kill(p->pid, SIGKILL);
        test_fail("%s did not end within %g s of signal %d", p->log, STOP_S * test_patience(),
                  signo);
    }
    if (status == -1)
        test_fail("%s was started by another process, which alone learns how it ended", p->log);
    check_sanitizers(p->log);
    p->pid = 0;
    return status;
}

bool test_program_running(struct test_program *p)
{
    const int fd = p->pid > 0 ? pidfd_open(p->pid, 0) : -1;
    if (fd < 0)
        return false;
    const int ended = poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0);
    close(fd);
    return ended == 0;
}

/* See proc_pid_status(5): blocked signals are those that a signalfd delivers. */
bool test_program_heeds(struct test_program *p, int signo)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", p->pid);
    char *status = test_read_file(path);
    unsigned long long signals = 0;
    static const char *const masks[] = {"\nSigBlk:", "\nSigCgt:"};

    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        const char *mask = strstr(status, masks[i]);
        if (mask != NULL)
            signals |= strtoull(mask + strlen(masks[i]), NULL, 16);
    }
    free(status);
    return (signals >> (signo - 1) & 1) != 0;
}

int test_program_run(const char *const argv[], const char *const env[], const char *input,
                     char **output)
{
    char path[512], log[160];
    const char *resolved[64];
    resolve(argv, path, sizeof(path), resolved, 64);
    test_new_path(log, sizeof(log), "run");
    const pid_t pid = test_spawn(&(struct test_child){
        .argv = resolved, .env = env, .input = input, .output = log, .death_signal = SIGKILL});
    int status;
    if (!test_reap(pid, RUN_S, &status)) {
        kill(pid, SIGKILL);
        test_fail("%s did not end within %g s", argv[0], RUN_S * test_patience());
    }
    check_sanitizers(log);
    if (output != NULL)
        *output = test_read_file(log);
    unlink(log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- ports --------------------------------------------------------------------------------------
 */

int test_free_port(void)
{
    /* Below the range that the system takes ports of outgoing connections from, so that a server
     * that is down for a moment finds its port free when it comes back. */
    char *range = test_read_file("/proc/sys/net/ipv4/ip_local_port_range");
    long low = strtol(range, NULL, 10);
    free(range);
    if (low < 12000)
        low = 32768;
    for (int attempt = 0; attempt < 1000; attempt++) {
        const int port = 10240 + (int)arc4random_uniform((uint32_t)(low - 10240));
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const struct sockaddr_in address = {.sin_family = AF_INET,
                                            .sin_port = htons((uint16_t)port),
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        const int bound = bind(fd, (const struct sockaddr *)&address, sizeof(address));
        close(fd);
        if (bound == 0)
            return port;
    }
    test_fail("no free port on 127.0.0.1");
}
