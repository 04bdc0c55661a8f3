/* Splitting command lines, and running real commands on a loop. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/daemon/command.h"
#include "agent/daemon/words.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static struct hw_error err;

/* ---- words ----------------------------------------------------------------------------------- */

START_TEST(test_words)
{
    static const struct {
        const char *line;
        const char *words[6];
    } cases[] = {
        {"reload", {"reload"}},
        {"  systemctl\treload  daq\n", {"systemctl", "reload", "daq"}},
        {"sh -c 'a \"b\" \\n $HOME'", {"sh", "-c", "a \"b\" \\n $HOME"}},
        {"a \"b 'c' \\\"d\\\" \\\\ \\n\"", {"a", "b 'c' \"d\" \\ \\n"}},
        {"a b\\ c \\'d\\\\", {"a", "b c", "'d\\"}},
        {"a'b c'\"d e\"f", {"ab cd ef"}},
        {"a '' \"\"", {"a", "", ""}},
        {"a $(b) | c > d", {"a", "$(b)", "|", "c", ">", "d"}},
        {"x", {"x"}},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        char **words;
        ck_assert_msg(agent_words_split(cases[i].line, &words, &err) == HW_OK, "%s", err.message);
        for (size_t j = 0; j < HW_COUNT(cases[i].words); j++) {
            if (cases[i].words[j] == NULL) {
                ck_assert_ptr_null(words[j]);
                break;
            }
            ck_assert_str_eq(words[j], cases[i].words[j]);
        }
        free(words);
    }
}
END_TEST

START_TEST(test_words_refused)
{
    static const char *const lines[] = {"",        "  ",  "''", "a 'b", "a \"b",
                                        "a \"b\\", "a\\", "'",  "\\"};
    for (size_t i = 0; i < HW_COUNT(lines); i++) {
        char **words = NULL;
        ck_assert_int_eq(agent_words_split(lines[i], &words, &err), HW_EINVAL);
        ck_assert_ptr_null(words);
    }
}
END_TEST

/* The words that tell what to do, and none of it where quotes or a shell take care of it. */
START_TEST(test_shell_syntax)
{
    static const char *const shell[][2] = {
        {"cp a b && reload", "&&"},
        {"a||b", "||"},
        {"reload || true", "||"},
        {"reload | logger", "|"},
        {"reload; true", ";"},
        {"reload ;", ";"},
        {"reload &", "&"},
        {"reload > /dev/null", ">"},
        {"reload >/dev/null 2>&1", ">"},
        {"reload 2>&1", "2>"},
        {"reload &>log", "&>"},
        {"sort <in", "<"},
        {"cp $HEADWATER_FILE /etc/daq.json", "$HEADWATER_FILE"},
        {"cp ${HEADWATER_FILE} x", "${"},
        {"kill $(cat pid)", "$("},
        {"kill `cat pid`", "`"},
        {"~/bin/reload", "~/"},
        {"'a b' c\\ d $X", "$X"},
    };
    static const char *const fine[] = {
        "reload",
        "sh -c 'cp \"$HEADWATER_FILE\" x && reload > log 2>&1'",
        "sh -c \"kill $(cat pid); reload\"",
        "find . -exec echo '{}' ';'",
        "find . -exec echo {} \\;",
        "curl http://host/reload?a=1&b=2",
        "grep -q ^x$ file",
        "awk '{print $1}' file",
        "a --set=x=y",
        "grep a|b file",
        "a~/b",
    };
    for (size_t i = 0; i < HW_COUNT(shell); i++) {
        const char *glob = NULL;
        HW_AUTO_FREE char *named = hw_sprintf("so %s is nothing but text", shell[i][1]);
        ck_assert_int_eq(agent_words_check(shell[i][0], &glob, &err), HW_EINVAL);
        ck_assert_msg(strstr(err.message, named) != NULL, "%s: %s", shell[i][0], err.message);
        ck_assert_ptr_nonnull(strstr(err.message, "sh -c '"));
    }
    for (size_t i = 0; i < HW_COUNT(fine); i++) {
        const char *glob = NULL;
        ck_assert_msg(agent_words_check(fine[i], &glob, &err) == HW_OK, "%s: %s", fine[i],
                      err.message);
        ck_assert_ptr_null(glob);
    }

    const char *glob = NULL;
    ck_assert_int_eq(agent_words_check(" LANG=C reload", &glob, &err), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "env LANG="));
    ck_assert_int_eq(agent_words_check("cat /etc/daq.d/*.json", &glob, &err), HW_OK);
    ck_assert_str_eq(glob, "*.json");
}
END_TEST

