#include "tests/recovery/workload.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/memory.h"
#include "tests/recovery/chance.h"
#include "tests/support/process.h"
#include "tests/support/servers.h"

enum {
    WRITERS = 2,
    NODES = 24,
    CONFIGS = 10,
    BINARIES = 3,
    ASSIGNMENTS = 20,
    SELECTORS = 4,
    GROUPS = 4,
    BULK_MOST = 1000, /* nodes that a large transaction changes at most */
};

struct writer {
    struct workload *workload;
    struct chance chance;
    pthread_t thread;
    int number;
};

struct workload {
    char *url;
    int transactions; /* how many each writer sends */
    double seconds;
    struct writer writers[WRITERS];
    atomic_int sent, running;
};

/* ---- statements ---- */

/* Draws one of few values, so that earlier content comes back now and then. */
static void add_json(struct hw_buf *sql, struct chance *c, int config)
{
    if (chance_in(c, 4))
        hw_buf_printf(sql, "{\"shared\":{\"by\":%d},\"v\":%d}", config, chance_below(c, 3));
    else if (chance_in(c, 6))
        hw_buf_printf(sql, "{\"shared\":null,\"v\":%d}", chance_below(c, 3));
    else
        hw_buf_printf(sql, "{\"c%d\":{\"v\":%d,\"w\":[1,2,%d]}}", config, chance_below(c, 6),
                      chance_below(c, 2));
}

static void add_binary(struct hw_buf *sql, struct chance *c)
{
    const size_t size = chance_in(c, 12) ? 150000 + (size_t)chance_below(c, 3) * 65536
                                         : (size_t)chance_below(c, 4) * 700;
    struct chance bytes = chance_of((uint64_t)chance_below(c, 5), size);
    HW_AUTO_FREE unsigned char *data = hw_alloc(size + 1);

    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)chance_next(&bytes);
    HW_AUTO_FREE char *text = hw_base64_encode(data, size);
    hw_buf_puts(sql, text);
}

static void add_assignment(struct hw_buf *sql, struct chance *c)
{
    const int node = chance_below(c, NODES);

    hw_buf_printf(sql,
                  "INSERT INTO headwater.assignment (name, config, node, priority)"
                  " SELECT 'a%d', c.name, n.name, %d FROM headwater.config c, headwater.node n"
                  " WHERE c.name = '%c%d' AND n.name = 'n%d'"
                  " ON CONFLICT (name) DO UPDATE SET config = excluded.config,"
                  " node = excluded.node, selector = NULL, revision = NULL,"
                  " priority = excluded.priority;",
                  chance_below(c, ASSIGNMENTS), chance_below(c, 5), chance_in(c, 4) ? 'b' : 'c',
                  chance_below(c, BINARIES), node);
}

static void add_bulk(struct hw_buf *sql, struct chance *c)
{
    switch (chance_below(c, 5)) {
    case 0:
        hw_buf_printf(sql, "DELETE FROM headwater.node WHERE labels @> '{\"bulk\":\"%d\"}';",
                      chance_below(c, 2));
        break;
    case 1:
        hw_buf_printf(sql,
                      "UPDATE headwater.node SET labels = '{\"bulk\":\"%d\"}'"
                      " WHERE labels @> '{\"bulk\":\"%d\"}';",
                      chance_below(c, 2), chance_below(c, 2));
        break;
    case 2:
        hw_buf_printf(sql,
                      "INSERT INTO headwater.node (name, labels)"
                      " SELECT 'bulk-' || i, '{\"bulk\":\"%d\"}' FROM generate_series(1, %d) i"
                      " ON CONFLICT (name) DO NOTHING;",
                      chance_below(c, 2), chance_between(c, BULK_MOST / 2, BULK_MOST));
        break;
    default:
        hw_buf_printf(sql,
                      "UPDATE headwater.config SET content = '{\"bulk\":%d}'"
                      " WHERE name = 'bulk';",
                      chance_below(c, 1000));
    }
}

