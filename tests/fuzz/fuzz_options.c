/* Command lines: one argument a line. Values stay within their bounds, whatever was given. */
#include <string.h>

#include "common/options.h"
#include "tests/fuzz/fuzz.h"

struct values {
    bool flag;
    const char *string, *choice;
    int64_t number, time, bytes;
};

static const struct hw_option table[] = {
    {.name = "flag", .letter = 'f', .type = HW_OPT_FLAG, .offset = offsetof(struct values, flag)},
    {.name = "string",
     .letter = 's',
     .type = HW_OPT_STRING,
     .offset = offsetof(struct values, string)},
    {.name = "choice",
     .type = HW_OPT_CHOICE,
     .offset = offsetof(struct values, choice),
     .choices = "one|two|three",
     .preset = "one"},
    {.name = "number",
     .letter = 'n',
     .type = HW_OPT_INT,
     .offset = offsetof(struct values, number),
     .min = -5,
     .max = 1000},
    {.name = "time",
     .letter = 't',
     .type = HW_OPT_DURATION,
     .offset = offsetof(struct values, time)},
    {.name = "bytes", .letter = 'b', .type = HW_OPT_SIZE, .offset = offsetof(struct values, bytes)},
    {0},
};
static const struct hw_command commands[] = {{.name = "run"}, {.name = "stop"}, {0}};
static const struct hw_program program = {
    .name = "fuzz", .summary = "", .options = table, .commands = commands};

/* --help and --version end the program, as they should. */
static bool ends_program(const char *argument)
{
    return strncmp(argument, "--h", 3) == 0 || strncmp(argument, "--v", 3) == 0 ||
           (argument[0] == '-' && argument[1] != '-' && strpbrk(argument, "hV") != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HW_AUTO_FREE char *text = fuzz_text(data, size);
    char program_name[] = "fuzz";
    char *argv[18] = {program_name};
    char *rest = text, *argument;
    struct values values = {0};
    struct hw_error err = {0};
    const char *command;
    char **operands;
    int argc = 1, count;
    int64_t ms;

    if (hw_options_duration(text, &ms))
        FUZZ_HOLDS(ms >= 0);
    while (argc < 17 && (argument = strsep(&rest, "\n")) != NULL) {
        if (ends_program(argument))
            return 0;
        argv[argc++] = argument;
    }
    if (hw_options_parse(&program, argc, argv, &values, &command, &operands, &count, &err) !=
        HW_OK) {
        FUZZ_HOLDS(err.status == HW_EINVAL && err.message[0] != '\0');
        return 0;
    }
    FUZZ_HOLDS(values.number >= -5 && values.number <= 1000);
    FUZZ_HOLDS(values.time >= 0 && values.bytes >= 0);
    FUZZ_HOLDS(strcmp(values.choice, "one") == 0 || strcmp(values.choice, "two") == 0 ||
               strcmp(values.choice, "three") == 0);
    FUZZ_HOLDS(count >= 0 && count < argc);
    FUZZ_HOLDS(command == NULL || strcmp(command, "run") == 0 || strcmp(command, "stop") == 0);
    return 0;
}
