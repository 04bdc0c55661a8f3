#include "bench/limits.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "protocol/entry.h"
#include "protocol/keys.h"
#include "reconciler/publish/changes.h"
#include "tests/support/process.h"

#define COPY "bench_copy"

enum {
    WINDOW = 4096,
    BATCH = 1000, /* reports that the reconciler hands over at once */
};

/* ---- reading the slot ---- */

static void copy_slot(struct rig *rig)
{
    rig_run(rig->sql, "SELECT pg_copy_logical_replication_slot('headwater', '" COPY "')");
}

static void drop_slot(struct rig *rig)
{
    rig_run(rig->sql, "SELECT pg_drop_replication_slot('" COPY "')");
}

static void start_receiving(struct rig *rig, const char *lsn, struct test_program *program)
{
    static const char tables[] = "--option=add-tables=" REC_TABLES;
    static const char messages[] = "--option=add-msg-prefixes=" REC_MESSAGE_PREFIX;
    const char *const argv[] = {"/usr/bin/env",
                                "pg_recvlogical",
                                "--dbname",
                                rig->pg.url,
                                "--slot",
                                COPY,
                                "--start",
                                "--no-loop",
                                "--endpos",
                                lsn,
                                "--file",
                                "/dev/null",
                                "--option=format-version=2",
                                "--option=include-transaction=on",
                                "--option=include-xids=on",
                                "--option=include-lsn=on",
                                "--option=include-timestamp=on",
                                "--option=include-types=off",
                                tables,
                                messages,
                                NULL};

    copy_slot(rig);
    test_program_start(program, argv, NULL);
}

static double stop_receiving(struct rig *rig, struct test_program *program)
{
    test_wait_for(!test_program_running(program), RIG_WAIT_S);
    const double end = test_now();

    if (test_program_stop(program, 0) != 0) {
        test_print_tail(program->log);
        test_fail("pg_recvlogical failed");
    }
    drop_slot(rig);
    return end;
}

double limit_drain(struct rig *rig, const char *lsn)
{
    struct test_program program;
    const double start = test_now();

    start_receiving(rig, lsn, &program);
    return stop_receiving(rig, &program) - start;
}

/* ---- publishing ---- */

static void on_ack(jsCtx *js, natsMsg *msg, jsPubAck *ack, jsPubAckErr *error, void *arg)
{
    (void)js, (void)ack, (void)arg;
    if (error != NULL)
        test_fail("publishing: %s", error->ErrText != NULL ? error->ErrText : "refused");
    natsMsg_Destroy(msg);
}

static void count_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *arg)
{
    (void)nc, (void)sub;
    natsMsg_Destroy(msg);
    __atomic_fetch_add((long *)arg, 1, __ATOMIC_RELEASE);
}

/* Makes a stream with the settings of the bucket's. Returns how many messages of a key it keeps. */
static long add_stream(struct rig *rig)
{
    jsStreamInfo *info = rig_bucket(rig);
    jsStreamConfig config;
    jsRePublish republish = {.Source = "$KV.bench.>", .Destination = "bench.>"};
    const char *subject = "$KV.bench.>";

    config = *info->Config;
    config.Name = "KV_bench";
    config.Subjects = &subject;
    config.SubjectsLen = 1;
    config.RePublish = &republish;
    if (js_AddStream(NULL, rig->js, &config, NULL, NULL) != NATS_OK)
        test_fail("cannot add the stream KV_bench");
    jsStreamInfo_Destroy(info);
    return (long)config.MaxMsgsPerSubject;
}

static void delete_stream(struct rig *rig)
{
    if (js_DeleteStream(rig->js, "KV_bench", NULL, NULL) != NATS_OK)
        test_fail("cannot delete the stream KV_bench");
}

static natsMsg *new_message(long key, const char *value, int size)
{
    char subject[64];
    natsMsg *msg = NULL;

    snprintf(subject, sizeof(subject), "$KV.bench." HW_KEY_DESIRED "n%ld", key);
    if (natsMsg_Create(&msg, subject, NULL, value, size) != NATS_OK ||
        natsMsgHeader_Set(msg, HW_HEADER_EPOCH, "1") != NATS_OK ||
        natsMsgHeader_Set(msg, HW_HEADER_LSN, "0/16B3748") != NATS_OK)
        test_fail("out of memory");
    return msg;
}

