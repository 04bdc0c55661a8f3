#include "common/options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/nearest.h"
#include "common/log.h"
#include "common/version.h"

enum { FIRST_LONG = 256, OPTION_HELP = 10000, OPTION_VERSION };

struct unit {
    const char *suffix;
    int64_t factor;
};
static const struct unit durations[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                                        {"h", 3600000}, {"d", 86400000}, {"", 1000}};
static const struct unit sizes[] = {
    {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {"", 1}};

static bool parse_units(const char *text, const struct unit *units, size_t count, int64_t *value)
{
    char *end;
    int64_t number;

    errno = 0;
    number = strtoll(text, &end, 10);
    if (end == text || errno != 0 || number < 0)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(end, units[i].suffix) == 0)
            return !__builtin_mul_overflow(number, units[i].factor, value);
    return false;
}

bool hw_options_duration(const char *text, int64_t *ms)
{
    return parse_units(text, durations, HW_COUNT(durations), ms);
}

static bool parse_bool(const char *text, bool *value)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off", ""};

    for (size_t i = 0; i < HW_COUNT(yes); i++) {
        if (strcmp(text, yes[i]) == 0) {
            *value = true;
            return true;
        }
    }
    for (size_t i = 0; i < HW_COUNT(no); i++) {
        if (strcmp(text, no[i]) == 0) {
            *value = false;
            return true;
        }
    }
    return false;
}

static bool is_choice(const char *choices, const char *text)
{
    const size_t len = strcspn(text, "|");

    for (const char *p = choices; len > 0 && text[len] == '\0' && p != NULL; p = strchr(p, '|')) {
        if (*p == '|')
            p++;
        if (strncmp(p, text, len) == 0 && (p[len] == '|' || p[len] == '\0'))
            return true;
    }
    return false;
}

static void add_to_list(char **list, const char *text)
{
    char *const before = *list;

    *list = before != NULL ? hw_sprintf("%s:%s", before, text) : hw_strdup(text);
    free(before);
}

/* from: the name that the user knows, "--name" or the environment variable. */
static enum hw_status store(const struct hw_option *o, const char *text, const char *from,
                            void *values, struct hw_error *err)
{
    void *const target = (char *)values + o->offset;
    const char *const shown = o->secret ? "(not shown)" : text;
    int64_t number = 0;

    switch (o->type) {
    case HW_OPT_FLAG:
        if (!parse_bool(text, target))
            return hw_fail(err, HW_EINVAL, "%s: \"%s\" is neither true nor false", from, shown);
        return HW_OK;
    case HW_OPT_STRING:
        if (o->check != NULL && o->check(text, err) != HW_OK)
            return hw_fail_in(err, "%s", from);
        *(const char **)target = text;
        return HW_OK;
    case HW_OPT_CHOICE:
        if (!is_choice(o->choices, text))
            return hw_fail(err, HW_EINVAL, "%s: \"%s\" is not one of %s", from, shown, o->choices);
        *(const char **)target = text;
        return HW_OK;
    case HW_OPT_LIST:
        add_to_list(target, text);
        return HW_OK;
    case HW_OPT_DURATION:
        if (!hw_options_duration(text, &number))
            return hw_fail(err, HW_EINVAL, "%s: \"%s\" is not a duration such as 500ms, 2s, 5m, 1h",
                           from, shown);
        break;
    case HW_OPT_SIZE:
        if (!parse_units(text, sizes, HW_COUNT(sizes), &number))
            return hw_fail(err, HW_EINVAL, "%s: \"%s\" is not a size such as 65536, 64KiB, 16MiB",
                           from, shown);
        break;
    case HW_OPT_INT: {
        char *end;

        errno = 0;
        number = strtoll(text, &end, 10);
        if (end == text || *end != '\0' || errno != 0)
            return hw_fail(err, HW_EINVAL, "%s: \"%s\" is not a whole number", from, shown);
        break;
    }
    }
    if ((o->min != 0 || o->max != 0) && (number < o->min || number > o->max))
        return hw_fail(err, HW_EINVAL, "%s: %s is not within %" PRId64 " and %" PRId64, from, shown,
                       o->min, o->max);
    *(int64_t *)target = number;
    return HW_OK;
}

