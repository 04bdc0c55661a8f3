#include "tests/recovery/faults.h"

#include <errno.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/memory.h"
#include "tests/recovery/stream.h"
#include "tests/support/process.h"

enum { READY_S = 60 };

/* ---- starting ---- */

static const char *const points[] = {"after-blob-put",  "after-publish", "before-checkpoint",
                                     "before-feedback", "mid-snapshot",  "mid-replay"};

static void start_reconciler(struct rig *rig, struct rig_reconciler *r)
{
    const char *const argv[] = {
        "headwater-reconciler", "--database", r->database, "--nats", r->nats, NULL};
    const int point = chance_below(&rig->chance, HW_COUNT(points));
    /* How often the point is passed before it acts. Points of entries are passed often, others
     * seldom. */
    const int count =
        chance_between(&rig->chance, 1, point <= 1 && chance_in(&rig->chance, 2) ? 40 : 4);
    HW_AUTO_FREE char *armed = hw_sprintf("HEADWATER_POINT=%s:%d%s", points[point], count,
                                          chance_in(&rig->chance, 5) ? ":stop" : "");
    const char *const env[] = {armed, NULL};

    if (rig->points > 0 && rig->verbose)
        fprintf(stderr, "        %s\n", armed);
    test_program_start(&r->program, argv, rig->points > 0 ? env : NULL);
    rig->points -= rig->points > 0;
    r->start_at = r->wake_at = 0;
}

static void start_agent(struct rig *rig, struct rig_agent *a)
{
    char url[BUS_URL_MOST];
    const char *const argv[] = {
        "headwater-agent", "--nats",     url,      "--node", a->node,       "--output", a->output,
        "--state-dir",     a->state_dir, "--poll", "500ms",  "--heartbeat", "500ms",    NULL};

    bus_url(url, a->node, rig->nats.port);
    test_program_start(&a->program, argv, NULL);
    a->start_at = 0;
}

static void name_agent(struct rig_agent *a, int number)
{
    HW_AUTO_FREE char *dir = test_temp_dir();

    snprintf(a->node, sizeof(a->node), "n%d", number);
    snprintf(a->state_dir, sizeof(a->state_dir), "%s/state", dir);
    snprintf(a->output, sizeof(a->output), "%s/output", dir);
}

static bool has_checkpoint(struct rig *rig)
{
    natsConnection *nc = NULL;
    jsCtx *js = NULL;
    natsMsg *msg = NULL;
    jsDirectGetMsgOptions options;

    jsDirectGetMsgOptions_Init(&options);
    options.LastBySubject = "$KV.headwater.cfg.checkpoint";
    const bool found = natsConnection_ConnectTo(&nc, rig->nats.url) == NATS_OK &&
                       natsConnection_JetStream(&js, nc, NULL) == NATS_OK &&
                       js_DirectGetMsg(&msg, js, "KV_headwater", NULL, &options) == NATS_OK;
    natsMsg_Destroy(msg);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    return found;
}

void rig_start(struct rig *rig, uint64_t seed, int reconcilers)
{
    rig->chance = chance_of(seed, 1);
    rig->proposals = proposals_new(seed);
    test_postgres_start(&rig->pg, true, "max_wal_size = 256MB");
    for (int i = 0; i < WORKLOAD_AGENTS; i++)
        name_agent(&rig->agents[i], i);
    bus_start(&rig->nats, (const char *const[]){"n0", "n1", "n2", HOSTILE_NODE},
              WORKLOAD_AGENTS + 1, rig->is_open);
    rig->hostile = hostile_start(rig->nats.port, seed);
    rig->checker = checker_start(&rig->pg, &rig->nats);
    stream_make(rig->nats.url);
    for (int i = 0; i < RIG_RECONCILERS; i++) {
        struct rig_reconciler *r = &rig->reconcilers[i];

        r->wanted = i < reconcilers;
        r->to_postgres = proxy_start(rig->pg.port);
        r->to_nats = proxy_start(rig->nats.port);
        snprintf(r->database, sizeof(r->database),
                 "postgresql://headwater_reconciler@127.0.0.1:%d/headwater",
                 proxy_port(r->to_postgres));
        bus_url(r->nats, "core", proxy_port(r->to_nats));
        if (r->wanted)
            start_reconciler(rig, r);
    }
    test_wait_for(has_checkpoint(rig), READY_S);
    for (int i = 0; i < WORKLOAD_AGENTS; i++)
        start_agent(rig, &rig->agents[i]);
}

