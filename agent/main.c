/*
 * headwater-agent: keeps one node's configuration file as the fleet's database wants it, and runs a
 * command when it changes. Options, signals, and the command; the rest is agent.c.
 */
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/command.h"
#include "common/buf.h"
#include "common/kv.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/notify.h"
#include "common/options.h"
#include "common/version.h"

#define NODE_MAX 128

struct options {
    const char *nats, *bucket, *node, *state_dir, *output, *mode, *apply;
    int64_t apply_timeout, poll, splay;
    const char *log_level, *log_format;
};

static const struct hw_option option_table[] = {
    HW_OPTION_NATS(struct options),
    HW_OPTION_BUCKET(struct options),
    {.name = "node",
     .env = "HEADWATER_NODE",
     .type = HW_OPT_STRING,
     .offset = offsetof(struct options, node),
     .value = "NAME",
     .help = "name of this node (default the host name)"},
    {.name = "state-dir",
     .env = "HEADWATER_STATE_DIR",
     .type = HW_OPT_STRING,
     .offset = offsetof(struct options, state_dir),
     .value = "DIR",
     .help = "where the agent keeps its state and copies (default see below)"},
    {.name = "output",
     .env = "HEADWATER_OUTPUT",
     .type = HW_OPT_STRING,
     .offset = offsetof(struct options, output),
     .value = "FILE",
     .help = "file that holds the node's configuration; required"},
    {.name = "mode",
     .env = "HEADWATER_MODE",
     .type = HW_OPT_STRING,
     .offset = offsetof(struct options, mode),
     .value = "OCTAL",
     .preset = "0644",
     .help = "permissions of that file"},
    {.name = "apply",
     .env = "HEADWATER_APPLY",
     .type = HW_OPT_STRING,
     .offset = offsetof(struct options, apply),
     .value = "COMMAND",
     .help = "command that makes the node use the file, run after every change"},
    {.name = "apply-timeout",
     .env = "HEADWATER_APPLY_TIMEOUT",
     .type = HW_OPT_DURATION,
     .offset = offsetof(struct options, apply_timeout),
     .value = "TIME",
     .preset = "60s",
     .help = "how long that command may take",
     .min = 1,
     .max = 86400000},
    {.name = "poll",
     .env = "HEADWATER_POLL",
     .type = HW_OPT_DURATION,
     .offset = offsetof(struct options, poll),
     .value = "TIME",
     .preset = "5m",
     .help = "mean time between looks at NATS without being told",
     .min = 100,
     .max = 86400000},
    {.name = "splay",
     .env = "HEADWATER_SPLAY",
     .type = HW_OPT_DURATION,
     .offset = offsetof(struct options, splay),
     .value = "TIME",
     .preset = "0s",
     .help = "wait a random part of this before a change is applied",
     .min = 0,
     .max = 86400000},
    HW_OPTIONS_LOG(struct options),
    {.name = NULL},
};

static const struct hw_program program = {
    .name = "headwater-agent",
    .summary = "keeps a node's configuration as the fleet's database wants it",
    .options = option_table,
    .notes =
        "The command is run without a shell. Blanks separate its words; 'single quotes' keep\n"
        "everything, \"double quotes\" everything but \\\" and \\\\, and a backslash elsewhere "
        "keeps the\n"
        "next character. It finds HEADWATER_NODE, HEADWATER_REVISION, HEADWATER_DIGEST,\n"
        "HEADWATER_MEDIA_TYPE and HEADWATER_FILE in its environment, and no other HEADWATER_\n"
        "variable. When it exits with 0, the node uses the file. Otherwise the last known good "
        "file\n"
        "is put back, the command runs for that, and the end of its output goes into the report.\n"
        "\n"
        "The default of --state-dir is NODE below /var/lib/headwater-agent for root, and below\n"
        "$XDG_STATE_HOME/headwater-agent (~/.local/state/headwater-agent) for others.\n"
        "\n"
        "Signals: SIGTERM and SIGINT end the agent, SIGHUP tries again what failed.\n"
        "Exit codes: 0 ended by a signal, 1 failure, 2 wrong usage.\n",
};

/* ---- the command ---- */