/* Nobody else writes to the stream, so the sequence of each message is known before it is
 * acknowledged. first: how many messages were published before. */
static void publish_all(jsCtx *js, long first, long count, long keys, int size)
{
    HW_AUTO_FREE char *value = hw_alloc((size_t)size + 1);

    memset(value, 'x', (size_t)size);
    for (long i = first; i < first + count; i++) {
        natsMsg *msg = new_message(i % keys, value, size);
        jsPubOptions options;

        jsPubOptions_Init(&options);
        options.ExpectNoMessage = i < keys;
        options.ExpectLastSubjectSeq = i < keys ? 0 : (uint64_t)(i - keys + 1);
        if (js_PublishMsgAsync(js, &msg, &options) != NATS_OK)
            test_fail("publishing message %ld failed", i);
    }
    if (js_PublishAsyncComplete(js, NULL) != NATS_OK)
        test_fail("the publishes were not acknowledged");
}

struct publisher {
    struct rig *rig;
    natsSubscription *sub;
    natsConnection *nc;
    jsCtx *js;
    long came, published;
};

static double publish(struct publisher *p, long count, long keys, int size)
{
    const double start = test_now();

    publish_all(p->js, p->published, count, keys, size);
    p->published += count;
    return test_now() - start;
}

static void open_publisher(struct publisher *p, struct rig *rig, bool lived, long keys, int size)
{
    jsOptions options;

    *p = (struct publisher){.rig = rig};
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = WINDOW;
    options.PublishAsync.StallWait = RIG_WAIT_S * 1000L;
    options.PublishAsync.AckHandler = on_ack;
    if (natsConnection_ConnectTo(&p->nc, rig->nats.url) != NATS_OK ||
        natsConnection_JetStream(&p->js, p->nc, &options) != NATS_OK ||
        natsConnection_Subscribe(&p->sub, rig->nc, "bench.>", count_message, &p->came) != NATS_OK ||
        natsSubscription_SetPendingLimits(p->sub, -1, -1) != NATS_OK)
        test_fail("cannot connect to %s", rig->nats.url);
    const long kept = add_stream(rig);
    if (lived)
        publish(p, keys * kept, keys, size);
}

static void close_publisher(struct publisher *p)
{
    test_wait_for(__atomic_load_n(&p->came, __ATOMIC_ACQUIRE) == p->published, RIG_WAIT_S);
    natsSubscription_Destroy(p->sub);
    jsCtx_Destroy(p->js);
    natsConnection_Destroy(p->nc);
    delete_stream(p->rig);
}

double limit_publish(struct rig *rig, bool lived, long count, long keys, int size)
{
    struct publisher p;

    open_publisher(&p, rig, lived, keys, size);
    const double took = publish(&p, count, keys, size);
    close_publisher(&p);
    return took;
}

double limit_combined(struct rig *rig, const char *lsn, long count, long keys, int size)
{
    struct test_program program;
    struct publisher p;

    open_publisher(&p, rig, true, keys, size);
    const double start = test_now();
    start_receiving(rig, lsn, &program);
    publish(&p, count, keys, size);
    const double published = test_now();
    const double received = stop_receiving(rig, &program);
    close_publisher(&p);
    return (published > received ? published : received) - start;
}

