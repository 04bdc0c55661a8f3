/* One document of the largest size: from its commit to the disk of a node, verified. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/memory.h"
#include "bench/bench.h"
#include "bench/limits.h"
#include "tests/support/process.h"

enum {
    SIZE = 16 << 20,
    CHUNK = (1 << 20) - 1024,
    REPEATS = 3,
};

struct node {
    struct test_program agent;
    char *dir, *output_dir, *output;
    int watch;
};

/* Text that compresses badly, and differs each time. */
static void fill(char *content, int change)
{
    uint64_t state = 0x9E3779B97F4A7C15U * (uint64_t)(change + 1);

    for (size_t i = 0; i < SIZE; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content[i] = (char)('0' + state % 64);
        if (content[i] == '\\')
            content[i] = 'z';
    }
    content[SIZE] = '\0';
}

static void write_config(struct rig *rig, const char *content)
{
    PGresult *result = PQexecParams(
        rig->sql,
        "INSERT INTO headwater.config (name, content, media_type) VALUES ('blob', $1, 'text/plain')"
        " ON CONFLICT (name) DO UPDATE SET content = excluded.content",
        1, NULL, &content, NULL, NULL, 0);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        test_fail("%s", PQresultErrorMessage(result));
    PQclear(result);
}

/* ---- the node ---- */

static bool has_output(const struct node *node)
{
    struct stat st;

    return stat(node->output, &st) == 0 && st.st_size == SIZE;
}

static void open_node(struct rig *rig, struct node *node)
{
    node->dir = test_temp_dir();
    node->output_dir = hw_sprintf("%s/out", node->dir);
    node->output = hw_sprintf("%s/config", node->output_dir);

    mkdir(node->output_dir, 0755);
    rig_start_agent(rig, &node->agent, "n1", node->output, node->dir);
    test_wait_for(has_output(node), RIG_WAIT_S);
    node->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (node->watch < 0 || inotify_add_watch(node->watch, node->output_dir, IN_MOVED_TO) < 0)
        test_fail("cannot watch %s", node->output_dir);
}

/* Waits until the agent renames the file into its place, which it does after fsync. */
static double wait_output(struct node *node)
{
    struct pollfd watch = {.fd = node->watch, .events = POLLIN};
    char events[4096];

    if (poll(&watch, 1, RIG_WAIT_S * 1000) != 1) {
        test_print_tail(node->agent.log);
        test_fail("no new file within %d s", RIG_WAIT_S);
    }
    const double now = test_now();
    if (read(node->watch, events, sizeof(events)) < 0)
        test_fail("cannot watch %s", node->output_dir);
    return now;
}

static void close_node(struct node *node)
{
    rig_stop_agent(&node->agent);
    close(node->watch);
    free(node->dir);
    free(node->output_dir);
    free(node->output);
}

/* ---- the parts ---- */

static double read_blob(struct rig *rig)
{
    const double start = test_now();

    rig_run(rig->sql, "SELECT content FROM headwater.blob WHERE digest = "
                      "(SELECT digest FROM headwater.desired WHERE node = 'n1')");
    return test_now() - start;
}

/* Into a stream of files, and out of it again. */
static double through_nats(struct rig *rig, const char *content)
{
    jsStreamConfig config;
    double start, took;

    jsStreamConfig_Init(&config);
    config.Name = "bench_chunks";
    if (js_AddStream(NULL, rig->js, &config, NULL, NULL) != NATS_OK)
        test_fail("cannot add a stream");
    start = test_now();
    for (size_t at = 0; at < SIZE; at += CHUNK)
        if (js_PublishAsync(rig->js, "bench_chunks", content + at,
                            (int)(SIZE - at < CHUNK ? SIZE - at : CHUNK), NULL) != NATS_OK)
            test_fail("publishing failed");
    if (js_PublishAsyncComplete(rig->js, NULL) != NATS_OK)
        test_fail("the chunks were not acknowledged");
    for (uint64_t seq = 1; seq <= (SIZE + CHUNK - 1) / CHUNK; seq++) {
        natsMsg *msg = NULL;

        if (js_GetMsg(&msg, rig->js, "bench_chunks", seq, NULL, NULL) != NATS_OK)
            test_fail("chunk %d is not there", (int)seq);
        natsMsg_Destroy(msg);
    }
    took = test_now() - start;
    if (js_DeleteStream(rig->js, "bench_chunks", NULL, NULL) != NATS_OK)
        test_fail("cannot delete a stream");
    return took;
}

static double hash(const char *content)
{
    struct hw_digest digest;
    const double start = test_now();

    hw_digest_of(content, SIZE, &digest);
    return test_now() - start;
}

void bench_blob(struct bench *bench)
{
    HW_AUTO_FREE char *content = hw_alloc(SIZE + 1);
    struct node node = {0};
    struct rig rig;
    int change = 0;

    rig_open(&rig);
    fill(content, change++);
    write_config(&rig, content);
    rig_run(rig.sql, "INSERT INTO headwater.node (name) VALUES ('n1');"
                     "INSERT INTO headwater.assignment (name, config, node) "
                     "VALUES ('blob', 'blob', 'n1')");
    open_node(&rig, &node);
    for (int run = 0; run < bench->runs; run++) {
        double ours[REPEATS], limit[REPEATS], statement[REPEATS];

        for (int i = 0; i < REPEATS; i++) {
            fill(content, change++);
            rig_wait_caught_up(&rig);
            const double start = test_now();
            write_config(&rig, content);
            const double committed = test_now();

            ours[i] = wait_output(&node) - committed;
            statement[i] = committed - start;
            rig_wait_caught_up(&rig);
            limit[i] =
                read_blob(&rig) + through_nats(&rig, content) + hash(content) + limit_file(SIZE);
        }
        bench_add_beside(bench, "blob", "16 MiB, commit to the node's disk", "s",
                         figures_quantile(ours, REPEATS, 0.5),
                         figures_quantile(limit, REPEATS, 0.5),
                         "SELECT, into and out of NATS, SHA-256, a file: the sum");
        bench_add(bench, "blob", "the statement itself", "s",
                  figures_quantile(statement, REPEATS, 0.5));
    }
    close_node(&node);
    rig_close(&rig);
}