struct daemon {
    const struct options *options;
    struct hw_loop *loop;
    struct hw_notify *notify;
    struct agent *agent;
    char **argv;  /* of the command; NULL: none */
    char *record; /* names the command while it runs */
    struct agent_command *running;
};

static void on_command_done(void *arg, const char *error)
{
    struct daemon *d = arg;

    d->running = NULL;
    agent_applied(d->agent, error, false);
}

/* Our environment without our own settings, which may hold a password, and with the document's. */
static char **make_environment(const struct daemon *d, const struct agent_document *document)
{
    extern char **environ;
    char digest[HW_DIGEST_STR_MAX];
    size_t count = 0, kept = 0;
    char **env;

    while (environ[count] != NULL)
        count++;
    env = hw_alloc((count + 6) * sizeof(*env));
    env[kept++] = hw_sprintf("HEADWATER_NODE=%s", d->options->node);
    env[kept++] = hw_sprintf("HEADWATER_REVISION=%" PRId64, document->revision);
    env[kept++] = hw_sprintf("HEADWATER_DIGEST=%s", hw_digest_format(&document->digest, digest));
    env[kept++] = hw_sprintf("HEADWATER_MEDIA_TYPE=%s", document->media_type);
    env[kept++] = hw_sprintf("HEADWATER_FILE=%s", d->options->output);
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "HEADWATER_", 10) != 0)
            env[kept++] = hw_strdup(environ[i]);
    return env;
}

static void apply(void *arg, const struct agent_document *document)
{
    struct daemon *d = arg;
    char **env = make_environment(d, document);
    const struct agent_command_spec spec = {
        .argv = d->argv, .env = env, .timeout_ms = d->options->apply_timeout, .record = d->record};
    struct hw_error err;

    if (agent_command_start(d->loop, &spec, on_command_done, d, &d->running, &err) != HW_OK)
        agent_applied(d->agent, err.message, true);
    for (size_t i = 0; env[i] != NULL; i++)
        free(env[i]);
    free(env);
}

static void told(void *arg, enum hw_log_level level, const char *what,
                 const struct agent_document *document, const char *detail)
{
    const struct daemon *d = arg;
    struct hw_field fields[6];
    char digest[HW_DIGEST_STR_MAX];
    size_t count = 0;

    if (level > hw_log_level())
        return;
    fields[count++] = HW_S("node", d->options->node);
    if (document != NULL && document->set) {
        fields[count++] = HW_I("revision", document->revision);
        fields[count++] = HW_S("digest", hw_digest_format(&document->digest, digest));
        fields[count++] = HW_I("epoch", (int64_t)document->fence.epoch);
        fields[count++] = HW_L("lsn", document->fence.lsn);
    }
    if (detail != NULL)
        fields[count++] = HW_S("detail", detail);
    hw_log_fields(level, what, fields, count);
}

static void notify_ready(const struct daemon *d)
{
    HW_AUTO_FREE char *status =
        hw_sprintf("keeping %s as node %s is to run", d->options->output, d->options->node);

    hw_notify_ready(d->notify, status);
}

static void on_hangup(void *arg, int signo)
{
    struct daemon *d = arg;

    (void)signo;
    if (d->agent == NULL)
        return;
    hw_notify_reloading(d->notify);
    agent_retry(d->agent);
    notify_ready(d);
}

/* ---- options ---- */

static enum hw_status parse_mode(const char *text, mode_t *mode, struct hw_error *err)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 8);

    if (*text < '0' || *text > '7' || *end != '\0' || value > 0777)
        return hw_fail(err, HW_EINVAL, "--mode: \"%s\" is not an octal mode such as 0644", text);
    *mode = (mode_t)value;
    return HW_OK;
}

static char *default_state_dir(const char *node)
{
    const char *const state_home = getenv("XDG_STATE_HOME");
    const char *const home = getenv("HOME");

    if (geteuid() == 0)
        return hw_sprintf("/var/lib/headwater-agent/%s", node);
    if (state_home != NULL && state_home[0] == '/')
        return hw_sprintf("%s/headwater-agent/%s", state_home, node);
    return hw_sprintf("%s/.local/state/headwater-agent/%s", home != NULL ? home : "", node);
}