/* ---- keeping it going ---- */

static bool is_stopped(pid_t pid)
{
    HW_AUTO_FREE char *path = hw_sprintf("/proc/%d/stat", (int)pid);
    HW_AUTO_FREE char *stat = test_read_file(path);
    const char *behind_name = strrchr(stat, ')');

    return behind_name != NULL && behind_name[1] == ' ' && behind_name[2] == 'T';
}

/* A program that ended by itself, not by a signal of ours, fails the test. */
static void reap(struct test_program *program)
{
    HW_AUTO_FREE char *log = hw_strdup(program->log);
    const int status = test_program_stop(program, 0);

    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        test_print_tail(log);
        test_fail("%s ended by itself, status %#x", log, (unsigned)status);
    }
}

static double soon(struct rig *rig, int most_ms)
{
    return test_now() + chance_below(&rig->chance, most_ms + 1) / 1000.0;
}

void rig_tick(struct rig *rig)
{
    const double now = test_now();

    for (int i = 0; i < RIG_RECONCILERS; i++) {
        struct rig_reconciler *r = &rig->reconcilers[i];

        if (r->program.pid != 0 && !test_program_running(&r->program)) {
            reap(&r->program);
            r->start_at = soon(rig, 500);
        }
        if (r->program.pid == 0 && r->wanted && r->start_at <= now)
            start_reconciler(rig, r);
        if (r->program.pid == 0)
            continue;
        if (r->wake_at == 0 && is_stopped(r->program.pid)) /* at a named point */
            r->wake_at = soon(rig, 1000);
        if (r->wake_at != 0 && r->wake_at <= now) {
            kill(r->program.pid, SIGCONT);
            r->wake_at = 0;
        }
    }
    for (int i = 0; i < RIG_AGENTS; i++) {
        struct rig_agent *a = &rig->agents[i];

        if (a->node[0] == '\0')
            continue;
        if (a->program.pid != 0 && !test_program_running(&a->program))
            reap(&a->program);
        if (a->program.pid == 0 && a->start_at <= now)
            start_agent(rig, a);
    }
    if (!rig->is_healed) {
        const struct rig_agent *a = &rig->agents[rig->turn++ % WORKLOAD_AGENTS];

        proposals_tick(rig->proposals, a->node, a->state_dir);
    }
}

void rig_wait(struct rig *rig, double seconds)
{
    for (const double until = test_now() + seconds; test_now() < until; test_pause())
        rig_tick(rig);
}

void rig_heal(struct rig *rig)
{
    rig->points = 0;
    rig->is_healed = true;
    hostile_rest(rig->hostile);
    for (int i = 0; i < RIG_RECONCILERS; i++) {
        struct rig_reconciler *r = &rig->reconcilers[i];

        proxy_heal(r->to_postgres);
        proxy_heal(r->to_nats);
        if (r->wake_at != 0)
            r->wake_at = test_now();
        r->start_at = 0;
    }
    for (int i = 0; i < RIG_AGENTS; i++)
        rig->agents[i].start_at = 0;
    rig_tick(rig);
}

static void end_well(struct test_program *program)
{
    if (program->pid == 0)
        return;
    HW_AUTO_FREE char *log = hw_strdup(program->log);
    kill(program->pid, SIGCONT);
    const int status = test_program_stop(program, SIGTERM);
    const int by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    HW_AUTO_FREE char *said = test_read_file(log);
    /* One that was told to die at a point may do so on its way out; and one that has only just been
     * started does not heed SIGTERM yet. */
    if (status != 0 && by != SIGKILL && !(by == SIGTERM && said[0] == '\0')) {
        test_print_tail(log);
        test_fail("%s ended with status %#x", log, (unsigned)status);
    }
}

