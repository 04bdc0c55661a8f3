#include "tests/recovery/hostile.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/recovery/chance.h"
#include "tests/support/process.h"

#define MARK     "hostile"
#define REPORTED "$KV.headwater_reports.cfg.reported."
#define PROPOSED "$KV.headwater_reports.cfg.proposed."
#define GET      "$JS.API.DIRECT.GET."

enum {
    ANSWER_MS = 2000, /* then the server is down or frozen: it begins anew */
    PAUSE_US = 20000,
    BURST_MOST = 60,
    FLOOD_MOST = 600,
    LARGE = 60000,
    HUGE = 900000,
};

struct hostile {
    int port;
    struct chance chance;
    pthread_t thread;
    _Atomic double until;
    atomic_bool stopping, busy;
    atomic_int sent;
};

/* ---- what it says ---- */

/* What its account lets it publish to. */
static const char *const own[] = {REPORTED HOSTILE_NODE,
                                  PROPOSED HOSTILE_NODE,
                                  "headwater.alive." HOSTILE_NODE,
                                  GET "KV_headwater.$KV.headwater.cfg.desired." HOSTILE_NODE,
                                  GET "KV_headwater.$KV.headwater.cfg.decided." HOSTILE_NODE,
                                  GET "KV_headwater_reports." REPORTED HOSTILE_NODE,
                                  GET "KV_headwater_reports." PROPOSED HOSTILE_NODE,
                                  GET "OBJ_headwater.$O.headwater.M.x",
                                  GET "OBJ_headwater"};
enum { OWN_STORED = 2 };

/* What belongs to others. A reply subject with a wildcard ends nats-server before 2.9.15
 * (docs/operations.md), so there is none. */
static const char *const others[] = {"$KV.headwater.cfg.checkpoint",
                                     "$KV.headwater.cfg.desired.n0",
                                     "$KV.headwater.cfg.desired.n1",
                                     "$KV.headwater.cfg.decided.n2",
                                     "$KV.headwater.cfg.x",
                                     "$KV.headwater_reports.cfg.reported.n0",
                                     "$KV.headwater_reports.cfg.reported.n1",
                                     "$KV.headwater_reports.cfg.proposed.n2",
                                     "$O.headwater.M.x",
                                     "$O.headwater.C.x",
                                     "headwater.desired.n0",
                                     "headwater.decided.n1",
                                     "headwater.alive.n1",
                                     "headwater.leader",
                                     "$JS.API.STREAM.DELETE.KV_headwater",
                                     "$JS.API.STREAM.PURGE.KV_headwater_reports",
                                     "$JS.API.STREAM.UPDATE.KV_headwater",
                                     "$JS.API.CONSUMER.CREATE.KV_headwater",
                                     "$JS.API.CONSUMER.LIST.KV_headwater_reports",
                                     "$JS.API.STREAM.MSG.GET.KV_headwater",
                                     "$JS.FC.KV_headwater_reports.x.y",
                                     "$JS.ACK.KV_headwater_reports.x.1.1.1.1700000000000000000.0",
                                     "_INBOX.x",
                                     "_R_.x"};

static const char *const statuses[] = {"NATS/1.0",
                                       "NATS/1.0 100 Idle Heartbeat",
                                       "NATS/1.0 100 FlowControl Request",
                                       "NATS/1.0 404 No Messages",
                                       "NATS/1.0 408 Request Timeout",
                                       "NATS/1.0 409 Consumer Deleted",
                                       "NATS/1.0 503",
                                       "NATS/1.0 abc"};

