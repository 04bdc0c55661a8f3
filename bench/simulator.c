/*
 * headwater-fleet: tens of thousands of agents in one process, against any NATS. Each is a whole
 * agent of agent/agent.h: its hints, direct gets, fetches, checks and reports are those of a real
 * node. Only connections and loops are shared, and there is no output and no command. An agent
 * keeps its state on disk as always, by default on a tmpfs, where fsync costs nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/memory.h"
#include "common/log.h"
#include "common/options.h"
#include "nats/url.h"

/* In an outage every agent warns: of each loop's warnings so many are shown between two looks. */
#define WARNINGS_SHOWN 3
#define FILES_BESIDE   256 /* open files beside those of agents and connections */

struct options {
    const char *nats, *bucket, *prefix, *state_dir;
    struct hw_nats_files nats_files;
    int64_t nodes, first, connections, threads, poll, heartbeat, splay, every;
    const char *log_level, *log_format;
};

#define FLAG_ONLY(member, ...) HW_OPTION_NO_ENV(struct options, member, __VA_ARGS__)

static const struct hw_option option_table[] = {
    HW_OPTION_NATS(struct options),
    HW_OPTIONS_NATS_FILES(struct options),
    HW_OPTION_BUCKET(struct options),
    FLAG_ONLY(nodes, INT, "COUNT", "how many agents", .preset = "10000", .min = 1, .max = 1000000),
    FLAG_ONLY(prefix, STRING, "TEXT", "names of the nodes: TEXT and a number", .preset = "n"),
    FLAG_ONLY(first, INT, "NUMBER", "number of the first node", .preset = "1", .min = 0,
              .max = 1000000000),
    FLAG_ONLY(connections, INT, "COUNT",
              "connections to NATS that they share; each takes two threads", .preset = "100",
              .min = 1, .max = 20000),
    FLAG_ONLY(threads, INT, "COUNT",
              "event loops; an agent that waits for NATS makes the others of its loop wait",
              .preset = "16", .min = 1, .max = 1000),
    FLAG_ONLY(state_dir, STRING, "DIR",
              "where the agents keep their state, and find it again (default a new directory in "
              "/dev/shm, removed at the end)"),
    FLAG_ONLY(poll, DURATION, "TIME",
              "mean time between looks at NATS without being told of a change", .preset = "5m",
              .min = 100, .max = 86400000),
    FLAG_ONLY(heartbeat, DURATION, "TIME", "mean time between signs of life; 0: none",
              .preset = "30s", .max = 86400000),
    FLAG_ONLY(splay, DURATION, "TIME", "a new document waits a random part of this", .preset = "0s",
              .max = 86400000),
    FLAG_ONLY(every, DURATION, "TIME",
              "how often to say how many agents are at what, when that has changed", .preset = "1s",
              .min = 100, .max = 86400000),
    HW_OPTIONS_LOG(struct options),
    {0},
};

static const struct hw_program program = {
    .name = "headwater-fleet",
    .summary = "simulates the agents of a whole fleet in one process",
    .options = option_table,
    .notes = "Files are limited by RLIMIT_NOFILE: an agent takes one, a connection a few.\n"
             "SIGINT and SIGTERM end it.\n",
};

struct totals {
    int64_t nodes, connected, running, failed, busy; /* agents, now */
    int64_t applies, failures, warnings;             /* since the start */
};

struct node {
    char *name, *state_dir;
    struct agent *agent;
};

/* One event loop, with its share of the connections and the agents. */
struct shard {
    const struct options *options;
    const char *dir;
    int number;
    pthread_t thread;
    bool runs;
    struct hw_loop *loop;
    struct hw_nats **connections;
    size_t connection_count;
    struct node *nodes;
    size_t count;
    int64_t warnings;
    int shown;
    struct hw_timer look;

    pthread_mutex_t lock; /* of what follows */
    struct totals totals;
    bool failed;
};

/* ---- agents ---- */

static void on_told(void *arg, enum hw_log_level level, const char *what,
                    const struct agent_document *document, const char *detail)
{
    struct shard *shard = arg;
    const bool warning = level <= HW_LOG_WARN;

    shard->warnings += warning ? 1 : 0;
    hw_log(warning && shard->shown++ < WARNINGS_SHOWN ? level : HW_LOG_DEBUG, what,
           HW_I("loop", shard->number), HW_I("revision", document != NULL ? document->revision : 0),
           HW_S("detail", detail));
}

static void look(void *arg)
{
    struct shard *shard = arg;
    struct totals t = {.nodes = (int64_t)shard->count, .warnings = shard->warnings};

    for (size_t i = 0; i < shard->count; i++) {
        struct agent_view view;

        agent_look(shard->nodes[i].agent, &view);
        t.connected += view.connected ? 1 : 0;
        t.running += view.state.running.set ? 1 : 0;
        t.failed += view.state.failed.set ? 1 : 0;
        t.busy += view.phase != AGENT_IDLE ? 1 : 0;
        t.applies += (int64_t)view.counts.applied;
        t.failures += (int64_t)view.counts.failed;
    }
    shard->shown = 0;
    pthread_mutex_lock(&shard->lock);
    shard->totals = t;
    pthread_mutex_unlock(&shard->lock);
    hw_timer_start(shard->loop, &shard->look, shard->options->every, look, shard);
}

