/*
 * The options of a program: one declarative table. Every option is a flag and an environment
 * variable, and the flag wins. --help and --version are made of the table alone, and the tests
 * compare the manual pages with it.
 */
#ifndef HW_OPTIONS_H
#define HW_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum hw_option_type {
    HW_OPT_FLAG,     /* bool; --name and --no-name; environment: 1, true, yes / 0, false, no */
    HW_OPT_STRING,   /* const char *; points into argv, the environment or the table */
    HW_OPT_INT,      /* int64_t within min..max */
    HW_OPT_DURATION, /* int64_t milliseconds: 500ms, 2s, 5m, 1h (a bare number is seconds) */
    HW_OPT_SIZE,     /* int64_t bytes: 65536, 64KiB, 16MiB, 1GiB */
    HW_OPT_CHOICE,   /* const char *; one of choices, separated by '|' */
    HW_OPT_LIST, /* char *; malloc'ed; several values, ':' between them: the flag may come again */
};

/* A row that has neither member nor name ends the table. */
struct hw_option {
    const char *
        member; /* of the struct: tls.client_ca gives --tls-client-ca and HEADWATER_TLS_CLIENT_CA */
    const char *name; /* without dashes; NULL: as member says */
    const char *env;  /* environment variable; NULL: as name says, if there is a member */
    bool no_env;      /* there is no variable */
    char letter;      /* short flag, or 0 */
    enum hw_option_type type;
    size_t offset;     /* of the member in the program's struct of options */
    size_t by_flag;    /* of a bool that becomes true when a flag, and not the environment, gave the
                          value; 0: there is none */
    const char *value; /* what the value is called in help, for example "URL" */
    const char *preset; /* default as text, or NULL */
    const char *help;
    const char *choices;
    int64_t min, max; /* both 0: any number */
    bool secret;      /* never echo its value */
    bool env_only;    /* no flag: other users could see it among the arguments of the process */
    /* Refuses a text that can never be a value of this option, or NULL. Of a STRING. */
    enum hw_status (*check)(const char *text, struct hw_error *err);
    const char *commands; /* the commands that take it, separated by blanks; NULL: all */
};

struct hw_command {
    const char *name;      /* NULL ends the table */
    const char *arguments; /* as in help, or NULL */
    const char *help;
};

struct hw_program {
    const char *name;
    const char *summary;               /* one line */
    const struct hw_option *options;   /* common options are in the table like any other */
    const struct hw_command *commands; /* or NULL: the program takes none */
    bool needs_command;                /* for --help only: main checks it */
    const char *notes;                 /* printed last by --help: exit codes, examples; or NULL */
};

/*
 * Fills *values from presets, environment and argv. If the program has commands and one was given,
 * *command is its name, otherwise NULL. *operands are the *count words that are left; they point
 * into argv, which is permuted. A flag that the command does not take is refused. --help (behind a
 * command: the help of that command) and --version print and exit(0).
 */
enum hw_status hw_options_parse(const struct hw_program *program, int argc, char **argv,
                                void *values, const char **command, char ***operands, int *count,
                                struct hw_error *err) HW_CHECKED;

/* Reads a time as the options take it, in milliseconds: "500ms", "30d". False: text is none. */
bool hw_options_duration(const char *text, int64_t *ms);

/* Prints err and a hint to --help on stderr; returns HW_EXIT_USAGE for main to return. */
int hw_options_usage_error(const struct hw_program *program, const struct hw_error *err);

/* Sets up the log from the two standard options. */
enum hw_status hw_options_log(const char *level, const char *format,
                              struct hw_error *err) HW_CHECKED;

/*
 * A row of a table: owner is the struct that has the member, kind the type without HW_OPT_. What
 * else a row says follows by name:
 *
 *     HW_OPTION(struct options, keep, INT, "COUNT", "how many to keep", .preset = "5", .min = 1)
 */
#define HW_OPTION(owner, member_, kind, shown, text, ...)                                          \
    {                                                                                              \
        .member = #member_, .type = HW_OPT_##kind, .offset = offsetof(owner, member_),             \
        .value = (shown), .help = (text), __VA_ARGS__                                              \
    }
/* The same without an environment variable. */
#define HW_OPTION_NO_ENV(owner, member_, kind, shown, ...)                                         \
    HW_OPTION(owner, member_, kind, shown, __VA_ARGS__, .no_env = true)

/* ---- options that several programs share ---- */

#define HW_OPTIONS_LOG(owner)                                                                      \
    HW_OPTION(owner, log_level, CHOICE, "LEVEL", "how much to log", .preset = "info",              \
              .choices = "error|warn|info|debug"),                                                 \
        HW_OPTION(owner, log_format, CHOICE, "FORMAT", "how to write each line of the log",        \
                  .preset = "logfmt", .choices = "logfmt|json")
/* Needs pg/conninfo.h. */
#define HW_OPTION_DATABASE(owner)                                                                  \
    HW_OPTION(owner, database, STRING, "URL",                                                      \
              "the PostgreSQL database, as a libpq URI or connection string",                      \
              .env = "HEADWATER_DATABASE_URL", .secret = true, .check = hw_conninfo_check)
#define HW_OPTION_MONITOR(owner)                                                                   \
    HW_OPTION(                                                                                     \
        owner, monitor, STRING, "HOST:PORT",                                                       \
        "where to show /healthz, /readyz and /metrics; a loopback address; default: nowhere")
/* Needs nats/url.h. */
#define HW_OPTION_NATS(owner)                                                                      \
    HW_OPTION(owner, nats, STRING, "URL",                                                          \
              "where NATS is; a comma between the servers of a cluster",                           \
              .env = "HEADWATER_NATS_URL", .preset = "nats://127.0.0.1:4222", .secret = true,      \
              .check = hw_nats_url_check)
/* owner has a struct hw_nats_files nats_files. */
#define HW_OPTIONS_NATS_FILES(owner)                                                               \
    HW_OPTION(owner, nats_files.ca, STRING, "FILE",                                                \
              "certificates of the authorities that NATS is checked against; needs TLS",           \
              .name = "nats-ca"),                                                                  \
        HW_OPTION(owner, nats_files.cert, STRING, "FILE", "TLS certificate to show to NATS",       \
                  .name = "nats-cert"),                                                            \
        HW_OPTION(owner, nats_files.key, STRING, "FILE", "private key of that certificate",        \
                  .name = "nats-key"),                                                             \
        HW_OPTION(owner, nats_files.creds, STRING, "FILE", "credentials file for NATS",            \
                  .name = "nats-creds"),                                                           \
        HW_OPTION(owner, nats_files.nkey, STRING, "FILE", "nkey seed of the user in NATS",         \
                  .name = "nats-nkey")
#define HW_OPTION_BUCKET(owner)                                                                    \
    HW_OPTION(owner, bucket, STRING, "NAME",                                                       \
              "bucket of desired state and objects; reports go to NAME_reports",                   \
              .preset = "headwater")
#define HW_OPTION_SLOT(owner, text)                                                                \
    HW_OPTION(owner, slot, STRING, "NAME", text, .preset = "headwater")

/* Exit codes that every program shares. */
#define HW_EXIT_OK      0
#define HW_EXIT_FAILURE 1
#define HW_EXIT_USAGE   2

#endif