/* Is the word in a list that is separated by blanks? NULL is the list of all words. */
static bool is_listed(const char *list, const char *word)
{
    const size_t len = strlen(word);

    if (list == NULL)
        return true;
    for (const char *p = list; (p = strstr(p, word)) != NULL; p += len)
        if ((p == list || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\0'))
            return true;
    return false;
}

static void print_usage(const struct hw_program *program, const struct hw_command *command)
{
    if (command != NULL)
        printf("%s %s: %s\n\nUsage: %s [options] %s%s%s\n", program->name, command->name,
               command->help, program->name, command->name, command->arguments != NULL ? " " : "",
               command->arguments != NULL ? command->arguments : "");
    else
        printf("%s: %s\n\nUsage: %s [options]%s\n", program->name, program->summary, program->name,
               program->commands == NULL ? ""
               : program->needs_command  ? " <command>"
                                         : " [command]");
}

static void print_option(const struct hw_option *o, bool name_commands)
{
    char left[96];
    char letter[8] = "";

    if (o->letter != 0)
        snprintf(letter, sizeof(letter), "-%c, ", o->letter);
    snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->value != NULL ? " " : "",
             o->value != NULL ? o->value : "");
    printf("  %-28s ", left);
    if (name_commands && o->commands != NULL) {
        for (const char *p = o->commands; *p != '\0'; p++) {
            if (*p == ' ')
                putchar(',');
            putchar(*p);
        }
        printf(": ");
    }
    printf("%s", o->help);
    if (o->choices != NULL)
        printf(": %s", o->choices);
    if (o->preset != NULL)
        printf(" (default %s)", o->preset);
    if (o->env != NULL)
        printf(" [%s]", o->env);
    putchar('\n');
}

/* Prints the help of one command, or with NULL that of the whole program. */
static void print_help(const struct hw_program *program, const struct hw_command *command)
{
    const char *heading = "\nEnvironment:\n";

    print_usage(program, command);
    if (program->commands != NULL && command == NULL) {
        printf("\nCommands:\n");
        for (const struct hw_command *c = program->commands; c->name != NULL; c++) {
            char left[64];

            snprintf(left, sizeof(left), "%s%s%s", c->name, c->arguments != NULL ? " " : "",
                     c->arguments != NULL ? c->arguments : "");
            printf("  %-28s %s\n", left, c->help);
        }
    }
    printf("\nOptions (each flag wins over its environment variable):\n");
    for (const struct hw_option *o = program->options; o->name != NULL; o++)
        if (!o->env_only && (command == NULL || is_listed(o->commands, command->name)))
            print_option(o, command == NULL);
    printf("  %-28s %s\n", "-h, --help", "show this help and exit");
    printf("  %-28s %s\n", "-V, --version", "show the version and exit");
    for (const struct hw_option *o = program->options; o->name != NULL; o++) {
        if (!o->env_only)
            continue;
        printf("%s  %-28s %s\n", heading, o->env, o->help);
        heading = "";
    }
    if (program->notes != NULL)
        printf("\n%s", program->notes);
}

/* The tables of getopt, made of ours; a switch gets a --no- form as well. */
struct tables {
    struct option *longs; /* val: FIRST_LONG + 2 * index, plus 1 for --no-… */
    char **names;         /* of the --no- ones, to free */
    size_t count;         /* of the program's options */
    char letters[160];
};

static void build_tables(const struct hw_program *program, struct tables *t)
{
    size_t count = 0, next = 0;
    char *letter = t->letters;

    for (const struct hw_option *o = program->options; o->name != NULL; o++)
        count++;
    t->count = count;
    t->longs = hw_alloc((2 * count + 3) * sizeof(*t->longs));
    t->names = hw_alloc((count + 1) * sizeof(*t->names));
    *letter++ = ':'; /* getopt then tells a missing value from an unknown option */
    for (size_t i = 0; i < count; i++) {
        const struct hw_option *o = &program->options[i];
        const bool flag = o->type == HW_OPT_FLAG;

        if (o->env_only) { /* getopt must know it, so that its name is not taken for the beginning
                              of another one; read_flags refuses it */
            t->longs[next++] = (struct option){
                .name = o->name, .has_arg = required_argument, .val = FIRST_LONG + 2 * (int)i};
            continue;
        }
        t->longs[next++] = (struct option){.name = o->name,
                                           .has_arg = flag ? no_argument : required_argument,
                                           .val = FIRST_LONG + 2 * (int)i};
        if (o->letter != 0) {
            *letter++ = o->letter;
            if (!flag)
                *letter++ = ':';
        }
        if (flag) {
            t->names[i] = hw_sprintf("no-%s", o->name);
            t->longs[next++] = (struct option){
                .name = t->names[i], .has_arg = no_argument, .val = FIRST_LONG + 2 * (int)i + 1};
        }
    }
    t->longs[next++] = (struct option){.name = "help", .val = OPTION_HELP};
    t->longs[next++] = (struct option){.name = "version", .val = OPTION_VERSION};
    *letter++ = 'h';
    *letter = 'V';
}

static void free_tables(const struct hw_program *program, struct tables *t)
{
    for (size_t i = 0; program->options[i].name != NULL; i++)
        free(t->names[i]);
    free(t->names);
    free(t->longs);
}

/* An empty variable counts as one that is not set, because a service manager's file often has
 * NAME= for "no value". For a switch an empty text is false. */
static enum hw_status read_environment(const struct hw_program *program, void *values,
                                       struct hw_error *err)
{
    for (const struct hw_option *o = program->options; o->name != NULL; o++) {
        const char *text = o->env != NULL ? getenv(o->env) : NULL;
        const char *from = o->env;

        if (text == NULL || (*text == '\0' && o->type != HW_OPT_FLAG)) {
            text = o->preset;
            from = o->name;
        }
        if (text == NULL)
            continue;
        const enum hw_status status = store(o, text, from, values, err);
        if (status != HW_OK)
            return status;
    }
    return HW_OK;
}

/* The options whose names begin with a word, with ", " between them, or NULL; malloc'ed. */
static char *beginning_with(const struct hw_program *program, const char *word, size_t len)
{
    char *list = NULL;

    for (const struct hw_option *o = program->options; o->name != NULL; o++) {
        if (o->env_only || strncmp(o->name, word, len) != 0)
            continue;
        char *const before = list;

        list = hw_sprintf("%s%s--%s", before != NULL ? before : "", before != NULL ? ", " : "",
                          o->name);
        free(before);
    }
    return list;
}

/* argument: as the user wrote it. Text behind a = is not repeated, because it may be a secret. */
static enum hw_status refuse_option(const struct hw_program *program, const char *argument,
                                    struct hw_error *err)
{
    const int len = (int)strcspn(argument, "=");
    HW_AUTO_FREE char *word = hw_strndup(argument, (size_t)len);
    const char *name = word + strspn(word, "-");
    struct hw_nearest nearest = {.word = name};

    if (optopt > ' ' && optopt <= '~')
        return hw_fail(err, HW_EINVAL, "-%c: no such option", optopt);
    if (optopt >= FIRST_LONG && argument[len] == '=')
        return hw_fail(err, HW_EINVAL, "%s: it is a switch and takes no value", word);
    HW_AUTO_FREE char *several = *name != '\0' ? beginning_with(program, name, strlen(name)) : NULL;
    if (several != NULL)
        return hw_fail(err, HW_EINVAL, "%s: several options begin so: %s", word, several);
    for (const struct hw_option *o = program->options; o->name != NULL; o++)
        if (!o->env_only)
            hw_nearest_try(&nearest, o->name);
    if (nearest.best != NULL)
        return hw_fail(err, HW_EINVAL, "%s: no such option; did you mean --%s?", word,
                       nearest.best);
    return hw_fail(err, HW_EINVAL, "%s: no such option", word);
}

/* getopt leaves in optopt the option whose value is missing. */
static enum hw_status refuse_missing(const struct hw_program *program, const char *argument,
                                     struct hw_error *err)
{
    for (const struct hw_option *o = program->options; o->name != NULL; o++) {
        const size_t i = (size_t)(o - program->options);

        if (optopt == FIRST_LONG + 2 * (int)i || (o->letter != 0 && optopt == o->letter))
            return hw_fail(err, HW_EINVAL, "--%s: a value is missing: --%s %s", o->name, o->name,
                           o->value != NULL ? o->value : "VALUE");
    }
    return hw_fail(err, HW_EINVAL, "%s: a value is missing", argument);
}

/* *help: it was asked for. given: for each option, whether it was given. */
static enum hw_status read_flags(const struct hw_program *program, const struct tables *t, int argc,
                                 char **argv, void *values, bool *help, bool *given,
                                 struct hw_error *err)
{
    int c;

    optind = 0;
    opterr = 0;
    while ((c = getopt_long(argc, argv, t->letters, t->longs, NULL)) != -1) {
        const struct hw_option *o = NULL;
        char from[64];

        if (c == 'h' || c == OPTION_HELP) {
            *help = true;
            continue;
        }
        if (c == 'V' || c == OPTION_VERSION) {
            printf("%s %s\n", program->name, HW_VERSION);
            exit(HW_EXIT_OK);
        }
        if (c == ':')
            return refuse_missing(program, argv[optind - 1], err);
        if (c == '?')
            return refuse_option(program, argv[optind - 1], err);
        if (c >= FIRST_LONG)
            o = &program->options[(c - FIRST_LONG) / 2];
        else
            for (o = program->options; o->letter != c; o++)
                ;
        if (o->env_only)
            return hw_fail(
                err, HW_EINVAL,
                "--%s: no such option, since others can read the arguments; it goes into "
                "%s",
                o->name, o->env);
        if (o->type == HW_OPT_LIST && !given[o - program->options]) {
            char **const list = (char **)((char *)values + o->offset);

            free(*list); /* the values of the environment, which the flag replaces */
            *list = NULL;
        }
        given[o - program->options] = true;
        if (o->by_flag != 0)
            *(bool *)((char *)values + o->by_flag) = true;
        snprintf(from, sizeof(from), "--%s", o->name);
        const bool negated = c >= FIRST_LONG && (c - FIRST_LONG) % 2 == 1;
        const char *text = o->type != HW_OPT_FLAG ? optarg : negated ? "false" : "true";
        const enum hw_status status = store(o, text, from, values, err);
        if (status != HW_OK)
            return status;
    }
    return HW_OK;
}

/* An option that only other commands take is refused, so that nobody believes that it did
 * something. */
static enum hw_status check_given(const struct hw_program *program, const char *command,
                                  const bool *given, struct hw_error *err)
{
    const struct hw_option *o = program->options;

    while (o->name != NULL && (!given[o - program->options] || is_listed(o->commands, command)))
        o++;
    if (o->name == NULL)
        return HW_OK;
    HW_AUTO_FREE char *first = hw_strndup(o->commands, strcspn(o->commands, " "));
    return hw_fail(err, HW_EINVAL, "--%s: %s does not take it; %s%s", o->name, command, first,
                   strchr(o->commands, ' ') != NULL ? " and others do" : " does");
}

/* The names of all commands, with ", " between them; malloc'ed. */
static char *command_names(const struct hw_program *program)
{
    char *list = hw_strdup("");

    for (const struct hw_command *c = program->commands; c->name != NULL; c++) {
        char *const before = list;

        list = hw_sprintf("%s%s%s", before, *before != '\0' ? ", " : "", c->name);
        free(before);
    }
    return list;
}

/* Takes the command out of the operands that getopt left. */
static enum hw_status read_command(const struct hw_program *program, int argc, char **argv,
                                   const struct hw_command **command, struct hw_error *err)
{
    const struct hw_command *c = program->commands;

    *command = NULL;
    if (c == NULL || optind >= argc)
        return HW_OK;
    struct hw_nearest nearest = {.word = argv[optind]};
    /* A word processor turns two hyphens into an en or em dash. */
    if (strncmp(argv[optind], "\xE2\x80\x93", 3) == 0 ||
        strncmp(argv[optind], "\xE2\x80\x94", 3) == 0)
        return hw_fail(err, HW_EINVAL,
                       "%s: it begins with a dash where hyphens belong: type them anew",
                       argv[optind]);
    while (c->name != NULL && strcmp(c->name, argv[optind]) != 0)
        hw_nearest_try(&nearest, c++->name);
    if (c->name == NULL && nearest.best != NULL)
        return hw_fail(err, HW_EINVAL, "%s: no such command; did you mean %s?", argv[optind],
                       nearest.best);
    if (c->name == NULL) {
        HW_AUTO_FREE char *names = command_names(program);

        return hw_fail(err, HW_EINVAL, "%.100s: no such command; there are: %s%s", argv[optind],
                       names, program->needs_command ? "" : "; without one the service runs");
    }
    *command = c;
    optind++;
    return HW_OK;
}

/* tls.client_ca is --tls-client-ca; malloc'ed. */
static char *flag_of(const char *member)
{
    char *flag = hw_strdup(member);

    for (char *p = flag; *p != '\0'; p++)
        if (*p == '_' || *p == '.')
            *p = '-';
    return flag;
}

/* --tls-client-ca is HEADWATER_TLS_CLIENT_CA; malloc'ed. */
static char *variable_of(const char *flag)
{
    char *variable = hw_sprintf("HEADWATER_%s", flag);

    for (char *p = variable; *p != '\0'; p++)
        *p = (char)(*p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p);
    return variable;
}

/* A copy of the program's table in which every row has its name and its variable. */
static struct hw_option *derive_rows(const struct hw_option *table)
{
    struct hw_option *rows;
    size_t count = 0;

    while (table[count].member != NULL || table[count].name != NULL)
        count++;
    rows = hw_alloc((count + 1) * sizeof(*rows));
    for (size_t i = 0; i < count; i++) {
        struct hw_option *const o = &rows[i];

        *o = table[i];
        if (o->name == NULL)
            o->name = flag_of(o->member);
        if (o->member != NULL && o->env == NULL && !o->no_env)
            o->env = variable_of(o->name);
    }
    return rows;
}

static void free_rows(const struct hw_option *table, struct hw_option *rows)
{
    for (size_t i = 0; rows[i].name != NULL; i++) {
        if (rows[i].name != table[i].name)
            free((void *)(uintptr_t)rows[i].name);
        if (rows[i].env != table[i].env)
            free((void *)(uintptr_t)rows[i].env);
    }
    free(rows);
}

/* program: its table gives every row a name. */
static enum hw_status parse(const struct hw_program *program, int argc, char **argv, void *values,
                            const char **command, char ***operands, int *count,
                            struct hw_error *err)
{
    const struct hw_command *chosen = NULL;
    struct tables tables = {0};
    enum hw_status status;
    bool help = false;

    status = read_environment(program, values, err);
    if (status != HW_OK)
        return status;
    build_tables(program, &tables);
    HW_AUTO_FREE bool *given = hw_alloc((tables.count + 1) * sizeof(*given));
    status = read_flags(program, &tables, argc, argv, values, &help, given, err);
    free_tables(program, &tables);
    if (status == HW_OK)
        status = read_command(program, argc, argv, &chosen, err);
    if (status == HW_OK && help) {
        print_help(program, chosen);
        exit(HW_EXIT_OK);
    }
    if (status == HW_OK && chosen != NULL)
        status = check_given(program, chosen->name, given, err);
    if (status != HW_OK)
        return status;
    *command = chosen != NULL ? chosen->name : NULL;
    *operands = argv + optind;
    *count = argc - optind;
    return HW_OK;
}

enum hw_status hw_options_parse(const struct hw_program *program, int argc, char **argv,
                                void *values, const char **command, char ***operands, int *count,
                                struct hw_error *err)
{
    struct hw_option *const rows = derive_rows(program->options);
    struct hw_program derived = *program;
    enum hw_status status;

    derived.options = rows;
    status = parse(&derived, argc, argv, values, command, operands, count, err);
    free_rows(program->options, rows);
    return status;
}

int hw_options_usage_error(const struct hw_program *program, const struct hw_error *err)
{
    fprintf(stderr, "%s: %s\nTry: %s --help\n", program->name, err->message, program->name);
    return HW_EXIT_USAGE;
}

enum hw_status hw_options_log(const char *level, const char *format, struct hw_error *err)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};

    for (size_t i = 0; i < HW_COUNT(levels); i++) {
        if (strcmp(level, levels[i]) == 0) {
            hw_log_setup((enum hw_log_level)i,
                         strcmp(format, "json") == 0 ? HW_LOG_JSON : HW_LOG_LOGFMT);
            return HW_OK;
        }
    }
    return hw_fail(err, HW_EINVAL, "\"%s\" is not a log level", level);
}
