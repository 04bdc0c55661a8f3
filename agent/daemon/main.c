/*
 * headwater-agent: keeps one node's configuration file as the fleet's database wants it, and runs
 * commands when it changes. It is a program like any other that uses libheadwater-agent, with a
 * loop of its own; this file has its options, signals and log, runner.c its commands.
 */
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/daemon/command.h"
#include "agent/daemon/local.h"
#include "agent/daemon/metrics.h"
#include "agent/daemon/runner.h"
#include "agent/daemon/words.h"
#include "agent/disk/store.h"
#include "agent/library/headwater_agent.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/names.h"
#include "common/log.h"
#include "common/notify.h"
#include "common/options.h"
#include "common/streams.h"
#include "common/version.h"
#include "nats/kv.h"
#include "nats/url.h"
#include "protocol/permissions.h"

#define QUIET_MS 5000 /* how long nothing happens before memory is given back */

struct options {
    const char *nats, *nats_prefix, *bucket, *node, *state_dir, *output, *output_dir, *mode, *owner,
        *drift;
    const char *validate, *apply, *health;
    int64_t validate_timeout, apply_timeout, health_timeout, health_within;
    int64_t keep, poll, heartbeat, splay, confirm_within;
    bool json, wait;
    const char *config, *file, *message, *media_type;
    int64_t base_revision;
    const char *monitor;
    char *trust;
    struct hw_nats_files nats_files;
    const char *log_level, *log_format;
};

#define OPTION(member, ...)    HW_OPTION(struct options, member, __VA_ARGS__)
#define FLAG_ONLY(member, ...) HW_OPTION_NO_ENV(struct options, member, __VA_ARGS__)

static const struct hw_option option_table[] = {
    HW_OPTION_NATS(struct options),
    HW_OPTIONS_NATS_FILES(struct options),
    OPTION(nats_prefix, STRING, "SUBJECT",
           "what the node's account maps JetStream's API and its keys to; for leaf nodes"),
    HW_OPTION_BUCKET(struct options),
    OPTION(node, STRING, "NAME", "name of this node (default the host name)"),
    OPTION(state_dir, STRING, "DIR",
           "where the agent keeps its state and copies (default see below)"),
    OPTION(output, STRING, "FILE",
           "file that holds the node's configuration; this or --output-dir is required"),
    OPTION(output_dir, STRING, "DIR",
           "directory of generations; the link \"current\" in it names the one that runs"),
    OPTION(keep, INT, "COUNT", "generations to keep in that directory", .preset = "5", .min = 1,
           .max = 1000),
    OPTION(mode, STRING, "OCTAL", "permissions of the file, or of each generation",
           .preset = "0644"),
    OPTION(owner, STRING, "USER[:GROUP]", "its owner (default who runs the agent)"),
    OPTION(drift, CHOICE, "ACTION", "what to do about an output that someone else changed",
           .preset = "heal", .choices = "heal|report"),
    OPTION(trust, LIST, "FILE",
           "public key that desired state must be signed with, Ed25519 as PEM; may be given "
           "again: one of them"),
    OPTION(validate, STRING, "COMMAND",
           "command that says whether a document may be applied, before it is in place"),
    OPTION(validate_timeout, DURATION, "TIME", "how long that command may take", .preset = "60s",
           .min = 1, .max = 86400000),
    OPTION(apply, STRING, "COMMAND",
           "command that makes the node use the file, run after every change"),
    OPTION(apply_timeout, DURATION, "TIME", "how long that command may take", .preset = "60s",
           .min = 1, .max = 86400000),
    OPTION(health, STRING, "COMMAND", "command that says whether the node is well after a change"),
    OPTION(health_timeout, DURATION, "TIME", "how long one run of that command may take",
           .preset = "10s", .min = 1, .max = 86400000),
    OPTION(health_within, DURATION, "TIME", "run it again until it succeeds, at most this long",
           .preset = "30s", .min = 0, .max = 86400000),
    OPTION(confirm_within, DURATION, "TIME",
           "go back when NATS is not reached this long after a change; 0: never", .preset = "0s",
           .min = 0, .max = 86400000),
    OPTION(poll, DURATION, "TIME",
           "mean time between looks at NATS and the output without being told", .preset = "5m",
           .min = 100, .max = 86400000),
    OPTION(heartbeat, DURATION, "TIME", "mean time between signs of life; 0: none", .preset = "30s",
           .min = 0, .max = 86400000),
    OPTION(splay, DURATION, "TIME", "wait a random part of this before a change is applied",
           .preset = "0s", .min = 0, .max = 86400000),
    HW_OPTION_MONITOR(struct options),
    OPTION(json, FLAG, NULL, "status: print JSON"),
    FLAG_ONLY(config, STRING, "NAME", "propose: the config to change"),
    FLAG_ONLY(file, STRING, "FILE", "propose: what its content is to be"),
    FLAG_ONLY(base_revision, INT, "REVISION",
              "propose: of the config; 0: the one that this node runs", .preset = "0", .min = 0,
              .max = INT_MAX),
    FLAG_ONLY(media_type, STRING, "TYPE", "propose: of the content (default the config's)"),
    FLAG_ONLY(message, STRING, "TEXT", "propose: why"),
    FLAG_ONLY(wait, FLAG, NULL, "propose: wait for the decision; fail unless it is approved"),
    HW_OPTIONS_LOG(struct options),
    {.name = NULL},
};

