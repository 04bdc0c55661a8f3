/* What moves the agent: an event that the table of transitions does not list. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/core.h"
#include "tests/support/suite.h"

struct said {
    enum hw_log_level level;
    char what[128], detail[128];
};

static void on_told(void *arg, enum hw_log_level level, const char *what,
                    const struct agent_document *document, const char *detail)
{
    struct said *said = arg;

    (void)document;
    said->level = level;
    snprintf(said->what, sizeof(said->what), "%s", what);
    snprintf(said->detail, sizeof(said->detail), "%s", detail != NULL ? detail : "");
}

#ifdef HW_STRICT

/* Such a mistake must not get through a test unnoticed. */
START_TEST(test_unlisted_aborts)
{
    char text[512];
    size_t len = 0;
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        struct said said = {0};
        struct agent a = {.phase = AGENT_APPLYING, .hooks = {.told = on_told, .arg = &said}};
        dup2(ends[1], STDERR_FILENO);
        agent_core_take(&a, AGENT_EVENT_TAKE_BACK);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t n;
         len + 1 < sizeof(text) && (n = read(ends[0], text + len, sizeof(text) - 1 - len)) > 0;)
        len += (size_t)n;
    text[len] = '\0';
    close(ends[0]);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x", status);
    ck_assert_msg(strstr(text, "agent, state applying, event take-back") != NULL, "said: %s", text);
}
END_TEST

TEST_MAIN("agent core", 10, test_unlisted_aborts)

#else

/* A node in use goes on: the event is told and ignored. */
START_TEST(test_unlisted_is_ignored)
{
    struct said said = {0};
    struct agent a = {.phase = AGENT_APPLYING, .hooks = {.told = on_told, .arg = &said}};
    agent_core_take(&a, AGENT_EVENT_TAKE_BACK);
    ck_assert_int_eq(a.phase, AGENT_APPLYING);
    ck_assert_int_eq(said.level, HW_LOG_WARN);
    ck_assert_str_eq(said.detail, "agent, state applying, event take-back");
}
END_TEST

TEST_MAIN("agent core", 10, test_unlisted_is_ignored)

#endif
