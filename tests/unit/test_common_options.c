#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/nearest.h"
#include "common/log.h"
#include "common/options.h"
#include "common/version.h"
#include "tests/support/suite.h"

struct values {
    bool loud;
    const char *url, *mode, *log_level, *log_format;
    char *keys;
    int64_t count, wait, room;
    bool count_by_flag;
};

static const struct hw_option table[] = {
    {.name = "loud",
     .letter = 'l',
     .env = "T_LOUD",
     .type = HW_OPT_FLAG,
     .offset = offsetof(struct values, loud),
     .help = "say more"},
    {.name = "url",
     .letter = 'u',
     .env = "T_URL",
     .type = HW_OPT_STRING,
     .offset = offsetof(struct values, url),
     .value = "URL",
     .preset = "nats://x",
     .help = "where it is"},
    {.name = "mode",
     .env = "T_MODE",
     .type = HW_OPT_CHOICE,
     .offset = offsetof(struct values, mode),
     .value = "MODE",
     .preset = "slow",
     .choices = "slow|fast",
     .help = "how to go"},
    {.name = "count",
     .env = "T_COUNT",
     .type = HW_OPT_INT,
     .offset = offsetof(struct values, count),
     .by_flag = offsetof(struct values, count_by_flag),
     .value = "N",
     .preset = "3",
     .min = -5,
     .max = 100,
     .help = "how many"},
    {.name = "wait",
     .env = "T_WAIT",
     .type = HW_OPT_DURATION,
     .offset = offsetof(struct values, wait),
     .value = "TIME",
     .preset = "1m",
     .help = "how long"},
    {.name = "room",
     .env = "T_ROOM",
     .type = HW_OPT_SIZE,
     .offset = offsetof(struct values, room),
     .value = "SIZE",
     .preset = "1KiB",
     .secret = true,
     .help = "how much"},
    HW_OPTIONS_LOG(struct values),
    {0},
};
static const struct hw_command commands[] = {
    {"run", "FILE...", "runs"}, {"stop", NULL, "stops"}, {0}};
static const struct hw_program with_commands = {.name = "prog",
                                                .summary = "tests options",
                                                .options = table,
                                                .commands = commands,
                                                .notes = "Exit status: 0 or not.\n"};
static const struct hw_program plain = {.name = "prog", .summary = "s", .options = table};

static struct values values;
static const char *command;
static char **operands;
static int count;
static struct hw_error err;

static enum hw_status parse(const struct hw_program *program, const char *line)
{
    static char text[512];
    static char *argv[32];
    int argc = 0;
    snprintf(text, sizeof(text), "prog %s", line);
    for (char *rest = text, *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word != '\0')
            argv[argc++] = word;
    argv[argc] = NULL;
    memset(&values, 0, sizeof(values));
    return hw_options_parse(program, argc, argv, &values, &command, &operands, &count, &err);
}

START_TEST(test_presets)
{
    ck_assert_int_eq(parse(&plain, ""), HW_OK);
    ck_assert(!values.loud);
    ck_assert_str_eq(values.url, "nats://x");
    ck_assert_str_eq(values.mode, "slow");
    ck_assert_int_eq(values.count, 3);
    ck_assert_int_eq(values.wait, 60000);
    ck_assert_int_eq(values.room, 1024);
    ck_assert_str_eq(values.log_level, "info");
    ck_assert_str_eq(values.log_format, "logfmt");
    ck_assert_ptr_null(command);
    ck_assert_int_eq(count, 0);
}
END_TEST

START_TEST(test_flag_wins_over_environment_over_preset)
{
    setenv("T_URL", "nats://env", 1);
    setenv("T_COUNT", "5", 1);
    setenv("T_LOUD", "yes", 1);
    setenv("T_MODE", "", 1); /* empty is as good as unset */
    ck_assert_int_eq(parse(&plain, "--url nats://flag --no-loud"), HW_OK);
    ck_assert_str_eq(values.url, "nats://flag");
    ck_assert_int_eq(values.count, 5);
    ck_assert(!values.count_by_flag);
    ck_assert(!values.loud);
    ck_assert_str_eq(values.mode, "slow");
    ck_assert_int_eq(parse(&plain, "-u short --count=-5"), HW_OK);
    ck_assert_str_eq(values.url, "short");
    ck_assert_int_eq(values.count, -5);
    ck_assert(values.count_by_flag);
    ck_assert(values.loud);
}
END_TEST