static const struct hw_command commands[] = {
    {.name = "hold", .arguments = "[REASON]", .help = "let new configuration wait"},
    {.name = "propose", .help = "propose new content for a config; needs no NATS now"},
    {.name = "release", .help = "end the hold"},
    {.name = "status", .help = "print what the state directory says; needs no agent and no NATS"},
    {.name = "permissions",
     .help = "print the node's account for nats-server's configuration; needs no NATS"},
    {.name = NULL},
};

static const struct hw_program program = {
    .name = "headwater-agent",
    .summary = "keeps a node's configuration as the fleet's database wants it",
    .options = option_table,
    .commands = commands,
    .notes =
        "Without a command it runs the service.\n"
        "The node's commands are run without a shell: && | ; > $NAME need sh -c '...', and are\n"
        "refused outside of quotes. Blanks separate words; 'single quotes' keep\n"
        "everything, \"double quotes\" everything but \\\" and \\\\, and a backslash elsewhere "
        "keeps the\n"
        "next character. They find HEADWATER_NODE, HEADWATER_REVISION, HEADWATER_DIGEST,\n"
        "HEADWATER_MEDIA_TYPE and HEADWATER_FILE in their environment, and no other HEADWATER_\n"
        "variable. --apply exits with 0 when the node uses the file. Otherwise the last known "
        "good\n"
        "file is put back, the command runs for that, and the end of its output goes into the "
        "report.\n"
        "\n"
        "The default of --state-dir is NODE below /var/lib/headwater-agent for root, and below\n"
        "$XDG_STATE_HOME/headwater-agent (~/.local/state/headwater-agent) for others.\n"
        "\n"
        "Signals: SIGTERM and SIGINT end the agent, SIGHUP tries again what failed,\n"
        "and reads certificates, credentials and trusted keys again.\n"
        "Exit codes: 0 ended by a signal, or done, 1 failure, 2 wrong usage.\n",
};

/* ---- the service ---- */

struct daemon {
    struct hw_loop *loop;
    struct hw_notify *notify;
    char *what; /* what it does, for the service manager */
    struct agent_runner *runner;
    struct headwater_agent *agent;
    struct hw_timer quiet; /* runs from the last time that something happened */
};