const struct rig_agent *rig_first_of_two(const struct rig *rig)
{
    for (int i = 0; i < WORKLOAD_AGENTS; i++)
        if (strcmp(rig->agents[i].node, rig->agents[RIG_SECOND].node) == 0)
            return &rig->agents[i];
    return NULL;
}

void rig_end_second(struct rig *rig)
{
    struct rig_agent *a = &rig->agents[RIG_SECOND];

    end_well(&a->program);
    a->node[0] = '\0';
}

void rig_stop_programs(struct rig *rig)
{
    for (int i = 0; i < RIG_AGENTS; i++)
        end_well(&rig->agents[i].program);
    for (int i = 0; i < RIG_RECONCILERS; i++)
        end_well(&rig->reconcilers[i].program);
}

void rig_stop(struct rig *rig)
{
    rig_stop_programs(rig);
    for (int i = 0; i < RIG_RECONCILERS; i++) {
        proxy_stop(rig->reconcilers[i].to_postgres);
        proxy_stop(rig->reconcilers[i].to_nats);
    }
    hostile_stop(rig->hostile);
    checker_free(rig->checker);
    proposals_free(rig->proposals);
    bus_remove(&rig->nats);
    test_postgres_remove(&rig->pg);
    free(rig->copy);
    hw_buf_free(&rig->told);
}

/* ---- the programs ---- */

/* A reconciler that runs, or NULL. */
static struct rig_reconciler *a_reconciler(struct rig *rig)
{
    const int first = chance_below(&rig->chance, RIG_RECONCILERS);

    for (int i = 0; i < RIG_RECONCILERS; i++) {
        struct rig_reconciler *r = &rig->reconcilers[(first + i) % RIG_RECONCILERS];
        if (test_program_running(&r->program))
            return r;
    }
    return NULL;
}

static void kill_reconciler(struct rig *rig)
{
    struct rig_reconciler *r = a_reconciler(rig);

    if (r == NULL)
        return;
    test_program_stop(&r->program, SIGKILL);
    r->start_at = soon(rig, 600);
}

static void end_reconciler(struct rig *rig)
{
    struct rig_reconciler *r = a_reconciler(rig);

    if (r == NULL)
        return;
    r->wake_at = 0;
    end_well(&r->program);
    r->start_at = soon(rig, 300);
}

static void arm_reconciler(struct rig *rig)
{
    rig->points = chance_between(&rig->chance, 1, 2);
    kill_reconciler(rig);
}

static void freeze(struct rig *rig, int least_ms, int most_ms)
{
    struct rig_reconciler *r = a_reconciler(rig);

    if (r == NULL)
        return;
    kill(r->program.pid, SIGSTOP);
    r->wake_at = test_now() + chance_between(&rig->chance, least_ms, most_ms) / 1000.0;
}

static void freeze_reconciler(struct rig *rig)
{
    freeze(rig, 20, 1500);
}

/* Stops a reconciler for longer than PostgreSQL waits for a silent client, so that another one
 * leads when it goes on. */
static void freeze_long(struct rig *rig)
{
    struct rig_reconciler *other = &rig->reconcilers[1];

    other->wanted = true;
    rig_tick(rig);
    freeze(rig, 11000, 13000);
    rig_wait(rig, 11.0);
}

static void kill_agent(struct rig *rig)
{
    struct rig_agent *a = &rig->agents[chance_below(&rig->chance, RIG_AGENTS)];

    if (!test_program_running(&a->program))
        return;
    test_program_stop(&a->program, SIGKILL);
    a->start_at = soon(rig, 500);
}

/* From now on there are two agents with this name, until all faults have ended. */
static void double_agent(struct rig *rig)
{
    struct rig_agent *second = &rig->agents[RIG_SECOND];

    if (second->node[0] != '\0')
        return;
    name_agent(second, chance_below(&rig->chance, WORKLOAD_AGENTS));
    memcpy(rig->doubled, second->node, sizeof(rig->doubled));
    rig_tick(rig);
}

/* ---- the servers ---- */

static void kill_nats(struct rig *rig)
{
    test_nats_kill(&rig->nats);
    rig_wait(rig, chance_below(&rig->chance, 500) / 1000.0);
    test_nats_restart(&rig->nats);
}