START_TEST(test_booleans_in_the_environment)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off", ""};
    for (size_t i = 0; i < HW_COUNT(yes); i++) {
        setenv("T_LOUD", yes[i], 1);
        ck_assert_int_eq(parse(&plain, ""), HW_OK);
        ck_assert(values.loud);
    }
    for (size_t i = 0; i < HW_COUNT(no); i++) {
        setenv("T_LOUD", no[i], 1);
        ck_assert_int_eq(parse(&plain, ""), HW_OK);
        ck_assert(!values.loud);
        ck_assert_int_eq(parse(&plain, "-l"), HW_OK);
        ck_assert(values.loud);
    }
    setenv("T_LOUD", "maybe", 1);
    ck_assert_int_eq(parse(&plain, ""), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "T_LOUD"));
}
END_TEST

START_TEST(test_durations_and_sizes)
{
    static const struct {
        const char *flag;
        int64_t wait, room;
    } cases[] = {{"--wait 0", 0, 1024},
                 {"--wait 250ms", 250, 1024},
                 {"--wait 2", 2000, 1024},
                 {"--wait 2s", 2000, 1024},
                 {"--wait 5m", 300000, 1024},
                 {"--wait 1h", 3600000, 1024},
                 {"--room 65536", 60000, 65536},
                 {"--room 64KiB", 60000, 65536},
                 {"--room 16MiB", 60000, 16777216},
                 {"--room 1GiB", 60000, 1073741824}};
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        ck_assert_int_eq(parse(&plain, cases[i].flag), HW_OK);
        ck_assert_int_eq(values.wait, cases[i].wait);
        ck_assert_int_eq(values.room, cases[i].room);
    }
}
END_TEST

START_TEST(test_refusals_name_the_option)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"--count x", "--count"},
        {"--count 7x", "--count"},
        {"--count 101", "--count"},
        {"--count -6", "--count"},
        {"--count 99999999999999999999", "--count"},
        {"--wait 5x", "--wait"},
        {"--wait -1s", "--wait"},
        {"--wait s", "--wait"},
        {"--wait 9223372036854775807h", "--wait"},
        {"--room 1KB", "--room"},
        {"--mode faster", "--mode"},
        {"--mode fas", "--mode"},
        {"--mode slow|fast", "--mode"},
        {"--url", "--url"},
        {"--nothing", "--nothing: no such option"},
        {"-x", "-x: no such option"},
        {"-lx", "-x: no such option"},
        {"--ulr x", "did you mean --url?"},
        {"--ulr=x", "--ulr: no such option; did you mean --url?"},
        {"--url", "--url URL"},
        {"-u", "--url URL"},
        {"--loud=yes", "--loud: it is a switch"},
        {"--log x", "--log-level, --log-format"},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        err = (struct hw_error){0};
        ck_assert_msg(parse(&plain, cases[i].line) == HW_EINVAL, "took %s", cases[i].line);
        ck_assert_msg(strstr(err.message, cases[i].says) != NULL, "%s: %s", cases[i].line,
                      err.message);
    }
    setenv("T_COUNT", "many", 1);
    ck_assert_int_eq(parse(&plain, ""), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "T_COUNT"));
}
END_TEST

START_TEST(test_secrets_are_not_echoed)
{
    ck_assert_int_eq(parse(&plain, "--room hunter2"), HW_EINVAL);
    ck_assert_ptr_null(strstr(err.message, "hunter2"));
    ck_assert_int_eq(parse(&plain, "--rom=hunter2"), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "did you mean --room?"));
    ck_assert_ptr_null(strstr(err.message, "hunter2"));
}
END_TEST

START_TEST(test_commands_and_operands)
{
    ck_assert_int_eq(parse(&with_commands, "run a --loud b"), HW_OK);
    ck_assert_str_eq(command, "run");
    ck_assert_int_eq(count, 2);
    ck_assert_str_eq(operands[0], "a");
    ck_assert_str_eq(operands[1], "b");
    ck_assert(values.loud);
    ck_assert_int_eq(parse(&with_commands, "stop -- --loud"), HW_OK);
    ck_assert_int_eq(count, 1);
    ck_assert_str_eq(operands[0], "--loud");
    ck_assert(!values.loud);
    ck_assert_int_eq(parse(&with_commands, ""), HW_OK);
    ck_assert_ptr_null(command);
    ck_assert_int_eq(parse(&with_commands, "fly"), HW_EINVAL);
    ck_assert_str_eq(err.message, "fly: no such command; there are: run, stop; without one the "
                                  "service runs");
    ck_assert_int_eq(parse(&with_commands, "rnu"), HW_EINVAL);
    ck_assert_str_eq(err.message, "rnu: no such command; did you mean run?");
    ck_assert_int_eq(parse(&with_commands, "\xE2\x80\x93loud run"), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "where hyphens belong"));
    ck_assert_int_eq(parse(&plain, "left over"), HW_OK);
    ck_assert_ptr_null(command);
    ck_assert_int_eq(count, 2);
}
END_TEST