static enum hw_status check(struct options *o, mode_t *mode, char ***argv, struct hw_error *err)
{
    static char host[HOST_NAME_MAX + 1];

    if (o->node == NULL) {
        if (gethostname(host, sizeof(host) - 1) != 0)
            return hw_fail_errno(err, "asking for the host name, as no --node was given");
        o->node = host;
    }
    if (!hw_kv_key_valid(o->node) || strlen(o->node) > NODE_MAX)
        return hw_fail(err, HW_EINVAL,
                       "--node: \"%s\" is not a node name: at most %d letters, digits, - and _, in "
                       "parts joined by single dots",
                       o->node, NODE_MAX);
    if (!hw_kv_key_valid(o->bucket) || strchr(o->bucket, '.') != NULL)
        return hw_fail(err, HW_EINVAL,
                       "--bucket: \"%s\" is not a bucket name: letters, digits, - and _",
                       o->bucket);
    if (o->output == NULL)
        return hw_fail(err, HW_EINVAL, "--output (or HEADWATER_OUTPUT) is required");
    if (o->apply != NULL && agent_words_split(o->apply, argv, err) != HW_OK)
        return hw_fail_in(err, "--apply");
    return parse_mode(o->mode, mode, err);
}

static enum hw_status run(struct daemon *d, const struct agent_options *options,
                          struct hw_error *err)
{
    const struct agent_hooks hooks = {
        .apply = d->argv != NULL ? apply : NULL, .told = told, .arg = d};
    enum hw_status status;

    status = hw_loop_new(&d->loop, err);
    if (status == HW_OK)
        status = hw_loop_stop_on_signals(d->loop, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(d->loop, SIGHUP, on_hangup, d, err);
    if (status == HW_OK)
        status = hw_notify_open(d->loop, &d->notify, err);
    if (status == HW_OK)
        status = agent_open(d->loop, options, &hooks, &d->agent, err);
    if (status == HW_OK && agent_command_reap(d->record))
        hw_log_warn("ended the command that a killed agent had left running",
                    HW_S("node", options->node));
    if (status == HW_OK) {
        notify_ready(d);
        status = hw_loop_run(d->loop, err);
        hw_notify_stopping(d->notify);
    }
    agent_command_end(d->running);
    agent_close(d->agent);
    hw_notify_close(d->notify);
    hw_loop_free(d->loop);
    return status;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct daemon d = {.options = &options};
    struct agent_options core = {0};
    HW_AUTO_FREE char *state_dir = NULL;
    struct hw_error err;
    const char *command;
    char **operands;
    int count;
    enum hw_status status;

    status = hw_options_parse(&program, argc, argv, &options, &command, &operands, &count, &err);
    if (status == HW_OK && count > 0)
        status = hw_fail(&err, HW_EINVAL, "\"%s\": no operands are expected", operands[0]);
    if (status == HW_OK)
        status = hw_options_log(options.log_level, options.log_format, &err);
    if (status == HW_OK)
        status = check(&options, &core.mode, &d.argv, &err);
    if (status != HW_OK) {
        free(d.argv);
        return hw_options_usage_error(&program, &err);
    }
    state_dir =
        options.state_dir != NULL ? hw_strdup(options.state_dir) : default_state_dir(options.node);
    d.record = hw_sprintf("%s/command", state_dir);
    core.url = options.nats;
    core.node = options.node;
    core.bucket = options.bucket;
    core.state_dir = state_dir;
    core.output = options.output;
    core.poll_ms = options.poll;
    core.splay_ms = options.splay;
    hw_log_info("starting", HW_S("node", options.node), HW_S("version", HW_VERSION),
                HW_S("bucket", options.bucket), HW_S("output", options.output),
                HW_S("state_dir", state_dir));
    status = run(&d, &core, &err);
    if (status != HW_OK)
        hw_log_error("cannot run", HW_S("node", options.node), HW_E(&err));
    else
        hw_log_info("ended", HW_S("node", options.node));
    free(d.record);
    free(d.argv);
    return status == HW_OK ? HW_EXIT_OK : HW_EXIT_FAILURE;
}