static enum hw_status open_agent(struct shard *shard, size_t i, struct hw_nats *nats,
                                 struct hw_error *err)
{
    const struct options *const o = shard->options;
    const int64_t number = o->first + shard->number + (int64_t)i * o->threads;
    struct node *const node = &shard->nodes[i];
    const struct agent_hooks hooks = {.told = on_told, .arg = shard}; /* no commands */

    node->name = hw_sprintf("%s%lld", o->prefix, (long long)number);
    node->state_dir = hw_sprintf("%s/%s", shard->dir, node->name);
    const struct agent_options options = {
        .nats = nats,
        .node = node->name,
        .bucket = o->bucket,
        .state_dir = node->state_dir,
        .poll_ms = o->poll,
        .heartbeat_ms = o->heartbeat,
        .splay_ms = o->splay,
        .heal = true,
    };
    return agent_open(shard->loop, &options, &hooks, &node->agent, err);
}

/* ---- connections ---- */

static void on_down(void *arg, const char *why)
{
    const struct shard *shard = arg;

    hw_log_warn("lost a connection to NATS", HW_I("loop", shard->number), HW_S("detail", why));
}

static enum hw_status open_connection(struct shard *shard, size_t i, struct hw_error *err)
{
    const struct options *const o = shard->options;
    HW_AUTO_FREE char *name = hw_sprintf("headwater-fleet %d.%zu", shard->number, i + 1);
    const struct hw_nats_options options = {
        .url = o->nats, .name = name, .reconnect_ms = 10000, .files = o->nats_files};
    const struct hw_nats_events events = {.down = on_down, .arg = shard};

    return hw_nats_open(shard->loop, &options, &events, &shard->connections[i], err);
}

/* ---- loops ---- */

static enum hw_status open_all(struct shard *shard, struct hw_error *err)
{
    enum hw_status status = HW_OK;
    size_t next = 0; /* connection, in turn */

    for (size_t i = 0; i < shard->connection_count && status == HW_OK; i++)
        status = open_connection(shard, i, err);
    for (size_t i = 0; i < shard->count && status == HW_OK; i++) {
        status = open_agent(shard, i, shard->connections[next], err);
        next = next + 1 < shard->connection_count ? next + 1 : 0;
    }
    return status;
}

static void *run_shard(void *arg)
{
    struct shard *shard = arg;
    struct hw_error err;

    if (open_all(shard, &err) == HW_OK) {
        look(shard);
        if (hw_loop_run(shard->loop, &err) == HW_OK)
            return NULL;
    }
    hw_log_error("cannot simulate", HW_I("loop", shard->number), HW_E(&err));
    pthread_mutex_lock(&shard->lock);
    shard->failed = true;
    pthread_mutex_unlock(&shard->lock);
    kill(getpid(), SIGTERM);
    return NULL;
}

static void on_stop(void *arg)
{
    const struct shard *shard = arg;

    hw_loop_stop(shard->loop);
}

/* How many of all things fall to a loop when they are dealt out to the loops in turn. */
static size_t share(int64_t all, int64_t loops, int64_t number)
{
    return (size_t)(all / loops + (number < all % loops ? 1 : 0));
}

static enum hw_status start_shard(struct shard *shard, struct hw_error *err)
{
    const struct options *const o = shard->options;

    pthread_mutex_init(&shard->lock, NULL);
    shard->count = share(o->nodes, o->threads, shard->number);
    shard->nodes = hw_alloc((shard->count + 1) * sizeof(*shard->nodes));
    shard->connection_count = share(o->connections, o->threads, shard->number);
    shard->connections = hw_alloc((shard->connection_count + 1) * sizeof(struct hw_nats *));
    if (hw_loop_new(&shard->loop, err) != HW_OK)
        return err->status;
    if (pthread_create(&shard->thread, NULL, run_shard, shard) != 0)
        return hw_fail(err, HW_EIO, "cannot start a thread");
    shard->runs = true;
    return HW_OK;
}

static void close_shard(struct shard *shard)
{
    if (shard->runs) {
        hw_loop_post(shard->loop, on_stop, shard);
        pthread_join(shard->thread, NULL);
    }
    hw_timer_stop(&shard->look);
    for (size_t i = 0; i < shard->connection_count; i++)
        hw_nats_close(shard->connections[i]);
    for (size_t i = 0; i < shard->count; i++) {
        agent_close(shard->nodes[i].agent);
        free(shard->nodes[i].name);
        free(shard->nodes[i].state_dir);
    }
    hw_loop_free(shard->loop);
    free(shard->connections);
    free(shard->nodes);
}

/* ---- the program ---- */