/* arg is the runner, as for all callbacks; the log takes its node from it. */
static void on_log(void *arg, enum headwater_agent_level level, const char *message,
                   const struct headwater_agent_document *about, const char *detail)
{
    struct hw_field fields[6];
    size_t count = 0;

    fields[count++] = HW_S("node", agent_runner_node(arg));
    if (about != NULL) {
        fields[count++] = HW_I("revision", about->revision);
        fields[count++] = HW_S("digest", about->digest);
        fields[count++] = HW_I("epoch", (int64_t)about->epoch);
        fields[count++] = HW_S("lsn", about->lsn);
    }
    if (detail != NULL)
        fields[count++] = HW_S("detail", detail);
    hw_log_fields((enum hw_log_level)level, message, fields, count);
}

static void on_quiet(void *arg)
{
    (void)arg;
    hw_memory_trim();
}

static void on_ready(void *arg, short revents)
{
    struct daemon *d = arg;

    (void)revents;
    headwater_agent_dispatch(d->agent);
    hw_timer_start(d->loop, &d->quiet, QUIET_MS, on_quiet, d);
}

static void on_hangup(void *arg, int signo)
{
    struct daemon *d = arg;

    (void)signo;
    if (d->agent == NULL)
        return;
    hw_notify_reloading(d->notify);
    headwater_agent_retry(d->agent);
    hw_notify_ready(d->notify, d->what);
}

static void on_child(void *arg, int signo)
{
    struct daemon *d = arg;

    (void)signo;
    agent_runner_reap(d->runner);
}

static enum hw_status open_agent(struct daemon *d, struct headwater_agent_options *options,
                                 struct hw_error *err)
{
    char error[HEADWATER_AGENT_ERROR_MAX];

    agent_runner_fill(d->runner, options);
    options->log = on_log;
    options->arg = d->runner;
    if (headwater_agent_new(options, &d->agent, error) != 0)
        return hw_fail(err, HW_EIO, "%s", error);
    agent_runner_serve(d->runner, d->agent);
    return HW_OK;
}

static enum hw_status run(struct daemon *d, struct headwater_agent_options *options,
                          const struct agent_runner_options *commands_of,
                          const char *monitor_address, struct hw_error *err)
{
    struct hw_monitor *monitor = NULL;
    struct hw_io *io = NULL;
    enum hw_status status;

    status = hw_loop_new(&d->loop, err);
    if (status == HW_OK)
        status = hw_loop_stop_on_signals(d->loop, err);
    if (status == HW_OK)
        status = hw_loop_pass_over_signals(d->loop, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(d->loop, SIGHUP, on_hangup, d, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(d->loop, SIGCHLD, on_child, d, err);
    if (status == HW_OK)
        status = hw_notify_open(d->loop, &d->notify, err);
    if (status == HW_OK) {
        d->runner = agent_runner_new(d->loop, commands_of);
        agent_runner_reap(d->runner); /* children that ended before SIGCHLD was listened to */
        status = open_agent(d, options, err);
    }
    if (status == HW_OK && agent_command_reap(commands_of->record))
        hw_log_warn("ended the command that a killed agent had left running",
                    HW_S("node", options->node));
    if (status == HW_OK) {
        const struct hw_monitor_source source = {
            .check = agent_metrics_check, .metrics = agent_metrics_write, .arg = d->agent};

        status = hw_monitor_start(d->loop, monitor_address, &source, &monitor, err);
        if (status != HW_OK)
            hw_fail_in(err, "--monitor");
    }
    if (status == HW_OK) {
        if (monitor != NULL)
            hw_log_info("showing metrics", HW_S("node", options->node),
                        HW_S("monitor", hw_monitor_name(monitor)));
        io = hw_io_add(d->loop, headwater_agent_fd(d->agent), POLLIN, on_ready, d);
        d->what = hw_sprintf("keeping %s as node %s is to run",
                             options->output != NULL ? options->output : options->output_dir,
                             options->node);
        hw_notify_ready(d->notify, d->what);
        status = hw_loop_run(d->loop, err);
        hw_notify_stopping(d->notify);
    }
    hw_timer_stop(&d->quiet);
    hw_monitor_stop(monitor);
    hw_io_remove(io);
    agent_runner_end(d->runner);
    headwater_agent_free(d->agent);
    agent_runner_free(d->runner);
    hw_notify_close(d->notify);
    free(d->what);
    hw_loop_free(d->loop);
    return status;
}

/* ---- options ---- */

static enum hw_status parse_mode(const char *text, mode_t *mode, struct hw_error *err)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 8);

    if (*text < '0' || *text > '7' || *end != '\0' || value > 0777 || value == 0)
        return hw_fail(err, HW_EINVAL, "--mode: \"%s\" is not an octal mode such as 0644", text);
    *mode = (mode_t)value;
    return HW_OK;
}

