#include "cli/editor.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { TEXT_MOST = 64 << 20 };

/* ---- told to end ---- */

/* The only data that a signal handler may look at: the name of the file, in a buffer of its own. */
static char kept[4096];
static volatile sig_atomic_t child; /* the editor, while it runs */

static void on_end(int signo)
{
    if (child > 0)
        kill(child, signo);
    if (write(STDERR_FILENO, kept, strlen(kept)) < 0)
        _exit(128 + signo);
    signal(signo, SIG_DFL);
    raise(signo);
}

/* Tells the handler the path of the file; NULL: there is none any more. */
static void guard(const char *path)
{
    static const int ends[] = {SIGTERM, SIGHUP, SIGINT};
    struct sigaction action = {.sa_handler = SIG_DFL};

    if (path != NULL) {
        action = (struct sigaction){.sa_handler = on_end, .sa_flags = SA_RESTART | SA_NODEFER};
        snprintf(kept, sizeof(kept), "\nheadwater: ended by a signal; what you typed is in %s\n",
                 path);
    }
    for (size_t i = 0; i < HW_COUNT(ends); i++)
        sigaction(ends[i], &action, NULL);
}

/* ---- the editor ---- */

static const char *environment(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : NULL;
}

static enum hw_status find_editor(char **command, struct hw_error *err)
{
    const char *wished = environment("VISUAL");

    if (wished == NULL)
        wished = environment("EDITOR");
    if (wished == NULL && system("command -v vi >/dev/null 2>&1") != 0)
        return hw_fail(err, HW_EINVAL,
                       "there is no editor: name one in VISUAL or EDITOR, such as EDITOR=nano");
    *command = hw_strdup(wished != NULL ? wished : "vi");
    return HW_OK;
}

static enum hw_status make_file(const char *name, const char *text, size_t len,
                                struct cli_editor *editor, struct hw_error *err)
{
    const char *temporary = environment("TMPDIR");

    editor->directory = hw_sprintf("%s/headwater-edit-XXXXXX",
                                   temporary != NULL && *temporary == '/' ? temporary : "/tmp");
    if (mkdtemp(editor->directory) == NULL)
        return hw_fail_errno(err, "making the directory %s", editor->directory);
    editor->path = hw_sprintf("%s/%s", editor->directory, name);
    return hw_file_replace(editor->path, text, len, 0600, err);
}

enum hw_status cli_editor_open(const char *name, const char *text, size_t len,
                               struct cli_editor *editor, struct hw_error *err)
{
    struct cli_editor made = {0};
    enum hw_status st = find_editor(&made.command, err);

    if (st == HW_OK)
        st = make_file(name, text, len, &made, err);
    if (st != HW_OK) {
        cli_editor_close(&made, false);
        return st;
    }
    guard(made.path);
    *editor = made;
    return HW_OK;
}

/* While the editor runs, ^C and ^\ are meant for it. */
static enum hw_status run_command(const struct cli_editor *editor, int *status,
                                  struct hw_error *err)
{
    extern char **environ;
    HW_AUTO_FREE char *script = hw_sprintf("%s \"$1\"", editor->command);
    const char *const argv[] = {"sh", "-c", script, "sh", editor->path, NULL};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before[2];
    posix_spawnattr_t attributes;
    sigset_t usual; /* what we ignore, and the editor may not */
    pid_t pid;

    sigemptyset(&usual);
    sigaddset(&usual, SIGINT);
    sigaddset(&usual, SIGQUIT);
    sigaddset(&usual, SIGPIPE);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    sigaction(SIGINT, &ignore, &before[0]);
    sigaction(SIGQUIT, &ignore, &before[1]);
    const int failed =
        posix_spawn(&pid, "/bin/sh", NULL, &attributes, (char *const *)(uintptr_t)argv, environ);
    posix_spawnattr_destroy(&attributes);
    if (failed == 0) {
        child = pid;
        while (waitpid(pid, status, 0) < 0 && errno == EINTR)
            ;
        child = 0;
    }
    sigaction(SIGINT, &before[0], NULL);
    sigaction(SIGQUIT, &before[1], NULL);
    errno = failed;
    return failed == 0 ? HW_OK : hw_fail_errno(err, "starting %s", editor->command);
}

enum hw_status cli_editor_run(const struct cli_editor *editor, char **text, size_t *len,
                              struct hw_error *err)
{
    int status = 0;
    const enum hw_status st = run_command(editor, &status, err);

    if (st != HW_OK)
        return st;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return hw_fail(err, HW_EINVAL, "the editor (%s) ended with %s %d: nothing is sent",
                       editor->command, WIFEXITED(status) ? "status" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    return hw_file_read(editor->path, TEXT_MOST, text, len, err);
}

void cli_editor_close(struct cli_editor *editor, bool keep)
{
    guard(NULL);
    if (!keep && editor->path != NULL)
        unlink(editor->path);
    if (!keep && editor->directory != NULL)
        rmdir(editor->directory);
    free(editor->command);
    free(editor->directory);
    free(editor->path);
    *editor = (struct cli_editor){0};
}