static void add_statement(struct hw_buf *sql, struct chance *c)
{
    const int config = chance_below(c, CONFIGS), node = chance_below(c, NODES);

    switch (chance_below(c, 18)) {
    case 0:
        hw_buf_printf(sql,
                      "INSERT INTO headwater.config (name, content, encoding, media_type)"
                      " VALUES ('b%d', '",
                      chance_below(c, BINARIES));
        add_binary(sql, c);
        hw_buf_puts(sql, "', 'base64', 'application/octet-stream')"
                         " ON CONFLICT (name) DO UPDATE SET content = excluded.content,"
                         " encoding = excluded.encoding, media_type = excluded.media_type;");
        break;
    case 1:
    case 2:
        add_assignment(sql, c);
        break;
    case 3:
        hw_buf_printf(sql, "DELETE FROM headwater.assignment WHERE name = 'a%d';",
                      chance_below(c, ASSIGNMENTS));
        break;
    case 4: /* a selector moves */
        hw_buf_printf(sql,
                      "UPDATE headwater.assignment SET selector = '{\"group\":\"%d\"}'"
                      " WHERE name = 's%d';",
                      chance_below(c, GROUPS), chance_below(c, SELECTORS));
        break;
    case 5: /* a label moves */
        hw_buf_printf(sql,
                      "UPDATE headwater.node SET labels = '{\"group\":\"%d\"}'"
                      " WHERE name = 'n%d';",
                      chance_below(c, GROUPS), node);
        break;
    case 6:
        hw_buf_printf(sql, "DELETE FROM headwater.node WHERE name = 'n%d';", node);
        break;
    case 7:
        hw_buf_printf(sql,
                      "INSERT INTO headwater.node (name, labels)"
                      " SELECT 'n' || i, format('{\"group\":\"%%s\"}', i %% %d)::jsonb"
                      " FROM generate_series(%d, %d) i ON CONFLICT (name) DO NOTHING;",
                      GROUPS, node / 4 * 4, node / 4 * 4 + 3);
        break;
    case 8: /* nothing changes */
        hw_buf_printf(sql, "UPDATE headwater.config SET content = content WHERE name = 'c%d';",
                      config);
        break;
    case 9: /* documents are worked out again, in another order */
        hw_buf_printf(sql, "UPDATE headwater.assignment SET priority = %d WHERE name = '%c%d';",
                      chance_below(c, 5), chance_in(c, 2) ? 's' : 'a', chance_below(c, SELECTORS));
        break;
    case 10: /* gone and back within one transaction, or gone for a while */
        hw_buf_printf(sql, "DELETE FROM headwater.assignment WHERE config = 'c%d';", config);
        if (chance_in(c, 2))
            hw_buf_printf(sql, "DELETE FROM headwater.config WHERE name = 'c%d';", config);
        add_assignment(sql, c);
        break;
    case 11:
        hw_buf_printf(sql,
                      "UPDATE headwater.assignment a SET revision = (SELECT max(r.revision)"
                      " FROM headwater.config_revision r WHERE r.config = a.config)"
                      " WHERE name = 'a%d';",
                      chance_below(c, ASSIGNMENTS));
        break;
    case 12: /* a person looks at what nodes propose */
    case 13:
        hw_buf_printf(sql,
                      "SELECT headwater.%s(p.id) FROM (SELECT id FROM headwater.proposal"
                      " WHERE state = 'pending' ORDER BY id LIMIT 1) p;",
                      chance_in(c, 4) ? "reject" : "approve");
        break;
    default:
        hw_buf_printf(sql, "INSERT INTO headwater.config (name, content) VALUES ('c%d', '", config);
        add_json(sql, c, config);
        hw_buf_puts(sql, "') ON CONFLICT (name) DO UPDATE SET content = excluded.content;");
    }
}

static void make_transaction(struct hw_buf *sql, struct chance *c, int n)
{
    hw_buf_reset(sql);
    hw_buf_puts(sql, "BEGIN;");
    if (n % 40 == 20)
        add_bulk(sql, c);
    for (int more = chance_in(c, 3) ? chance_between(c, 2, 5) : 1; more > 0; more--)
        add_statement(sql, c);
    hw_buf_puts(sql, chance_in(c, 12) ? "ROLLBACK" : "COMMIT");
}

/* ---- writers ---- */

static void drop_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

static PGconn *connect_to(const char *url)
{
    PGconn *conn = PQconnectdb(url);

    PQsetNoticeProcessor(conn, drop_notice, NULL);
    return conn;
}

/* A refusal of the data is part of the work, since two writers do not know of each other: what one
 * would decide, the other has decided (55000), or its node is gone (P0002). So is the error of a
 * server that goes down. */
static bool is_expected(const char *sqlstate)
{
    return strncmp(sqlstate, "23", 2) == 0 || strncmp(sqlstate, "40", 2) == 0 ||
           strncmp(sqlstate, "57", 2) == 0 || strcmp(sqlstate, "55000") == 0 ||
           strcmp(sqlstate, "P0002") == 0;
}

static void execute(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (state != NULL && !is_expected(state))
        test_fail("the workload: %s%s", PQresultErrorMessage(result), sql);
    PQclear(result);
    if (PQtransactionStatus(conn) == PQTRANS_INERROR)
        PQclear(PQexec(conn, "ROLLBACK"));
}