static void restart_nats(struct rig *rig)
{
    test_nats_restart(&rig->nats);
}

static void freeze_nats(struct rig *rig)
{
    kill(rig->nats.pid, SIGSTOP);
    rig_wait(rig, chance_between(&rig->chance, 50, 1500) / 1000.0);
    kill(rig->nats.pid, SIGCONT);
}

static void kill_postgres(struct rig *rig)
{
    test_postgres_kill(&rig->pg);
    rig_wait(rig, chance_below(&rig->chance, 500) / 1000.0);
    test_postgres_restart(&rig->pg);
}

static void restart_postgres(struct rig *rig)
{
    /* PostgreSQL does not end while a client of its is stopped, so all clients go on first. */
    for (int i = 0; i < RIG_RECONCILERS; i++)
        if (rig->reconcilers[i].wake_at != 0)
            rig->reconcilers[i].wake_at = test_now();
    rig_tick(rig);
    test_postgres_restart(&rig->pg);
}

/* ---- the network ---- */

static struct proxy *a_proxy(struct rig *rig, bool postgres)
{
    struct rig_reconciler *r = a_reconciler(rig);

    if (r == NULL)
        r = &rig->reconcilers[0];
    return postgres ? r->to_postgres : r->to_nats;
}

static void cut_postgres(struct rig *rig)
{
    proxy_cut(a_proxy(rig, true), chance_in(&rig->chance, 2));
}

static void cut_nats(struct rig *rig)
{
    proxy_cut(a_proxy(rig, false), chance_in(&rig->chance, 2));
}

static void slow_network(struct rig *rig)
{
    struct proxy *p = a_proxy(rig, chance_in(&rig->chance, 3));

    proxy_delay(p, chance_between(&rig->chance, 1, 60), chance_between(&rig->chance, 3, 20) / 10.0);
}

static void swallow(struct rig *rig)
{
    struct proxy *p = a_proxy(rig, chance_in(&rig->chance, 3));

    proxy_blackhole(p, chance_between(&rig->chance, 1, 15) / 10.0);
    if (chance_in(&rig->chance, 3)) {
        rig_wait(rig, chance_below(&rig->chance, 1000) / 1000.0);
        proxy_cut(p, true);
    }
}

/* ---- the storage of NATS ---- */

static char *store_of(const struct test_nats *nats)
{
    return hw_sprintf("%s/store", nats->dir);
}

static char *new_path(const char *name)
{
    char path[160];

    test_new_path(path, sizeof(path), name);
    return hw_strdup(path);
}

static void copy_tree(const char *from, const char *to)
{
    if (test_program_run((const char *const[]){"cp", "-a", from, to, NULL}, NULL, NULL, NULL) != 0)
        test_fail("cannot copy %s", from);
}

static void move(const char *from, const char *to)
{
    if (rename(from, to) != 0)
        test_fail("cannot move %s to %s: %s", from, to, strerror(errno));
}

static hw_lsn confirmed(struct rig *rig)
{
    HW_AUTO_FREE char *text =
        test_sql(&rig->pg, "SELECT coalesce(max(confirmed_flush_lsn), '0/0')::text"
                           " FROM pg_replication_slots WHERE slot_name = 'headwater'");
    hw_lsn lsn = 0;

    if (hw_lsn_parse(text, &lsn, NULL) != HW_OK)
        test_fail("no LSN: %s", text);
    return lsn;
}

static void stop_nats(struct rig *rig)
{
    if (chance_in(&rig->chance, 2))
        test_nats_kill(&rig->nats);
    else
        test_nats_stop(&rig->nats);
}

/* Takes the storage away and puts replacement in its place. NATS must be down. */
static void lose_storage(struct rig *rig, const char *replacement, const char *copy)
{
    HW_AUTO_FREE char *store = store_of(&rig->nats), *kept = new_path("lost-storage");

    rig->lost = true;
    move(store, kept);
    move(replacement, store);
    checker_storage_lost(rig->checker, kept, confirmed(rig), copy);
}