static const char *const lines[] = {
    "",
    "Nats-Consumer-Stalled: $JS.API.STREAM.DELETE.KV_headwater\r\n",
    "Nats-Consumer-Stalled: $KV.headwater.cfg.checkpoint\r\n",
    "Nats-Last-Consumer: 1\r\nNats-Last-Stream: 1\r\n",
    "Nats-Last-Consumer: 18446744073709551615\r\n",
    "Nats-Sequence: 1\r\nNats-Subject: $KV.headwater.cfg.x\r\nNats-Stream: KV_headwater\r\n",
    "Headwater-Epoch: 4294967295\r\nHeadwater-LSN: FFFFFFFF/FFFFFFFF\r\n",
    "Headwater-Epoch: 1\r\nHeadwater-LSN: 0/1\r\n",
    "Status: 503\r\nNats-Pending-Messages: 1\r\nNats-Pending-Bytes: 1\r\n",
    "Nats-Rollup: sub\r\n",
    "Nats-Rollup: all\r\nKV-Operation: PURGE\r\n",
    "KV-Operation: DEL\r\n",
    "KV-Operation: x\r\n",
    "Nats-Expected-Last-Subject-Sequence: 0\r\n",
    "Nats-Expected-Last-Sequence: 18446744073709551615\r\n",
    "Nats-Expected-Stream: x\r\n",
    "Nats-Msg-Id: 1\r\n",
    "no field at all\r\n",
    ": no name\r\n",
    "c: \xff\xfe\r\n"};

#define ANY(chance, list) (list)[chance_below((chance), HW_COUNT(list))]

/* Bytes of all kinds, or a whole header block, or none. */
static void add_headers(struct hw_buf *out, struct chance *c)
{
    const int kind = chance_below(c, 8);

    if (kind < 3)
        return;
    if (kind == 7) {
        for (int i = chance_below(c, 100); i >= 0; i--)
            hw_buf_putc(out, (char)chance_below(c, 256));
        return;
    }
    hw_buf_printf(out, "%s\r\n%s%s\r\n", ANY(c, statuses), ANY(c, lines),
                  chance_in(c, 3) ? ANY(c, lines) : "");
}

static void add_report(struct hw_buf *out, struct chance *c)
{
    static const char *const nodes[] = {HOSTILE_NODE, HOSTILE_NODE, "n0", "n1", "*"};
    static const char *const states[] = {"applied", "failed", "rejected", "conflict", "\\u0000"};

    hw_buf_printf(out,
                  "{\"node\":\"%s\",\"state\":\"%s\",\"agent\":\"" MARK "\",\"boot_id\":\"b\","
                  "\"instance\":\"" MARK "-%d\",\"heartbeat\":%s,\"reported_at\":\"%s\"",
                  ANY(c, nodes), ANY(c, states), chance_below(c, 5),
                  chance_in(c, 2) ? "0.5" : "1e-300",
                  chance_in(c, 5) ? "never" : "2026-01-01T00:00:00Z");
    /* Entries that it never had; not of a later epoch than there is, which would have every entry
     * of the fleet written again, as for nodes that remember what NATS has lost. */
    if (chance_in(c, 2))
        hw_buf_printf(out,
                      ",\"running\":{\"revision\":%d,\"digest\":\"sha256:%064d\",\"epoch\":%d,"
                      "\"lsn\":\"0/%X\",\"applied_at\":\"2026-01-01T00:00:00Z\"}",
                      chance_between(c, -1, 9), chance_below(c, 3), chance_below(c, 2),
                      (unsigned)chance_below(c, 1 << 20));
    hw_buf_putc(out, '}');
}

static void add_proposal(struct hw_buf *out, struct chance *c)
{
    static const char *const nodes[] = {HOSTILE_NODE, HOSTILE_NODE, "n0", "*"};
    static const char *const configs[] = {"open", "c1", "c6", "bulk", "'; --", "../c1"};
    static const char *const contents[] = {"{\\\"bad\\\":1}", "", "\\u0000", "[[[["};

    hw_buf_printf(out,
                  "{\"node\":\"%s\",\"ref\":\"" MARK "-%d\",\"config\":\"%s\","
                  "\"base_revision\":%d,\"content\":\"%s\",\"message\":\"m\"}",
                  ANY(c, nodes), chance_below(c, 30), ANY(c, configs), chance_between(c, -1, 6),
                  ANY(c, contents));
}