static bool parse_id(const char *text, unsigned *id)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || value >= UINT_MAX)
        return false;
    *id = (unsigned)value;
    return true;
}

static enum hw_status parse_owner(const char *text, struct headwater_agent_options *options,
                                  struct hw_error *err)
{
    HW_AUTO_FREE char *user = hw_strndup(text, strcspn(text, ":"));
    const char *const group = strchr(text, ':') != NULL ? strchr(text, ':') + 1 : NULL;
    const struct passwd *pw;
    const struct group *gr;

    if (user[0] != '\0' && !parse_id(user, &options->owner)) {
        pw = getpwnam(user);
        if (pw == NULL)
            return hw_fail(err, HW_EINVAL, "--owner: there is no user \"%s\"", user);
        options->owner = pw->pw_uid;
    }
    if (group != NULL && !parse_id(group, &options->group)) {
        gr = getgrnam(group);
        if (gr == NULL)
            return hw_fail(err, HW_EINVAL, "--owner: there is no group \"%s\"", group);
        options->group = gr->gr_gid;
    }
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

static enum hw_status split(const char *flag, const char *line, char ***argv, struct hw_error *err)
{
    const char *glob = NULL;

    if (line == NULL)
        return HW_OK;
    if (agent_words_check(line, &glob, err) != HW_OK || agent_words_split(line, argv, err) != HW_OK)
        return hw_fail_in(err, "%s", flag);
    if (glob != NULL)
        hw_log_warn("no shell reads this command: the pattern in it goes to it as it is; sh -c "
                    "'\xE2\x80\xA6' has it expanded",
                    HW_S("option", flag), HW_S("at", glob));
    return HW_OK;
}

/* Finds the node's name, which every command needs. *node_given: it is not only the host's name. */
static enum hw_status check_node(struct options *o, bool *node_given, struct hw_error *err)
{
    static char host[HOST_NAME_MAX + 1];

    *node_given = o->node != NULL;
    if (o->node == NULL) {
        if (gethostname(host, sizeof(host) - 1) != 0)
            return hw_fail_errno(err, "asking for the host name, as no --node was given");
        o->node = host;
    }
    if (hw_name_check(o->node, err) != HW_OK)
        return hw_fail_in(err, "--node");
    return HW_OK;
}

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum hw_status check_output(const struct options *o, const char *state_dir,
                                   struct hw_error *err)
{
    const char *const path = o->output != NULL ? o->output : o->output_dir;