/* ---- running --------------------------------------------------------------------------------- */

static struct hw_loop *loop;
static char result[4096];
static bool done;

static void on_done(void *arg, const char *error)
{
    ck_assert_ptr_eq(arg, result);
    ck_assert(!done);
    snprintf(result, sizeof(result), "%s", error);
    done = true;
}

static enum hw_status start(const char *script, int64_t timeout_ms, const char *record,
                            struct agent_command **command)
{
    char *const argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                          (char *)(uintptr_t)script, NULL};
    char *const env[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin", (char *)(uintptr_t) "GIVEN=yes",
                         NULL};
    const struct agent_command_spec spec = {
        .argv = argv, .env = env, .timeout_ms = timeout_ms, .record = record};
    done = false;
    return agent_command_start(loop, &spec, on_done, result, command, &err);
}

/* What a script's end is told as. */
static const char *run(const char *script, int64_t timeout_ms)
{
    struct agent_command *command;
    ck_assert_msg(start(script, timeout_ms, NULL, &command) == HW_OK, "%s", err.message);
    ck_assert(hw_loop_run_until(loop, &done, test_patient_ms(20000)));
    return result;
}

static void setup(void)
{
    if (hw_loop_new(&loop, &err) != HW_OK)
        abort();
}

START_TEST(test_command_ends)
{
    setup();
    ck_assert_str_eq(run("echo fine", 10000), "");
    ck_assert_str_eq(run("exit 3", 10000), "sh exited with status 3");
    ck_assert_str_eq(run("echo one; echo two >&2; exit 4", 10000),
                     "sh exited with status 4: one\ntwo");
    ck_assert_str_eq(run("kill -9 $$", 10000), "sh was ended by signal 9 (Killed)");
    hw_loop_free(loop);
}
END_TEST

/* What a command inherits: a given environment, an empty stdin, no signal blocked or ignored, no
 * descriptor of ours, a process group of its own. */
START_TEST(test_command_starts_clean)
{
    const int leak = dup2(STDIN_FILENO, 77); /* not close-on-exec, as those of some libraries */
    ck_assert_int_eq(leak, 77);
    setup();
    ck_assert_int_eq(hw_loop_stop_on_signals(loop, &err), HW_OK);
    ck_assert_str_eq(run("test \"$GIVEN\" = yes && test -z \"$HOME\"", 10000), "");
    ck_assert_str_eq(run("test -z \"$(cat)\"", 10000), "");
    ck_assert_str_eq(run("grep -Eq '^SigBlk:\\s0+$' /proc/self/status", 10000), "");
    /* All but 32 and 33, which glibc keeps for itself. */
    ck_assert_str_eq(run("grep -Eq '^SigIgn:\\s0+[01][08]0000000$' /proc/self/status", 10000), "");
    ck_assert_str_eq(run("test ! -e /proc/self/fd/77", 10000), "");
    ck_assert_str_eq(run("set -- $(cat /proc/$$/stat); test $5 -eq $$", 10000), "");
    close(leak);
    hw_loop_free(loop);
}
END_TEST

START_TEST(test_command_is_missing)
{
    char *const env[] = {NULL};
    char *missing[] = {(char *)(uintptr_t) "/no/such/command", NULL};
    char *directory[] = {(char *)(uintptr_t) "/etc", NULL};
    struct agent_command_spec spec = {.argv = missing, .env = env, .timeout_ms = 1000};
    struct agent_command *command = NULL;
    setup();
    ck_assert_int_eq(agent_command_start(loop, &spec, on_done, NULL, &command, &err), HW_ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "/no/such/command: there is no such program"));
    spec.argv = directory;
    ck_assert_int_eq(agent_command_start(loop, &spec, on_done, NULL, &command, &err), HW_EDENIED);
    ck_assert_ptr_null(command);
    hw_loop_free(loop);
}
END_TEST