/* Sums up all loops. False: one of them could not go on. */
static bool add_up(struct shard *shards, int64_t count, struct totals *sum)
{
    bool well = true;

    *sum = (struct totals){0};
    for (int64_t i = 0; i < count; i++) {
        struct shard *shard = &shards[i];

        pthread_mutex_lock(&shard->lock);
        sum->nodes += shard->totals.nodes;
        sum->connected += shard->totals.connected;
        sum->running += shard->totals.running;
        sum->failed += shard->totals.failed;
        sum->busy += shard->totals.busy;
        sum->applies += shard->totals.applies;
        sum->failures += shard->totals.failures;
        sum->warnings += shard->totals.warnings;
        well = well && !shard->failed;
        pthread_mutex_unlock(&shard->lock);
    }
    return well;
}

/* Logs the totals when they change, until a signal comes. */
static bool watch(const struct options *o, struct shard *shards, const sigset_t *signals)
{
    const struct timespec every = {.tv_sec = o->every / 1000, .tv_nsec = o->every % 1000 * 1000000};
    struct totals before = {0}, now;

    while (sigtimedwait(signals, NULL, &every) < 0) {
        (void)add_up(shards, o->threads, &now);
        if (memcmp(&now, &before, sizeof(now)) != 0)
            hw_log_info("fleet", HW_I("nodes", now.nodes), HW_I("connected", now.connected),
                        HW_I("running", now.running), HW_I("busy", now.busy),
                        HW_I("failed", now.failed), HW_I("applies", now.applies),
                        HW_I("failures", now.failures), HW_I("warnings", now.warnings));
        before = now;
    }
    return add_up(shards, o->threads, &now);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

/* Makes a directory, and a child process that removes it when this process is gone, however that
 * went: the child waits for the end of a pipe that only this process holds open. */
static enum hw_status make_directory(char *dir, struct hw_error *err)
{
    int ends[2];
    char byte;

    if (mkdtemp(dir) == NULL)
        return hw_fail_errno(err, "making %s", dir);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return hw_fail_errno(err, "making a pipe");
    switch (fork()) {
    case -1:
        return hw_fail_errno(err, "starting a process");
    case 0:
        setsid();
        close(ends[1]);
        while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
            ;
        nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        _exit(0);
    default:
        close(ends[0]); /* the other end stays open as long as this process lives */
        return HW_OK;
    }
}

static enum hw_status allow_files(const struct options *o, struct hw_error *err)
{
    const rlim_t need = (rlim_t)(o->nodes + 2 * o->connections + 2 * o->threads + FILES_BESIDE);
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return hw_fail_errno(err, "reading the limit of open files");
    if (limit.rlim_cur >= need)
        return HW_OK;
    limit.rlim_cur = need;
    if (limit.rlim_max < need)
        limit.rlim_max = need; /* root may */
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return hw_fail_errno(err, "%lld agents need %lld open files; \"ulimit -n\" allows fewer",
                             (long long)o->nodes, (long long)need);
    return HW_OK;
}

static int simulate(const struct options *o, const char *dir)
{
    struct shard *shards = hw_alloc((size_t)o->threads * sizeof(*shards));
    enum hw_status status = HW_OK;
    struct hw_error err;
    sigset_t signals;
    bool well;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    for (int64_t i = 0; i < o->threads && status == HW_OK; i++) {
        shards[i] = (struct shard){.options = o, .dir = dir, .number = (int)i};
        status = start_shard(&shards[i], &err);
    }
    if (status != HW_OK)
        hw_log_error("cannot simulate", HW_E(&err));
    well = status == HW_OK && watch(o, shards, &signals);
    for (int64_t i = 0; i < o->threads; i++)
        close_shard(&shards[i]);
    free(shards);
    return well ? HW_EXIT_OK : HW_EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    char own[] = "/dev/shm/headwater-fleet-XXXXXX";
    const char *command;
    char **operands;
    int count;
    struct hw_error err;
    enum hw_status status =
        hw_options_parse(&program, argc, argv, &options, &command, &operands, &count, &err);

    if (status == HW_OK && count > 0)
        status = hw_fail(&err, HW_EINVAL, "\"%s\": no operands are expected", operands[0]);
    if (status == HW_OK)
        status = hw_options_log(options.log_level, options.log_format, &err);
    if (status != HW_OK)
        return hw_options_usage_error(&program, &err);
    if (options.threads > options.connections)
        options.threads = options.connections;
    /* Otherwise libnats starts a thread for each subscription, so one for each agent. */
    setenv("NATS_DEFAULT_TO_LIB_MSG_DELIVERY", "1", 1);
    status = allow_files(&options, &err);
    if (status == HW_OK && options.state_dir == NULL)
        status = make_directory(own, &err);
    if (status != HW_OK) {
        hw_log_error("cannot simulate", HW_E(&err));
        return HW_EXIT_FAILURE;
    }
    return simulate(&options, options.state_dir != NULL ? options.state_dir : own);
}