void limit_publish_each(struct rig *rig, int size, double *times, int count)
{
    HW_AUTO_FREE char *value = hw_alloc((size_t)size + 1);
    natsSubscription *sub = NULL;
    natsConnection *nc = NULL;
    natsOptions *connect = NULL;
    jsCtx *js = NULL;

    memset(value, 'x', (size_t)size);
    add_stream(rig);
    /* Otherwise libnats waits a millisecond for more to send. */
    if (natsOptions_Create(&connect) != NATS_OK ||
        natsOptions_SetURL(connect, rig->nats.url) != NATS_OK ||
        natsOptions_SetSendAsap(connect, true) != NATS_OK ||
        natsConnection_Connect(&nc, connect) != NATS_OK ||
        natsConnection_JetStream(&js, nc, NULL) != NATS_OK ||
        natsConnection_SubscribeSync(&sub, nc, "bench.>") != NATS_OK ||
        natsConnection_Flush(nc) != NATS_OK)
        test_fail("cannot subscribe at %s", rig->nats.url);
    for (int i = 0; i < count; i++) {
        natsMsg *msg = new_message(0, value, size), *got = NULL;
        jsPubOptions options;

        jsPubOptions_Init(&options);
        options.ExpectNoMessage = i == 0;
        options.ExpectLastSubjectSeq = (uint64_t)i;
        const double start = test_now();
        if (js_PublishMsgAsync(js, &msg, &options) != NATS_OK ||
            natsSubscription_NextMsg(&got, sub, RIG_WAIT_S * 1000L) != NATS_OK)
            test_fail("publishing message %d failed", i);
        times[i] = test_now() - start;
        natsMsg_Destroy(got);
        if (js_PublishAsyncComplete(js, NULL) != NATS_OK)
            test_fail("message %d was not acknowledged", i);
    }
    natsSubscription_Destroy(sub);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    natsOptions_Destroy(connect);
    delete_stream(rig);
}

/* ---- reading keys ---- */

struct reader {
    struct rig *rig;
    pthread_t thread;
    long count;
    int nodes, first;
};

static void *read_keys(void *arg)
{
    const struct reader *r = arg;
    natsConnection *nc = NULL;
    jsCtx *js = NULL;

    if (natsConnection_ConnectTo(&nc, r->rig->nats.url) != NATS_OK ||
        natsConnection_JetStream(&js, nc, NULL) != NATS_OK)
        test_fail("cannot connect to %s", r->rig->nats.url);
    for (long i = 0; i < r->count; i++) {
        HW_AUTO_FREE char *subject =
            hw_sprintf("$KV.headwater." HW_KEY_DESIRED "n%ld", (r->first + i) % r->nodes + 1);
        jsDirectGetMsgOptions options;
        natsMsg *msg = NULL;

        jsDirectGetMsgOptions_Init(&options);
        options.LastBySubject = subject;
        if (js_DirectGetMsg(&msg, js, "KV_headwater", NULL, &options) != NATS_OK)
            test_fail("reading %s failed", subject);
        natsMsg_Destroy(msg);
    }
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    return NULL;
}

double limit_get(struct rig *rig, long count, int nodes, int connections)
{
    HW_AUTO_FREE struct reader *readers = hw_alloc((size_t)connections * sizeof(*readers));
    const double start = test_now();

    for (int i = 0; i < connections; i++) {
        readers[i] = (struct reader){.rig = rig,
                                     .count = count / connections,
                                     .nodes = nodes,
                                     .first = nodes / connections * i};
        if (pthread_create(&readers[i].thread, NULL, read_keys, &readers[i]) != 0)
            test_fail("cannot start a thread");
    }
    for (int i = 0; i < connections; i++)
        pthread_join(readers[i].thread, NULL);
    return test_now() - start;
}

/* ---- reports ---- */

double limit_take_reports(struct rig *rig, int nodes, int run)
{
    double took = 0;

    rig_run(rig->sql, "BEGIN");
    for (int i = 0; i < nodes; i += BATCH) {
        HW_AUTO_FREE char *batch =
            rig_sql(rig->sql,
                    "SELECT jsonb_agg(jsonb_build_object('kv_created', '2100-01-01T00:00:00Z', "
                    "'kv_revision', 1, 'value', " BENCH_REPORT
                    "))::text FROM (SELECT * FROM headwater.desired "
                    "ORDER BY node LIMIT %d OFFSET %d) AS d",
                    run, BATCH, i);
        const double start = test_now();
        PGresult *result = PQexecParams(rig->sql, "SELECT * FROM headwater.report($1)", 1, NULL,
                                        (const char *const[]){batch}, NULL, NULL, 0);

        took += test_now() - start;
        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            test_fail("%s", PQresultErrorMessage(result));
        PQclear(result);
    }
    rig_run(rig->sql, "ROLLBACK"); /* the reports in the bucket must count as newer again */
    return took;
}