START_TEST(test_command_times_out)
{
    setup();
    ck_assert_str_eq(run("echo waiting; sleep 600", 1000), /* time enough to say it */
                     "sh did not end within 1 s and was stopped: waiting");
    /* One that ends with 0 because it was told to has not done its work either. */
    const char *error = run("trap 'exit 0' TERM; while :; do sleep 0.05; done", 200);
    ck_assert_ptr_eq(strstr(error, "sh did not end within 0.2 s and was stopped"), error);
    hw_loop_free(loop);
}
END_TEST

static pid_t pid_of(const char *text)
{
    return (pid_t)strtol(text, NULL, 10);
}

static bool gone(pid_t pid)
{
    return test_reap(pid, 0, NULL);
}

/* A command that ignores SIGTERM is killed, with its children, after the grace. */
START_TEST(test_command_that_does_not_listen_is_killed)
{
    char *dir = test_temp_dir();
    char *script =
        hw_sprintf("trap '' TERM; sleep 600 & echo $! > %s/child; while :; do sleep 0.05; "
                   "done",
                   dir);
    char *file = hw_sprintf("%s/child", dir);
    setup();
    ck_assert_str_eq(run(script, 1000), "sh did not end within 1 s and was stopped");
    char *child = test_read_file(file);
    ck_assert_int_gt(pid_of(child), 0);
    test_wait_for(gone(pid_of(child)), 30);
    free(child);
    free(file);
    free(script);
    free(dir);
    hw_loop_free(loop);
}
END_TEST

START_TEST(test_command_floods)
{
    setup();
    const char *error =
        run("i=0; while [ $i -lt 200 ]; do head -c 65536 /dev/zero | tr '\\0' a; i=$((i+1)); done; "
            "printf '\\303\\251\\303 \\033end\\n\\n'; exit 1",
            20000);
    const char *tail = strstr(error, ": ");
    ck_assert_ptr_nonnull(tail);
    ck_assert_uint_le(strlen(tail + 2), AGENT_COMMAND_TAIL);
    ck_assert_uint_gt(strlen(tail + 2), AGENT_COMMAND_TAIL - 16);
    ck_assert_str_eq(error + strlen(error) - 9, "a\xc3\xa9? ?end");
    json_t *text = json_string(error);
    ck_assert_ptr_nonnull(text); /* UTF-8 all through */
    json_decref(text);
    hw_loop_free(loop);
}
END_TEST

/* The tail starts with a whole character, wherever the cut falls. */
START_TEST(test_tail_is_cut_between_characters)
{
    setup();
    for (int shift = 0; shift < 4; shift++) {
        char *script = hw_sprintf("i=0; while [ $i -lt 800 ]; do printf '\\360\\237\\214\\212'; "
                                  "i=$((i+1)); done; printf '%.*s'; exit 1",
                                  shift, "xyz");
        const char *tail = strstr(run(script, 20000), ": ");
        ck_assert_ptr_nonnull(tail);
        ck_assert_mem_eq(tail + 2, "\xf0\x9f\x8c\x8a", 4);
        ck_assert_ptr_null(strchr(tail + 2, '?'));
        free(script);
    }
    hw_loop_free(loop);
}
END_TEST

/* What a command leaves running on purpose neither delays its end nor is ended with it. */
START_TEST(test_command_leaves_a_service)
{
    char *dir = test_temp_dir();
    char *file = hw_sprintf("%s/service", dir);
    char *script = hw_sprintf("sleep 600 & echo $! > %s", file);
    setup();
    ck_assert_str_eq(run(script, 20000), "");
    char *pid = test_read_file(file);
    ck_assert(!gone(pid_of(pid)));
    kill(pid_of(pid), SIGKILL);
    free(pid);
    free(script);
    free(file);
    free(dir);
    hw_loop_free(loop);
}
END_TEST