/* What the program prints before it exits with 0; the caller frees it. */
static char *printed_by(const struct hw_program *program, const char *line)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        _exit(parse(program, line) == HW_OK ? 100 : 101);
    }
    close(ends[1]);
    char *text = NULL;
    size_t size;
    FILE *copy = open_memstream(&text, &size), *from = fdopen(ends[0], "r");
    for (int c; (c = getc(from)) != EOF;)
        putc(c, copy);
    fclose(copy);
    fclose(from);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    return text;
}

static char *printed(const char *line)
{
    return printed_by(&with_commands, line);
}

START_TEST(test_help_shows_everything)
{
    HW_AUTO_FREE char *help = printed("--help");
    HW_AUTO_FREE char *same = printed("-h");
    ck_assert_str_eq(help, same);
    static const char *const needed[] = {"prog",
                                         "tests options",
                                         "run FILE...",
                                         "stop",
                                         "-l, --loud",
                                         "[T_LOUD]",
                                         "URL",
                                         "nats://x",
                                         "slow|fast",
                                         "[T_MODE]",
                                         "(default 1m)",
                                         "--log-level",
                                         "[HEADWATER_LOG_FORMAT]",
                                         "--help",
                                         "--version",
                                         "Exit status: 0 or not."};
    for (size_t i = 0; i < HW_COUNT(needed); i++)
        ck_assert_msg(strstr(help, needed[i]) != NULL, "no \"%s\" in:\n%s", needed[i], help);
}
END_TEST

static const struct hw_option listed[] = {
    {.name = "url",
     .type = HW_OPT_STRING,
     .offset = offsetof(struct values, url),
     .help = "where it is"},
    {.name = "loud",
     .type = HW_OPT_FLAG,
     .offset = offsetof(struct values, loud),
     .commands = "rerun stop",
     .help = "say more"},
    {.name = "mode",
     .env = "T_SECRET",
     .type = HW_OPT_STRING,
     .offset = offsetof(struct values, mode),
     .env_only = true,
     .help = "what nobody must see"},
    {.name = "key",
     .env = "T_KEYS",
     .type = HW_OPT_LIST,
     .offset = offsetof(struct values, keys),
     .value = "FILE",
     .help = "may be given again"},
    {0},
};
static const struct hw_program with_lists = {
    .name = "prog", .summary = "tests options", .options = listed, .commands = commands};

START_TEST(test_options_of_some_commands)
{
    ck_assert_int_eq(parse(&with_lists, "stop --loud --url x"), HW_OK);
    ck_assert(values.loud);
    ck_assert_int_eq(parse(&with_lists, "--loud run"), HW_EINVAL);
    ck_assert_str_eq(err.message, "--loud: run does not take it; rerun and others do");
    ck_assert_int_eq(parse(&with_lists, "run --no-loud"), HW_EINVAL);
    ck_assert_int_eq(parse(&with_lists, "run --url x"), HW_OK);

    HW_AUTO_FREE char *all = printed_by(&with_lists, "--help");
    ck_assert_ptr_nonnull(strstr(all, "rerun, stop: say more"));
    HW_AUTO_FREE char *stop = printed_by(&with_lists, "--help stop");
    ck_assert_ptr_nonnull(strstr(stop, "--loud"));
    ck_assert_ptr_nonnull(strstr(stop, "Usage: prog [options] stop\n"));
    HW_AUTO_FREE char *run = printed_by(&with_lists, "run --help");
    ck_assert_ptr_null(strstr(run, "--loud"));
    ck_assert_ptr_nonnull(strstr(run, "Usage: prog [options] run FILE...\n"));
}
END_TEST

START_TEST(test_lists)
{
    ck_assert_int_eq(parse(&with_lists, "run"), HW_OK);
    ck_assert_ptr_null(values.keys);
    setenv("T_KEYS", "a:b", 1);
    ck_assert_int_eq(parse(&with_lists, "run"), HW_OK);
    ck_assert_str_eq(values.keys, "a:b");
    free(values.keys);
    ck_assert_int_eq(parse(&with_lists, "run --key c --url x --key=d"), HW_OK);
    ck_assert_str_eq(values.keys, "c:d"); /* flags win */
    free(values.keys);
}
END_TEST