static void *write_all(void *arg)
{
    struct writer *w = arg;
    struct workload *load = w->workload;
    struct hw_buf sql = {0};
    PGconn *conn = connect_to(load->url);

    for (int n = 0; n < load->transactions; n++) {
        const int most_us = (int)(2e6 * load->seconds / load->transactions);

        make_transaction(&sql, &w->chance, n + w->number * 13);
        usleep((useconds_t)chance_below(&w->chance, most_us + 1));
        while (PQstatus(conn) != CONNECTION_OK) { /* a commit without an answer is not sent again */
            test_pause();
            PQfinish(conn);
            conn = connect_to(load->url);
        }
        execute(conn, hw_buf_str(&sql));
        load->sent++;
    }
    PQfinish(conn);
    hw_buf_free(&sql);
    load->running--;
    return NULL;
}

struct workload *workload_start(const struct workload_options *options)
{
    struct workload *load = hw_alloc(sizeof(*load));

    load->url = hw_strdup(options->url);
    load->transactions = options->transactions / WRITERS;
    load->seconds = options->seconds;
    load->running = WRITERS;
    for (int i = 0; i < WRITERS; i++) {
        load->writers[i] = (struct writer){
            .workload = load, .chance = chance_of(options->seed, 100 + (uint64_t)i), .number = i};
        if (pthread_create(&load->writers[i].thread, NULL, write_all, &load->writers[i]) != 0)
            test_fail("cannot start a thread");
    }
    return load;
}

bool workload_done(struct workload *load)
{
    return load->running == 0;
}

int workload_finish(struct workload *load)
{
    for (int i = 0; i < WRITERS; i++)
        pthread_join(load->writers[i].thread, NULL);
    const int sent = load->sent;
    free(load->url);
    free(load);
    return sent;
}

/* ---- the beginning and the end ---- */

static void execute_alone(const char *url, const char *sql)
{
    PGconn *conn = connect_to(url);
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        test_fail("the workload: %s%s", PQerrorMessage(conn), sql);
    PQclear(result);
    PQfinish(conn);
}

static void add_groups(struct hw_buf *sql)
{
    hw_buf_printf(sql,
                  "INSERT INTO headwater.node (name, labels)"
                  " SELECT 'n' || i, format('{\"group\":\"%%s\"}', i %% %d)::jsonb"
                  " FROM generate_series(0, %d) i ON CONFLICT (name) DO NOTHING;",
                  GROUPS, NODES - 1);
}

void workload_prepare(const char *url, uint64_t seed)
{
    struct chance c = chance_of(seed, 99);
    struct hw_buf sql = {0};

    add_groups(&sql);
    hw_buf_puts(&sql, "INSERT INTO headwater.config (name, content)"
                      " VALUES ('bulk', '{\"bulk\":0}');"
                      "INSERT INTO headwater.assignment (name, config, selector)"
                      " VALUES ('bulk', 'bulk', '{\"bulk\":\"1\"}');"
                      "INSERT INTO headwater.config (name, content)"
                      " VALUES ('open', '{\"open\":0}');"
                      "INSERT INTO headwater.assignment (name, config, selector)"
                      " SELECT 'open-' || i, 'open', format('{\"group\":\"%s\"}', i)::jsonb"
                      " FROM generate_series(0, 2) i;");
    for (int i = 0; i < CONFIGS; i++) {
        hw_buf_printf(&sql, "INSERT INTO headwater.config (name, content) VALUES ('c%d', '", i);
        add_json(&sql, &c, i);
        hw_buf_puts(&sql, "');");
    }
    for (int i = 0; i < SELECTORS; i++)
        hw_buf_printf(&sql,
                      "INSERT INTO headwater.assignment (name, config, selector, priority)"
                      " VALUES ('s%d', 'c%d', '{\"group\":\"%d\"}', %d);",
                      i, CONFIGS - 1 - i, i % GROUPS, chance_below(&c, 5));
    execute_alone(url, hw_buf_str(&sql));
    hw_buf_free(&sql);
}

void workload_settle(const char *url)
{
    struct hw_buf sql = {0};

    add_groups(&sql);
    hw_buf_puts(&sql, "INSERT INTO headwater.config (name, content) VALUES ('last', '{\"at\":1}');"
                      "INSERT INTO headwater.assignment (name, config, node, priority)");
    hw_buf_printf(&sql, " SELECT 'last-' || i, 'last', 'n' || i, 3 FROM generate_series(0, %d) i;",
                  WORKLOAD_AGENTS - 1);
    execute_alone(url, hw_buf_str(&sql));
    hw_buf_free(&sql);
}