/* ---- receiving one commit after another ---- */

struct receiver {
    PGconn *conn;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t came;
    int commits;
    double last;
    bool stop;
};

static void note_commit(struct receiver *r)
{
    pthread_mutex_lock(&r->mutex);
    r->last = test_now();
    r->commits++;
    pthread_cond_signal(&r->came);
    pthread_mutex_unlock(&r->mutex);
}

/* Rows come in frames of their own, with 25 bytes before what the plug-in wrote. */
static void *receive(void *arg)
{
    struct receiver *r = arg;

    while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
        struct pollfd socket = {.fd = PQsocket(r->conn), .events = POLLIN};
        char *frame = NULL;
        int size;

        poll(&socket, 1, 50);
        if (PQconsumeInput(r->conn) != 1)
            test_fail("%s", PQerrorMessage(r->conn));
        while ((size = PQgetCopyData(r->conn, &frame, 1)) > 0) {
            if (size > 25 && frame[0] == 'w' && strstr(frame + 25, "\"action\":\"U\"") != NULL &&
                strstr(frame + 25, "\"table\":\"desired\"") != NULL)
                note_commit(r);
            PQfreemem(frame);
        }
        if (size < 0)
            test_fail("%s", PQerrorMessage(r->conn));
    }
    return NULL;
}

static void open_receiver(struct rig *rig, struct receiver *r)
{
    HW_AUTO_FREE char *url = hw_sprintf("%s?replication=database", rig->pg.url);
    PGresult *result;

    *r = (struct receiver){.mutex = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};
    copy_slot(rig);
    r->conn = rig_sql_connect(url);
    result = PQexec(r->conn, "START_REPLICATION SLOT " COPY " LOGICAL 0/0 (\"format-version\" '2', "
                             "\"include-transaction\" 'on', \"include-xids\" 'on', "
                             "\"include-lsn\" 'on', \"include-timestamp\" 'on', "
                             "\"include-types\" 'off', \"add-tables\" '" REC_TABLES "', "
                             "\"add-msg-prefixes\" '" REC_MESSAGE_PREFIX "')");
    if (PQresultStatus(result) != PGRES_COPY_BOTH)
        test_fail("%s", PQresultErrorMessage(result));
    PQclear(result);
    if (pthread_create(&r->thread, NULL, receive, r) != 0)
        test_fail("cannot start a thread");
}

static void close_receiver(struct rig *rig, struct receiver *r)
{
    __atomic_store_n(&r->stop, true, __ATOMIC_RELEASE);
    pthread_join(r->thread, NULL);
    PQfinish(r->conn);
    rig_run(rig->sql, "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots "
                      "WHERE slot_name = '" COPY "' AND active");
    drop_slot(rig);
}

void limit_receive_each(struct rig *rig, void (*change)(struct rig *rig, int i), double *times,
                        int count)
{
    struct receiver r;

    open_receiver(rig, &r);
    for (int i = 0; i < count; i++) {
        change(rig, i);
        const double committed = test_now();

        pthread_mutex_lock(&r.mutex);
        while (r.commits <= i)
            pthread_cond_wait(&r.came, &r.mutex);
        times[i] = r.last > committed ? r.last - committed : 0;
        pthread_mutex_unlock(&r.mutex);
    }
    close_receiver(rig, &r);
}

/* ---- files ---- */

double limit_file(size_t size)
{
    static char *dir;
    HW_AUTO_FREE char *content = hw_alloc(size + 1);

    if (dir == NULL)
        dir = test_temp_dir();
    HW_AUTO_FREE char *new = hw_sprintf("%s/new", dir), *path = hw_sprintf("%s/file", dir);
    memset(content, 'x', size);
    const double start = test_now();
    const int fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    const int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || dir_fd < 0 || write(fd, content, size) != (ssize_t)size || fsync(fd) != 0 ||
        rename(new, path) != 0 || fsync(dir_fd) != 0)
        test_fail("cannot write %s", path);
    close(fd);
    close(dir_fd);
    return test_now() - start;
}