/* It may write as much as it likes to what it inherited, whether the command ended or was ended. */
START_TEST(test_what_a_command_leaves_may_write)
{
    char *dir = test_temp_dir();
    char *wrote = hw_sprintf("%s/wrote", dir), *go = hw_sprintf("%s/go", dir);
    char *script = hw_sprintf(
        "cd '%s'; { trap '' TERM; while [ ! -e go ]; do sleep 0.05; done; "
        "head -c 300000 /dev/zero && head -c 300000 /dev/zero >&2 && touch wrote; } & exit 0",
        dir);
    char *in_session = hw_sprintf("setsid sh -c \"%s\"; touch %s; sleep 600", script, go);
    struct agent_command *command;
    setup();
    ck_assert_str_eq(run(script, 20000), "");
    ck_assert_int_eq(hw_file_replace(go, "", 0, 0600, &err), HW_OK);
    test_wait_for(access(wrote, F_OK) == 0, 30);
    ck_assert_int_eq(unlink(go), 0);
    ck_assert_int_eq(unlink(wrote), 0);

    /* The second one is told to go on by its own command, which then hangs and is ended. */
    ck_assert_int_eq(start(in_session, 60000, NULL, &command), HW_OK);
    test_wait_for(access(go, F_OK) == 0, 30);
    agent_command_end(command);
    test_wait_for(access(wrote, F_OK) == 0, 30);
    /* A drain ends when nobody is left who could write. */
    char *look = hw_sprintf("for p in /proc/[0-9]*/status; do grep -qs '^Name:.headwater-drain' $p "
                            "&& grep -qs '^PPid:.%d$' $p && exit 1; done; exit 0",
                            (int)getpid());
    test_wait_for((agent_orphans_reap(NULL), system(look) == 0), 30);
    free(look);
    free(in_session);
    free(script);
    free(go);
    free(wrote);
    free(dir);
    hw_loop_free(loop);
}
END_TEST

START_TEST(test_command_is_ended)
{
    char *dir = test_temp_dir();
    char *record = hw_sprintf("%s/command", dir);
    struct agent_command *command;
    setup();
    ck_assert_int_eq(start("sleep 600", 60000, record, &command), HW_OK);
    char *line = test_read_file(record);
    const pid_t pid = pid_of(line);
    ck_assert(!gone(pid));
    agent_command_end(command);
    ck_assert(gone(pid));
    ck_assert_int_ne(access(record, F_OK), 0);
    ck_assert(!done);
    agent_command_end(NULL);
    hw_loop_free(loop);
    free(line);
    free(record);
    free(dir);
}
END_TEST

/* What a killed agent left behind is found by its record; anything else is left alone. */
START_TEST(test_command_is_reaped_by_its_record)
{
    char *dir = test_temp_dir();
    char *record = hw_sprintf("%s/command", dir);
    char *copy = hw_sprintf("%s/copy", dir);
    struct agent_command *command;
    setup();
    ck_assert(!agent_command_reap(record));
    ck_assert_int_eq(start("sleep 600", 60000, record, &command), HW_OK);
    char *line = test_read_file(record);
    const pid_t pid = pid_of(line);

    /* Every letter of it counts. But another id, with all else the same, may well be a process that
     * started together with this one, such as the test itself. */
    for (size_t i = 0; i < strlen(line); i++) {
        char *other = hw_strdup(line);
        other[i] = other[i] == '7' ? '8' : '7';
        if (i >= strcspn(line, " ")) {
            ck_assert_int_eq(hw_file_replace(copy, other, strlen(other), 0600, &err), HW_OK);
            ck_assert(!agent_command_reap(copy));
        }
        ck_assert_int_eq(hw_file_replace(copy, line, i, 0600, &err), HW_OK);
        ck_assert(!agent_command_reap(copy));
        free(other);
    }
    ck_assert(!gone(pid));
    ck_assert(agent_command_reap(record));
    ck_assert_int_ne(access(record, F_OK), 0);
    ck_assert(hw_loop_run_until(loop, &done, test_patient_ms(10000)));
    ck_assert_ptr_nonnull(strstr(result, "was ended by signal 15"));
    ck_assert(gone(pid));
    free(line);
    free(copy);
    free(record);
    free(dir);
    hw_loop_free(loop);
}
END_TEST

TEST_MAIN("agent command", 60, test_words, test_words_refused, test_shell_syntax, test_command_ends,
          test_command_starts_clean, test_command_is_missing, test_command_times_out,
          test_command_that_does_not_listen_is_killed, test_command_floods,
          test_tail_is_cut_between_characters, test_command_leaves_a_service,
          test_what_a_command_leaves_may_write, test_command_is_ended,
          test_command_is_reaped_by_its_record)