static void add_body(struct hw_buf *out, struct chance *c)
{
    switch (chance_below(c, 10)) {
    case 0:
        return;
    case 1:
        hw_buf_puts(out, "{}");
        return;
    case 2:
        for (int i = chance_below(c, 300); i >= 0; i--)
            hw_buf_putc(out, (char)chance_below(c, 256));
        return;
    case 3: {
        const bool is_deep = chance_in(c, 2);

        hw_buf_puts(out, "{\"node\":\"" HOSTILE_NODE "\",\"agent\":\"" MARK "\",\"state\":\"");
        for (int i = chance_in(c, 20) ? HUGE : LARGE; i > 0; i--)
            hw_buf_putc(out, is_deep ? '[' : 'x');
        hw_buf_puts(out, "\"}");
        return;
    }
    case 4:
        hw_buf_puts(out, "{\"seq\":1,\"next_by_subj\":\">\"}");
        return;
    case 5:
    case 6:
        add_proposal(out, c);
        return;
    default:
        add_report(out, c);
    }
}

static void add_message(struct hw_buf *out, const char *subject, const char *reply,
                        const struct hw_buf *headers, const struct hw_buf *body)
{
    if (headers->len > 0)
        hw_buf_printf(out, "HPUB %s %s %zu %zu\r\n", subject, reply, headers->len,
                      headers->len + body->len);
    else
        hw_buf_printf(out, "PUB %s %s %zu\r\n", subject, reply, body->len);
    hw_buf_add(out, headers->data, headers->len);
    hw_buf_add(out, body->data, body->len);
    hw_buf_puts(out, "\r\n");
}

/* What stays in its keys, until the next burst: words of the server, for whoever reads what is
 * stored last. */
static void add_last_words(struct hw_buf *out, struct chance *c)
{
    const struct hw_buf empty = {0};
    struct hw_buf headers = {0};

    for (int i = 0; i < OWN_STORED; i++) {
        hw_buf_reset(&headers);
        hw_buf_printf(&headers, "%s\r\n%s\r\n", statuses[chance_between(c, 1, 2)], ANY(c, lines));
        add_message(out, own[i], "", &headers, &empty);
    }
    hw_buf_free(&headers);
}

/* Many different messages, or, one time in six, many of one kind to one subject. */
static int add_burst(struct hw_buf *out, struct chance *c)
{
    const bool is_flood = chance_in(c, 6);
    const int count = chance_between(c, 1, is_flood ? FLOOD_MOST : BURST_MOST);
    const char *const flooded = own[chance_below(c, OWN_STORED + 1)];
    struct hw_buf headers = {0}, body = {0};

    for (int i = 0; i < count; i++) {
        const char *subject = chance_in(c, 4) ? ANY(c, others) : ANY(c, own);

        if (chance_in(c, 2))
            subject = own[chance_below(c, OWN_STORED)];
        hw_buf_reset(&headers);
        hw_buf_reset(&body);
        if (!is_flood)
            add_headers(&headers, c);
        if (is_flood)
            add_report(&body, c);
        else
            add_body(&body, c);
        add_message(out, is_flood ? flooded : subject, chance_in(c, 4) ? ANY(c, others) : "",
                    &headers, &body);
    }
    add_last_words(out, c);
    hw_buf_free(&headers);
    hw_buf_free(&body);
    return count + OWN_STORED;
}

/* ---- its connection ---- */