    if (o->output == NULL && o->output_dir == NULL)
        return hw_fail(err, HW_EINVAL,
                       "where does the configuration go? --output FILE (or HEADWATER_OUTPUT) or "
                       "--output-dir DIR (or HEADWATER_OUTPUT_DIR) is required");
    if (o->output != NULL && o->output_dir != NULL)
        return hw_fail(err, HW_EINVAL,
                       "--output (or HEADWATER_OUTPUT), here %.200s, and --output-dir (or "
                       "HEADWATER_OUTPUT_DIR), here %.200s, exclude each other: give the one, a "
                       "file, or the other, a directory of generations",
                       o->output, o->output_dir);
    if (agent_store_owns(state_dir, path))
        return hw_fail(err, HW_EINVAL,
                       "%s: %.300s is the agent's own in its state directory %.300s: name another "
                       "file",
                       o->output != NULL ? "--output" : "--output-dir", path, state_dir);
    return HW_OK;
}

/* Warns of an output that cannot be written now. It is no error: it may be mended, and until then
 * the fleet hears of it when something is to be applied. */
static void warn_of_output(const struct options *o, const char *path)
{
    HW_AUTO_FREE char *parent = hw_file_parent(path);
    const char *problem = NULL;

    if (o->output != NULL && is_directory(path))
        problem = "--output is a directory: name the file in it, or give --output-dir for a "
                  "directory of generations";
    else if (o->output != NULL && !is_directory(parent))
        problem = "the directory of --output is not there, and is not made: make it";
    else if (o->output == NULL && access(path, F_OK) != 0)
        problem = "--output-dir is not there, and is not made: make it";
    else if (o->output == NULL && !is_directory(path))
        problem = "--output-dir is a file: for one file, give --output";
    if (problem != NULL)
        hw_log_warn(problem, HW_S("node", o->node), HW_S("output", path));
}

/* The absolute path of the output; malloc'ed. */
static char *output_path(const struct options *o)
{
    const char *const path = o->output != NULL ? o->output : o->output_dir;
    HW_AUTO_FREE char *here = *path != '/' ? getcwd(NULL, 0) : NULL;

    return here != NULL ? hw_sprintf("%s/%s", here, path) : hw_strdup(path);
}

static enum hw_status check(const struct options *o, const char *state_dir,
                            struct headwater_agent_options *options,
                            struct agent_runner_options *commands_of, struct hw_error *err)
{
    struct hw_address address;
    enum hw_status status;

    if (!hw_kv_bucket_valid(o->bucket))
        return hw_fail(err, HW_EINVAL,
                       "--bucket: \"%s\" is not a bucket name: letters, digits, - and _",
                       o->bucket);
    status = check_output(o, state_dir, err);
    if (status != HW_OK)
        return status;
    status = split("--validate", o->validate, &commands_of->validate.argv, err);
    if (status == HW_OK)
        status = split("--apply", o->apply, &commands_of->apply.argv, err);
    if (status == HW_OK)
        status = split("--health", o->health, &commands_of->health.argv, err);
    if (status == HW_OK)
        status = parse_mode(o->mode, &options->mode, err);
    if (status == HW_OK && o->owner != NULL)
        status = parse_owner(o->owner, options, err);
    if (status == HW_OK && o->monitor != NULL &&
        hw_monitor_address(o->monitor, &address, err) != HW_OK)
        status = hw_fail_in(err, "--monitor");
    return status;
}

static enum hw_status run_service(const struct options *o, const char *state_dir, int *usage,
                                  struct hw_error *err)
{
    HW_AUTO_FREE char *record = hw_sprintf("%s/command", state_dir);
    struct agent_runner_options commands_of = {.validate.timeout_ms = o->validate_timeout,
                                               .apply.timeout_ms = o->apply_timeout,
                                               .health.timeout_ms = o->health_timeout,
                                               .health_within_ms = o->health_within,
                                               .node = o->node,
                                               .record = record};
    struct daemon d = {0};
    struct headwater_agent_options options;
    enum hw_status status;