static void wipe_nats(struct rig *rig)
{
    HW_AUTO_FREE char *empty = new_path("new-storage");
    struct test_nats scratch;

    /* A new stream, made elsewhere: here the reconciler would be the first to make it, as one that
     * forgets. */
    bus_start_another(&scratch, &rig->nats, NULL);
    stream_make(scratch.url);
    test_nats_stop(&scratch);
    HW_AUTO_FREE char *made = store_of(&scratch);
    move(made, empty);
    test_nats_remove(&scratch);

    stop_nats(rig);
    lose_storage(rig, empty, NULL);
    test_nats_restart(&rig->nats);
}

static void copy_storage(struct rig *rig)
{
    HW_AUTO_FREE char *store = store_of(&rig->nats);

    stop_nats(rig);
    free(rig->copy);
    rig->copy = new_path("copy");
    copy_tree(store, rig->copy);
    checker_storage_copied(rig->checker);
    test_nats_restart(&rig->nats);
}

static void roll_back_nats(struct rig *rig)
{
    HW_AUTO_FREE char *again = new_path("new-storage");

    if (rig->copy == NULL) {
        copy_storage(rig);
        rig_wait(rig, chance_between(&rig->chance, 300, 2000) / 1000.0);
    }
    copy_tree(rig->copy, again);
    stop_nats(rig);
    lose_storage(rig, again, rig->copy);
    test_nats_restart(&rig->nats);
}

static void disconnect_nats(natsConnection *nc, jsCtx *js)
{
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}

static void fill_disk(struct rig *rig)
{
    static char data[1 << 19];
    const char *subjects[] = {"recovery.fill"};
    natsConnection *nc;
    jsStreamConfig config;
    jsCtx *js;

    stream_connect(rig->nats.url, &nc, &js);
    jsStreamConfig_Init(&config);
    config.Name = "RECOVERY_FILL";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_FileStorage;
    natsStatus s = js_AddStream(NULL, js, &config, NULL, NULL);
    if (s != NATS_OK)
        test_fail("making a stream: %s", natsStatus_GetText(s));
    for (int size = sizeof(data); size > 16; size /= 4)
        while (js_Publish(NULL, js, subjects[0], data, size, NULL, NULL) == NATS_OK)
            continue;
    rig_wait(rig, chance_between(&rig->chance, 100, 1500) / 1000.0);
    s = js_DeleteStream(js, config.Name, NULL, NULL);
    if (s != NATS_OK)
        test_fail("deleting a stream: %s", natsStatus_GetText(s));
    disconnect_nats(nc, js);
}

/* ---- strangers ---- */

static void write_foreign(jsCtx *js, const char *subject, const char *value, const char *header,
                          const char *header_value)
{
    natsMsg *msg = NULL;
    natsStatus s =
        natsMsg_Create(&msg, subject, NULL, value, value != NULL ? (int)strlen(value) : 0);

    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, CHECKER_FOREIGN, "1");
    if (s == NATS_OK && header != NULL)
        s = natsMsgHeader_Set(msg, header, header_value);
    if (s == NATS_OK)
        s = js_PublishMsg(NULL, js, msg, NULL, NULL);
    natsMsg_Destroy(msg);
    if (s != NATS_OK)
        test_fail("writing %s: %s", subject, natsStatus_GetText(s));
}

static void edit_keys(struct rig *rig)
{
    natsConnection *nc;
    jsCtx *js;

    stream_connect(rig->nats.url, &nc, &js);
    for (int i = chance_between(&rig->chance, 1, 4); i > 0; i--) {
        HW_AUTO_FREE char *subject =
            hw_sprintf("$KV.headwater.cfg.desired.n%d", chance_below(&rig->chance, 30));

        if (chance_in(&rig->chance, 3))
            write_foreign(js, subject, NULL, "KV-Operation", "DEL");
        else
            write_foreign(js, subject, chance_in(&rig->chance, 2) ? "garbage" : "{\"node\":\"n1\"}",
                          NULL, NULL);
    }
    disconnect_nats(nc, js);
}