static int dial(const struct hostile *h)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)h->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval timeout = {.tv_sec = ANSWER_MS / 1000};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* False: the server wants no more of it, or is not there. What it answers besides is dropped. */
static bool send_all(int fd, const struct hw_buf *data)
{
    for (size_t at = 0; at < data->len;) {
        char answers[65536];
        struct pollfd ready = {.fd = fd, .events = POLLIN | POLLOUT};

        if (poll(&ready, 1, ANSWER_MS) <= 0)
            return false;
        if ((ready.revents & POLLIN) != 0 && recv(fd, answers, sizeof(answers), 0) <= 0)
            return false;
        if ((ready.revents & POLLOUT) != 0) {
            const ssize_t n =
                send(fd, data->data + at, data->len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

            if (n < 0 && errno != EAGAIN)
                return false;
            at += n > 0 ? (size_t)n : 0;
        }
        if ((ready.revents & (POLLERR | POLLHUP)) != 0)
            return false;
    }
    return true;
}

static void await_pong(int fd)
{
    struct hw_buf heard = {0};
    char answers[65536];

    for (ssize_t n; (n = recv(fd, answers, sizeof(answers), 0)) > 0;) {
        hw_buf_add(&heard, answers, (size_t)n);
        if (memmem(heard.data, heard.len, "PONG\r\n", 6) != NULL)
            break;
        /* An end that may be the beginning of it. */
        if (heard.len > sizeof(answers))
            hw_buf_reset(&heard);
    }
    hw_buf_free(&heard);
}

static void attack(struct hostile *h)
{
    struct hw_buf data = {0};
    const int fd = dial(h);

    if (fd >= 0) {
        hw_buf_puts(&data, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,"
                           "\"no_responders\":true,\"user\":\"" HOSTILE_NODE
                           "\",\"pass\":\"" HOSTILE_NODE "\"}\r\nSUB > 1\r\nSUB _INBOX.> 2\r\n");
        const int count = add_burst(&data, &h->chance);
        hw_buf_puts(&data, "PING\r\n");
        if (send_all(fd, &data)) {
            await_pong(fd);
            h->sent += count;
        }
        close(fd);
    }
    hw_buf_free(&data);
}

static void *live(void *arg)
{
    struct hostile *h = arg;

    while (!h->stopping) {
        if (test_now() < h->until) {
            h->busy = true;
            attack(h);
            h->busy = false;
        }
        usleep(PAUSE_US);
    }
    return NULL;
}

struct hostile *hostile_start(int port, uint64_t seed)
{
    struct hostile *h = hw_alloc(sizeof(*h));

    h->port = port;
    h->chance = chance_of(seed, 4);
    if (pthread_create(&h->thread, NULL, live, h) != 0)
        test_fail("cannot start a thread");
    return h;
}

void hostile_stop(struct hostile *h)
{
    h->stopping = true;
    pthread_join(h->thread, NULL);
    free(h);
}

void hostile_attack(struct hostile *h, double seconds)
{
    h->until = test_now() + seconds;
}

void hostile_rest(struct hostile *h)
{
    h->until = 0;
    while (h->busy)
        test_pause();
}

int hostile_sent(const struct hostile *h)
{
    return h->sent;
}

/* ---- the rule ---- */

/* Each query counts what is not as it must be. */
static const struct {
    const char *what, *sql;
} rules[] = {
    {"reports of others that it wrote",
     "SELECT count(*) FROM headwater.reported WHERE node <> '" HOSTILE_NODE "'"
     " AND (agent = '" MARK "' OR instance LIKE '" MARK "%')"},
    {"reports of others in the history that it wrote",
     "SELECT count(*) FROM headwater.reported_history WHERE node <> '" HOSTILE_NODE "'"
     " AND agent = '" MARK "'"},
    {"proposals of others that it made",
     "SELECT count(*) FROM headwater.proposal WHERE node <> '" HOSTILE_NODE "'"
     " AND ref LIKE '" MARK "%'"},
    {"signs of life of others that it gave",
     "SELECT count(*) FROM headwater.instance WHERE node <> '" HOSTILE_NODE "'"
     " AND instance LIKE '" MARK "%'"},
    {"names that nobody has",
     "SELECT count(*) FROM headwater.unknown_node WHERE name !~ '^(n[0-9]+|bulk-[0-9]+)$'"},
};

void hostile_judge(struct checker *checker, const struct test_postgres *pg)
{
    for (size_t i = 0; i < HW_COUNT(rules); i++) {
        HW_AUTO_FREE char *count = test_sql(pg, "%s", rules[i].sql);

        if (strcmp(count, "0") != 0)
            checker_problem(checker, "the hostile node", "%s: %s", rules[i].what, count);
    }
}