    headwater_agent_options_init(&options);
    status = check(o, state_dir, &options, &commands_of, err);
    *usage = status != HW_OK;
    if (status == HW_OK) {
        options.nats_url = o->nats;
        options.nats_ca = o->nats_files.ca;
        options.nats_cert = o->nats_files.cert;
        options.nats_key = o->nats_files.key;
        options.nats_creds = o->nats_files.creds;
        options.nats_nkey = o->nats_files.nkey;
        options.nats_prefix = o->nats_prefix;
        options.node = o->node;
        options.bucket = o->bucket;
        options.state_dir = state_dir;
        options.trust = o->trust;
        options.output = o->output;
        options.output_dir = o->output_dir;
        options.keep = (unsigned)o->keep;
        options.poll_ms = o->poll;
        options.heartbeat_ms = o->heartbeat > 0 ? o->heartbeat : -1;
        options.splay_ms = o->splay;
        options.confirm_within_ms = o->confirm_within;
        options.report_drift_only = strcmp(o->drift, "report") == 0;
        options.log_level = (enum headwater_agent_level)hw_log_level();
        signal(SIGXFSZ,
               SIG_IGN); /* a limit on file sizes becomes an error like that of a full disk */
        HW_AUTO_FREE char *path = output_path(o);
        hw_log_info("starting", HW_S("node", o->node), HW_S("version", HW_VERSION),
                    HW_S("bucket", o->bucket), HW_S("output", path), HW_S("state_dir", state_dir));
        warn_of_output(o, path);
        status = run(&d, &options, &commands_of, o->monitor, err);
        if (status != HW_OK)
            hw_log_error("cannot run", HW_S("node", o->node), HW_E(err));
        else
            hw_log_info("ended", HW_S("node", o->node));
    }
    free(commands_of.validate.argv);
    free(commands_of.apply.argv);
    free(commands_of.health.argv);
    return status;
}

/* hold, permissions, propose, release, status. */
static enum hw_status run_command(const struct options *o, const char *command,
                                  char *const *operands, int count, const char *state_dir,
                                  bool node_given, struct hw_error *err)
{
    const struct agent_output output = {.file = o->output, .dir = o->output_dir};

    if (strcmp(command, "permissions") == 0)
        return hw_permissions_node(o->bucket, o->node, o->nats_prefix, &o->nats_files, err);
    if (strcmp(command, "hold") == 0)
        return agent_local_hold(state_dir, count > 0 ? operands[0] : "", err);
    if (strcmp(command, "propose") == 0 && (o->config == NULL || o->file == NULL))
        return hw_fail(err, HW_EINVAL, "--config and --file are required");
    if (strcmp(command, "propose") == 0)
        return agent_local_propose(state_dir, node_given ? o->node : NULL, o->file,
                                   &(struct agent_proposal){.config = o->config,
                                                            .base_revision = o->base_revision,
                                                            .media_type = o->media_type,
                                                            .message = o->message},
                                   o->wait, err);
    if (strcmp(command, "release") == 0)
        return agent_local_release(state_dir, err);
    return agent_local_status(state_dir, node_given ? o->node : NULL, &output, o->json, err);
}

int main(int argc, char **argv)
{
    static struct options
        options; /* static, because its lists are used as long as the process lives */
    HW_AUTO_FREE char *state_dir = NULL;
    struct hw_error err;
    const char *command;
    char **operands;
    int count, usage = 0;
    bool node_given;
    enum hw_status status;

    hw_streams_open(program.name, HW_EXIT_FAILURE);
    status = hw_options_parse(&program, argc, argv, &options, &command, &operands, &count, &err);
    if (status == HW_OK && count > (command != NULL && strcmp(command, "hold") == 0 ? 1 : 0))
        status =
            hw_fail(&err, HW_EINVAL, "\"%s\": no more operands are expected", operands[count - 1]);
    if (status == HW_OK)
        status = hw_options_log(options.log_level, options.log_format, &err);
    if (status == HW_OK)
        status = check_node(&options, &node_given, &err);
    if (status != HW_OK)
        return hw_options_usage_error(&program, &err);
    state_dir =
        options.state_dir != NULL ? hw_strdup(options.state_dir) : default_state_dir(options.node);
    if (command == NULL) {
        status = run_service(&options, state_dir, &usage, &err);
        if (usage)
            return hw_options_usage_error(&program, &err);
        return status == HW_OK ? HW_EXIT_OK : HW_EXIT_FAILURE;
    }
    status = run_command(&options, command, operands, count, state_dir, node_given, &err);
    if (status != HW_OK)
        fprintf(stderr, "headwater-agent: %s: %s\n", command, err.message);
    return status == HW_OK ? HW_EXIT_OK : HW_EXIT_FAILURE;
}
