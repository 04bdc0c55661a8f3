#include "tests/recovery/drain.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/lsn.h"
#include "base/memory.h"
#include "tests/recovery/chance.h"
#include "tests/recovery/checker.h"
#include "tests/recovery/stream.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

enum {
    TRANSACTIONS = 16000,
    ROUNDS = 4,       /* revisions of a node: fewer than the bucket keeps, so that none goes */
    BYTES = 50 << 20, /* of all entries of these transactions */
    FILE_BYTES = 4 << 20,
    SOURCE = 70,    /* about the bytes of one source in an entry */
    KILLS = 3,      /* of the reconciler */
    NATS_DIES = 80, /* percent */
    READY_S = 60,
    DRAINED_S = 120,
};

struct drain {
    struct test_postgres pg;
    struct test_nats nats;
    struct checker *checker;
    struct test_program reconciler;
    int hidden; /* keys that the reconciler found hidden */
    int troubles;
    double started;
    bool verbose;
};

static int count(const char *text, const char *what)
{
    int times = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
        times++;
    return times;
}

static void start_reconciler(struct drain *d)
{
    const char *const argv[] = {
        "headwater-reconciler", "--database", d->pg.reconciler_url, "--nats", d->nats.url, NULL};

    test_program_start(&d->reconciler, argv, NULL);
}

/* The server's first file has none of our keys, as it has little but entries where a fleet began as
 * one large transaction: it is in the others that checkpoints are forgotten to be removed. */
static void fill_first_file(const struct drain *d)
{
    static char data[256 << 10];
    natsConnection *nc;
    jsCtx *js;

    stream_connect(d->nats.url, &nc, &js);
    memset(data, '.', sizeof(data));
    for (int sent = 0; sent <= FILE_BYTES; sent += (int)sizeof(data)) {
        HW_AUTO_FREE char *subject = hw_sprintf("$KV.headwater.filler.%d", sent);
        natsMsg *msg = NULL;
        natsStatus s = natsMsg_Create(&msg, subject, NULL, data, sizeof(data));

        if (s == NATS_OK)
            s = natsMsgHeader_Set(msg, CHECKER_FOREIGN, "1");
        if (s == NATS_OK)
            s = js_PublishMsg(NULL, js, msg, NULL, NULL);
        natsMsg_Destroy(msg);
        if (s != NATS_OK)
            test_fail("filling the stream: %s", natsStatus_GetText(s));
    }
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}

/* Errors are what must not be, whatever was killed. */
static void end_reconciler(struct drain *d, int signo)
{
    HW_AUTO_FREE char *path = hw_strdup(d->reconciler.log);

    test_program_stop(&d->reconciler, signo);
    HW_AUTO_FREE char *log = test_read_file(path);
    d->hidden += count(log, "as after it was killed");
    d->troubles += count(log, "level=error") + count(log, "10071");
    if (d->verbose || strstr(log, "level=error") != NULL)
        fprintf(stderr, "%s", log);
}

static void tell(const struct drain *d, const char *what)
{
    if (d->verbose)
        fprintf(stderr, "%6.2f  %s\n", test_now() - d->started, what);
}

static bool is_confirmed(const struct drain *d, const char *lsn)
{
    return test_sql_is(&d->pg, "t",
                       "SELECT coalesce(max(confirmed_flush_lsn), '0/0') >= '%s'"
                       " FROM pg_replication_slots WHERE slot_name = 'headwater'",
                       lsn);
}

static char *unsettled(const struct drain *d, const char *lsn)
{
    const char *const none[] = {NULL};
    hw_lsn position = 0;

    if (hw_lsn_parse(lsn, &position, NULL) != HW_OK)
        test_fail("no LSN: %s", lsn);
    return checker_unsettled(d->checker, position, none, false);
}

static void wait_until_settled(const struct drain *d)
{
    HW_AUTO_FREE char *lsn = test_sql(&d->pg, "SELECT pg_current_wal_lsn()");
    const double until = test_deadline(READY_S);

    /* The checker cannot ask a stream that has nothing. */
    test_wait_for(is_confirmed(d, lsn), READY_S);
    for (char *why; (why = unsettled(d, lsn)) != NULL; free(why))
        if (test_now() > until)
            test_fail("not settled: %s", why);
}