START_TEST(test_options_of_the_environment_alone)
{
    setenv("T_SECRET", "s3cret", 1);
    ck_assert_int_eq(parse(&with_lists, "run"), HW_OK);
    ck_assert_str_eq(values.mode, "s3cret");
    ck_assert_int_eq(parse(&with_lists, "run --mode x"), HW_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "T_SECRET"));
    HW_AUTO_FREE char *help = printed_by(&with_lists, "--help");
    ck_assert_ptr_null(strstr(help, "--mode"));
    ck_assert_ptr_nonnull(strstr(help, "\nEnvironment:\n  T_SECRET "));
}
END_TEST

START_TEST(test_version)
{
    HW_AUTO_FREE char *text = printed("--version");
    ck_assert_str_eq(text, "prog " HW_VERSION "\n");
}
END_TEST

START_TEST(test_the_nearest_word)
{
    static const char *const words[] = {"apply", "set", "delete", "get", "fleet", NULL};
    static const struct {
        const char *typed, *nearest;
    } cases[] = {
        {"aply", "apply"},
        {"applly", "apply"},
        {"appyl", "apply"},
        {"Apply", "apply"},
        {"dlete", "delete"},
        {"fleets", "fleet"},
        {"gte", "get"},
        {"st", "set"},
        {"x", NULL},
        {"destroy", NULL},
        {"", NULL},
        {"apply-everything", NULL},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
    };
    for (size_t i = 0; i < HW_COUNT(cases); i++) {
        const char *found = hw_nearest_of(cases[i].typed, words);
        if (cases[i].nearest == NULL)
            ck_assert_msg(found == NULL, "%s: %s", cases[i].typed, found);
        else
            ck_assert_msg(found != NULL && strcmp(found, cases[i].nearest) == 0, "%s: %s",
                          cases[i].typed, found != NULL ? found : "nothing");
    }
}
END_TEST

/* A row of HW_OPTION says one name, the member's. */
START_TEST(test_names_of_a_member)
{
    struct nested {
        struct {
            const char *client_ca;
        } tls;
        int64_t max_age;
        const char *left, *right;
    } v = {0};
    const struct hw_option rows[] = {
        HW_OPTION(struct nested, tls.client_ca, STRING, "FILE", "whom to admit"),
        HW_OPTION(struct nested, max_age, INT, "N", "how old", .min = 1, .max = 9),
        HW_OPTION_NO_ENV(struct nested, left, STRING, "TEXT", "no variable"),
        HW_OPTION(struct nested, right, STRING, "TEXT", "two names", .name = "last", .env = "T_R"),
        {0},
    };
    const struct hw_program program = {.name = "prog", .summary = "", .options = rows};
    char *argv[] = {(char[]){"prog"}, (char[]){"--max-age=5"}, (char[]){"--last=x"}, NULL};
    setenv("HEADWATER_TLS_CLIENT_CA", "/ca", 1);
    setenv("HEADWATER_MAX_AGE", "4", 1);
    setenv("HEADWATER_LEFT", "not this", 1);
    ck_assert_int_eq(hw_options_parse(&program, 3, argv, &v, &command, &operands, &count, &err),
                     HW_OK);
    ck_assert_str_eq(v.tls.client_ca, "/ca");
    ck_assert_int_eq(v.max_age, 5);
    ck_assert_ptr_null(v.left);
    ck_assert_str_eq(v.right, "x");
    setenv("HEADWATER_MAX_AGE", "10", 1);
    ck_assert_int_eq(hw_options_parse(&program, 1, argv, &v, &command, &operands, &count, &err),
                     HW_EINVAL);
    ck_assert_msg(strstr(err.message, "HEADWATER_MAX_AGE") != NULL, "%s", err.message);
}
END_TEST

START_TEST(test_log_options)
{
    ck_assert_int_eq(hw_options_log("debug", "json", &err), HW_OK);
    ck_assert_int_eq(hw_log_level(), HW_LOG_DEBUG);
    ck_assert_int_eq(hw_options_log("error", "logfmt", &err), HW_OK);
    ck_assert_int_eq(hw_log_level(), HW_LOG_ERROR);
    ck_assert_int_eq(hw_options_log("loud", "logfmt", &err), HW_EINVAL);
}
END_TEST

TEST_MAIN("options", 20, test_presets, test_flag_wins_over_environment_over_preset,
          test_booleans_in_the_environment, test_durations_and_sizes, test_refusals_name_the_option,
          test_secrets_are_not_echoed, test_commands_and_operands, test_help_shows_everything,
          test_options_of_some_commands, test_lists, test_options_of_the_environment_alone,
          test_version, test_the_nearest_word, test_names_of_a_member, test_log_options)