static void edit_checkpoint(struct rig *rig)
{
    natsConnection *nc;
    jsCtx *js;

    stream_connect(rig->nats.url, &nc, &js);
    if (chance_in(&rig->chance, 2))
        write_foreign(js, "$KV.headwater.cfg.checkpoint", NULL, "KV-Operation", "DEL");
    else
        write_foreign(js, "$KV.headwater.cfg.checkpoint", "{\"epoch\":\"x\"}", NULL, NULL);
    disconnect_nats(nc, js);
    if (chance_in(&rig->chance, 2))
        kill_reconciler(rig);
}

/* Purges the description of an object that is needed, and asks for a comparison with the database.
 */
static void lose_object(struct rig *rig)
{
    HW_AUTO_FREE char *digest =
        test_sql(&rig->pg, "SELECT digest FROM headwater.desired ORDER BY random() LIMIT 1");
    natsConnection *nc;
    jsCtx *js;

    if (digest == NULL)
        return;
    HW_AUTO_FREE char *name = hw_base64url_encode(digest + 7, strlen(digest + 7));
    HW_AUTO_FREE char *subject = hw_sprintf("$O.headwater.M.%s", name);
    stream_connect(rig->nats.url, &nc, &js);
    if (chance_in(&rig->chance, 2)) {
        write_foreign(js, subject, "{\"deleted\":true}", "Nats-Rollup", "sub");
    } else {
        jsOptions options;
        jsOptions_Init(&options);
        options.Stream.Purge.Subject = subject;
        js_PurgeStream(js, "OBJ_headwater", &options, NULL);
    }
    disconnect_nats(nc, js);
    free(test_sql(&rig->pg, "SELECT headwater.resync()"));
}

static void ask_for_resync(struct rig *rig)
{
    struct rig_reconciler *r = a_reconciler(rig);

    if (chance_in(&rig->chance, 2) || r == NULL)
        free(test_sql(&rig->pg, "SELECT headwater.resync()"));
    else if (r->wake_at == 0)
        kill(r->program.pid, SIGUSR1);
}

static void let_hostile_attack(struct rig *rig)
{
    hostile_attack(rig->hostile, chance_between(&rig->chance, 500, 4000) / 1000.0);
}

const struct fault faults[] = {
    {"kill", 6, kill_reconciler, "SIGKILL of a reconciler"},
    {"term", 2, end_reconciler, "SIGTERM of a reconciler"},
    {"point", 8, arm_reconciler, "a reconciler dies or stops at a named point"},
    {"freeze", 4, freeze_reconciler, "SIGSTOP of a reconciler, SIGCONT soon"},
    {"freeze-long", 1, freeze_long, "SIGSTOP of a reconciler until another one leads"},
    {"double", 2, double_agent, "a second agent is started with the name of another one"},
    {"agent", 1, kill_agent, "SIGKILL of an agent"},
    {"nats-kill", 3, kill_nats, "SIGKILL of nats-server"},
    {"nats-restart", 2, restart_nats, "nats-server starts again"},
    {"nats-freeze", 1, freeze_nats, "SIGSTOP of nats-server, SIGCONT soon"},
    {"pg-kill", 2, kill_postgres, "crash of PostgreSQL"},
    {"pg-restart", 2, restart_postgres, "PostgreSQL starts again"},
    {"cut-pg", 3, cut_postgres, "connections to PostgreSQL are cut"},
    {"cut-nats", 3, cut_nats, "connections to NATS are cut"},
    {"slow", 2, slow_network, "every piece of data is late"},
    {"hole", 2, swallow, "the network swallows everything for a while"},
    {"wipe", 2, wipe_nats, "NATS comes back empty"},
    {"copy", 2, copy_storage, "NATS's storage is copied, for rollback"},
    {"rollback", 2, roll_back_nats, "NATS's storage is replaced by the copy"},
    {"full", 1, fill_disk, "the disk of NATS is full for a while"},
    {"edit", 3, edit_keys, "a stranger edits and deletes keys of nodes"},
    {"checkpoint", 1, edit_checkpoint, "a stranger edits or deletes the checkpoint"},
    {"object", 1, lose_object, "a stranger deletes an object"},
    {"hostile", 3, let_hostile_attack, "a node does all that its account lets it, and tries more"},
    {"resync", 2, ask_for_resync, "a comparison with the database is asked for"},
    {0},
};