static void fill_log(const struct drain *d, int transactions)
{
    const int nodes = transactions / ROUNDS, sources = BYTES / transactions / SOURCE;

    free(test_sql(&d->pg,
                  "UPDATE headwater.desired SET revision = revision + 1, sources ="
                  " (SELECT jsonb_agg(jsonb_build_object('config', 'config-of-some-length',"
                  " 'revision', i, 'assignment', 'all')) FROM generate_series(1, %d) AS i)",
                  sources));
    free(test_sql(
        &d->pg,
        "DO $$ BEGIN FOR t IN 0..%d LOOP UPDATE headwater.desired"
        " SET revision = revision + 1, digest = digest || '', media_type = media_type || '',"
        " sources = sources || '[]' WHERE node = 'n' || (t %% %d + 1);"
        " COMMIT; END LOOP; END $$",
        transactions - 1, nodes));
    free(test_sql(&d->pg, "SELECT headwater.heartbeat()"));
}

static void wait_for_share(const struct drain *d, uint64_t from, int transactions, double share)
{
    const uint64_t upto = from + (uint64_t)(transactions * share);

    test_wait_for(checker_newest(d->checker) >= upto, DRAINED_S);
}

bool drain_run(const struct drain_options *options)
{
    const int transactions = options->transactions > 0 ? options->transactions : TRANSACTIONS;
    struct chance chance = chance_of(options->seed, 2);
    struct drain d = {.verbose = options->verbose, .started = test_now()};

    test_postgres_start(&d.pg, true, "max_wal_size = 256MB\nsynchronous_commit = off");
    test_nats_start(&d.nats);
    d.checker = checker_start(&d.pg, &d.nats);
    stream_make(d.nats.url);
    fill_first_file(&d);
    start_reconciler(&d);
    wait_until_settled(&d);
    free(test_sql(&d.pg,
                  "INSERT INTO headwater.node (name)"
                  " SELECT 'n' || i FROM generate_series(1, %d) i;"
                  "INSERT INTO headwater.config (name, content) VALUES ('c', '{\"a\":0}');"
                  "INSERT INTO headwater.assignment (name, config, selector)"
                  " VALUES ('all', 'c', '{}')",
                  transactions / ROUNDS));
    wait_until_settled(&d);
    end_reconciler(&d, SIGTERM);
    fill_log(&d, transactions);
    HW_AUTO_FREE char *end = test_sql(&d.pg, "SELECT pg_current_wal_lsn()");
    tell(&d, "the log is full");

    const uint64_t from = checker_newest(d.checker) + (uint64_t)(transactions / ROUNDS);
    start_reconciler(&d);
    for (int i = 0; i < KILLS; i++) {
        const int percent = 20 * (i + 1) + chance_between(&chance, -10, 9);

        wait_for_share(&d, from, transactions, percent / 100.0);
        end_reconciler(&d, SIGKILL);
        tell(&d, "the reconciler was killed");
        start_reconciler(&d);
    }
    wait_for_share(&d, from, transactions, NATS_DIES / 100.0);
    test_nats_kill(&d.nats);
    tell(&d, "nats-server was killed");
    test_nats_restart(&d.nats);
    const double until = test_deadline(DRAINED_S);
    while (!is_confirmed(&d, end) && test_now() < until)
        test_pause();
    char *why;
    while ((why = unsettled(&d, end)) != NULL && test_now() < until)
        free(why);
    tell(&d, why == NULL ? "all arrived" : why);
    if (why != NULL)
        fprintf(stderr, "problem: %s\n", why);
    end_reconciler(&d, SIGTERM);
    const struct checker_result result =
        checker_check(d.checker, &(struct checker_options){.failure_dir = options->failure_dir});
    const bool passed = why == NULL && result.problems == 0 && d.troubles == 0;

    printf("drain seed=%" PRIu64
           " transactions=%d entries=%d repairs=%d hidden=%d seconds=%.1f %s\n",
           options->seed, transactions, result.entries, result.repairs, d.hidden,
           test_now() - d.started, passed ? "passed" : "FAILED");
    free(why);
    checker_free(d.checker);
    test_nats_remove(&d.nats);
    test_postgres_remove(&d.pg);
    return passed;
}
