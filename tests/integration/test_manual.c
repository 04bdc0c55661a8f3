/* What each program says of itself in --help, what its manual page says, and what it does agree. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "common/options.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"
#include "tests/support/suite.h"

static const char *const programs[] = {"headwater-api", "headwater-reconciler", "headwater-agent",
                                       "headwater-cdc", "headwater"};

/* One line of --help: "  -x, --name VALUE   text [VARIABLE]". */
struct option {
    char letter, name[64], value[64], env[64];
};

static bool parse_option(const char *line, struct option *o)
{
    *o = (struct option){0};
    if (strncmp(line, "  -", 3) != 0)
        return false;
    line += 2;
    if (line[1] != '-') {
        o->letter = line[1];
        line += strlen("-x, ");
    }
    ck_assert_int_eq(sscanf(line, "--%63[a-z0-9-]", o->name), 1);
    line += 2 + strlen(o->name);
    if (line[0] == ' ' && line[1] != ' ')
        ck_assert_int_eq(sscanf(line, " %63s", o->value), 1);
    const char *bracket = strrchr(line, '[');
    if (bracket != NULL)
        ck_assert_int_eq(sscanf(bracket, "[%63[A-Z_]]", o->env), 1);
    return true;
}

static char *run(const char *program, const char *argument, const char *value, const char *env,
                 int *status)
{
    const char *argv[5] = {program, "--help"};
    const char *const envs[] = {env, NULL};
    char *output;
    if (argument != NULL) {
        argv[1] = argument;
        argv[2] = value;
        argv[3] = "--help";
    }
    *status = test_program_run(argv, env != NULL ? envs : NULL, NULL, &output);
    return output;
}

static char *manual_of(const char *program)
{
    char path[128];
    snprintf(path, sizeof(path), "man/%s.1", program);
    char *text = test_read_file(path);
    ck_assert_msg(*text != '\0', "there is no %s", path);
    return text;
}

static int count_lines(const char *text, const char *beginning)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, beginning)) != NULL; at++)
        count += at == text || at[-1] == '\n';
    return count;
}

static void expect_line(const char *program, const char *manual, const char *line)
{
    HW_AUTO_FREE char *framed = hw_sprintf("\n%s\n", line);
    ck_assert_msg(strstr(manual, framed) != NULL, "man/%s.1 has no line \"%s\"", program, line);
}

START_TEST(test_manual_pages_have_all_options_and_no_others)
{
    const char *program = programs[_i];
    HW_AUTO_FREE char *manual = manual_of(program);
    int status, options = 0, variables = 0, commands = 0;
    bool in_commands = false, in_environment = false;
    HW_AUTO_FREE char *help = run(program, NULL, NULL, NULL, &status);
    ck_assert_int_eq(status, HW_EXIT_OK);
    for (char *rest = help, *line; (line = strsep(&rest, "\n")) != NULL;) {
        struct option o;
        char command[64];
        if (*line != ' ') {
            in_commands = strcmp(line, "Commands:") == 0;
            in_environment = strcmp(line, "Environment:") == 0;
        }
        if (in_environment && *line == ' ' && sscanf(line, "%63s", command) == 1) {
            HW_AUTO_FREE char *item = hw_sprintf(".It Ev %s", command);
            expect_line(program, manual, item);
            variables++;
        }
        if (in_commands && *line == ' ' && sscanf(line, "%63s", command) == 1) {
            HW_AUTO_FREE char *item = hw_sprintf(".It Cm %s", command);
            expect_line(program, manual, item);
            commands++;
        }
        if (!parse_option(line, &o))
            continue;
        HW_AUTO_FREE char *letter =
            o.letter != 0 ? hw_sprintf("%c , Fl ", o.letter) : hw_strdup("");
        HW_AUTO_FREE char *item =
            hw_sprintf(".It Fl %s-%s%s%s", letter, o.name, *o.value != '\0' ? " Ar " : "", o.value);
        expect_line(program, manual, item);
        options++;
        if (*o.env != '\0') {
            HW_AUTO_FREE char *variable = hw_sprintf(".It Ev %s\n.Fl -%s", o.env, o.name);
            expect_line(program, manual, variable);
            variables++;
        }
    }
    ck_assert_int_gt(options, 4);
    ck_assert_int_eq(count_lines(manual, ".It Fl "), options);
    ck_assert_int_eq(count_lines(manual, ".It Ev "), variables);
    ck_assert_int_eq(count_lines(manual, ".It Cm "), commands);
    expect_line(program, manual, ".Sh EXIT STATUS");
}
END_TEST

/* A value that only a string takes: where the flag refuses it, so must the variable. */
START_TEST(test_every_variable_is_that_of_its_option)
{
    static const char nonsense[] = "\"!?";
    const char *program = programs[_i];
    int status;
    HW_AUTO_FREE char *help = run(program, NULL, NULL, NULL, &status);
    for (char *rest = help, *line; (line = strsep(&rest, "\n")) != NULL;) {
        struct option o;
        int by_flag = HW_EXIT_USAGE, by_env;
        if (!parse_option(line, &o) || *o.env == '\0')
            continue;
        if (*o.value != '\0') {
            HW_AUTO_FREE char *flag = hw_sprintf("--%s", o.name);
            free(run(program, flag, nonsense, NULL, &by_flag));
        }
        HW_AUTO_FREE char *env = hw_sprintf("%s=%s", o.env, nonsense);
        HW_AUTO_FREE char *output = run(program, NULL, NULL, env, &by_env);
        ck_assert_msg(by_env == by_flag, "%s: --%s exits with %d, %s with %d", program, o.name,
                      by_flag, o.env, by_env);
        ck_assert_msg(by_env == HW_EXIT_OK || strstr(output, o.env) != NULL, "%s is not named: %s",
                      o.env, output);

        /* Its name follows from the option's. */
        const bool is_url = strcmp(o.name, "database") == 0 || strcmp(o.name, "nats") == 0;
        HW_AUTO_FREE char *expected = hw_sprintf("HEADWATER_%s%s", o.name, is_url ? "_URL" : "");
        for (char *c = expected; *c != '\0'; c++)
            *c = *c == '-' ? '_' : (char)toupper(*c);
        ck_assert_str_eq(o.env, expected);
    }
}
END_TEST

START_TEST(test_wrong_usage)
{
    static const char *const lines[][2] = {{"--no-such-option", NULL}, {"no-such-operand", "x"}};
    for (size_t i = 0; i < HW_COUNT(lines); i++) {
        char *output;
        const int status =
            test_program_run((const char *const[]){programs[_i], lines[i][0], lines[i][1], NULL},
                             NULL, NULL, &output);
        ck_assert_msg(status == HW_EXIT_USAGE, "%s %s: %d\n%s", programs[_i], lines[i][0], status,
                      output);
        ck_assert_ptr_nonnull(strstr(output, "--help"));
        free(output);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("manual");
    TCase *tcase = tcase_create("manual");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test_manual_pages_have_all_options_and_no_others, 0,
                        HW_COUNT(programs));
    tcase_add_loop_test(tcase, test_every_variable_is_that_of_its_option, 0, HW_COUNT(programs));
    tcase_add_loop_test(tcase, test_wrong_usage, 0, HW_COUNT(programs));
    suite_add_tcase(suite, tcase);
    return test_suite_finish(suite);
}
