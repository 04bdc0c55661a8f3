/* headwater-reconciler: committed changes in, NATS state out, reported state back into SQL. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/notify.h"
#include "common/options.h"
#include "common/streams.h"
#include "common/version.h"
#include "common/warning.h"
#include "http/monitor.h"
#include "nats/kv.h"
#include "nats/url.h"
#include "pg/conninfo.h"
#include "protocol/permissions.h"
#include "reconciler/compare/verify.h"
#include "reconciler/reconciler.h"
#include "reconciler/takeover.h"

enum { DRAIN_MS = 2000 };

struct options {
    const char *database, *nats, *bucket, *slot, *log_level, *log_format;
    const char *monitor, *on_lost_slot, *sign_key, *take_over_after;
    char *trust;
    struct hw_nats_files nats_files;
    int64_t replicas, history, window, timeout;
    int64_t archive_bytes, archive_time, compare_interval, heartbeat_interval, gc_grace,
        purge_after;
    bool json;
};

#define OPTION(member, ...)    HW_OPTION(struct options, member, __VA_ARGS__)
#define FLAG_ONLY(member, ...) HW_OPTION_NO_ENV(struct options, member, __VA_ARGS__)

/* Milliseconds; -1: never. */
static bool read_take_over_after(const char *text, int64_t *ms)
{
    *ms = -1;
    return strcmp(text, "never") == 0 || hw_options_duration(text, ms);
}

static enum hw_status check_take_over_after(const char *text, struct hw_error *err)
{
    int64_t ms;

    if (read_take_over_after(text, &ms))
        return HW_OK;
    return hw_fail(err, HW_EINVAL, "\"%.100s\" is no time such as 90s or 5m, nor \"never\"", text);
}

static const struct hw_option option_table[] = {
    HW_OPTION_DATABASE(struct options),
    HW_OPTION_NATS(struct options),
    HW_OPTIONS_NATS_FILES(struct options),
    HW_OPTION_BUCKET(struct options),
    HW_OPTION_SLOT(struct options, "replication slot; whoever holds it leads"),
    OPTION(replicas, INT, "N", "copies of each bucket that is created, in a NATS cluster",
           .preset = "1", .min = 1, .max = 5),
    OPTION(history, INT, "N", "revisions a key keeps in NATS, when the bucket is created",
           .preset = "16", .min = 1, .max = 64),
    OPTION(window, INT, "N", "publishes in flight at most", .preset = "2048", .min = 1,
           .max = 3072),
    OPTION(archive_bytes, SIZE, "SIZE",
           "log that the archive slot holds back for replays, at most; 0: no archive slot",
           .preset = "1GiB", .max = INT64_MAX),
    OPTION(archive_time, DURATION, "TIME", "and for how long, at most; 0: as the size allows",
           .preset = "6h", .max = INT64_MAX),
    OPTION(compare_interval, DURATION, "TIME",
           "between two comparisons of NATS with the database; 0: only when there is cause",
           .preset = "1h", .max = INT64_MAX),
    OPTION(heartbeat_interval, DURATION, "TIME",
           "between two messages that keep the stream moving on an idle database; 0: none",
           .preset = "10s", .max = INT64_MAX),
    OPTION(gc_grace, DURATION, "TIME",
           "how long an object that nothing refers to is kept in NATS; 0: for ever",
           .preset = "24h", .max = INT64_MAX),
    OPTION(purge_after, DURATION, "TIME",
           "how long the keys of a deleted node are kept in NATS; 0: for ever", .preset = "168h",
           .max = INT64_MAX),
    OPTION(on_lost_slot, CHOICE, "WAY",
           "make a new slot and compare everything, or wait for somebody to decide",
           .preset = "resync", .choices = "resync|stop"),
    OPTION(
        take_over_after, STRING, "TIME",
        "take a bucket that another database had when nobody has led it for so long; never: only "
        "by take-over",
        .preset = "60s", .check = check_take_over_after),
    OPTION(sign_key, STRING, "FILE",
           "private key that every entry is signed with, Ed25519 as PEM; default: none is"),
    FLAG_ONLY(trust, LIST, "FILE",
              "public key that every entry is to be signed with; may be given again",
              .commands = "verify"),
    HW_OPTION_MONITOR(struct options),
    FLAG_ONLY(timeout, DURATION, "TIME",
              "verify: how long to wait for the reconciler to catch up; take-over: for the servers",
              .preset = "30s", .max = 86400000),
    FLAG_ONLY(json, FLAG, NULL, "verify, take-over: answer in JSON"),
    HW_OPTIONS_LOG(struct options),
    {0},
};

static const struct hw_command commands[] = {
    {.name = "permissions",
     .help = "print the reconciler's account for nats-server's configuration; needs no server"},
    {.name = "take-over",
     .help = "give the bucket to this database, whichever had it; the reconciler then goes on"},
    {.name = "verify", .help = "compare SQL and NATS digest by digest, and write nothing"},
    {.name = NULL},
};

static const struct hw_program program = {
    .name = "headwater-reconciler",
    .summary = "keeps NATS equal to what is committed in PostgreSQL",
    .options = option_table,
    .commands = commands,
    .notes = "Without a command it runs the service.\n"
             "SIGTERM finishes what is under way and exits 0; a second one exits at once.\n"
             "SIGUSR1 compares NATS with the database and repairs what differs; SIGHUP reads\n"
             "certificates and credentials for NATS again.\n"
             "Exit status: 0 stopped by a signal, 1 failed, 2 wrong usage; of verify: 0 equal,\n"
             "1 different or not to be compared; of take-over: 0 the bucket is this database's.\n",
};

static void on_resync_signal(void *arg, int signo)
{
    (void)signo;
    rec_reconciler_resync(arg);
}

/* The signing key is no certificate: another one is another identity, which agents must be told of
 * first, so it is read when the program starts. */
static void on_reload_signal(void *arg, int signo)
{
    (void)signo;
    if (arg != NULL)
        rec_reconciler_reload(arg);
}

struct notifier {
    struct hw_notify *notify;
    bool was_ready;
};

static void on_told(void *arg, bool ready, const char *how)
{
    struct notifier *notifier = arg;

    if (ready && !notifier->was_ready)
        hw_notify_ready(notifier->notify, how);
    else
        hw_notify_status(notifier->notify, how);
    notifier->was_ready |= ready;
}

static int run(const struct rec_config *config, const char *monitor_address, struct hw_error *err)
{
    struct notifier notifier = {0};
    struct rec_config own = *config;
    struct hw_monitor *monitor = NULL;
    struct rec_reconciler *reconciler = NULL;
    struct hw_loop *loop = NULL;
    enum hw_status status;

    status = hw_loop_new(&loop, err);
    if (status == HW_OK)
        status = hw_loop_stop_on_signals(loop, err);
    if (status == HW_OK)
        status = hw_loop_pass_over_signals(loop, err);
    /* Before libnats starts its threads: they inherit which signals are blocked. */
    if (status == HW_OK)
        status = hw_loop_on_signal(loop, SIGUSR1, on_resync_signal, NULL, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(loop, SIGHUP, on_reload_signal, NULL, err);
    if (status == HW_OK)
        status = hw_notify_open(loop, &notifier.notify, err);
    if (status == HW_OK)
        hw_warnings_attach(loop);
    own.told = on_told;
    own.arg = &notifier;
    if (status == HW_OK)
        status = rec_reconciler_start(loop, &own, &reconciler, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(loop, SIGUSR1, on_resync_signal, reconciler, err);
    if (status == HW_OK)
        status = hw_loop_on_signal(loop, SIGHUP, on_reload_signal, reconciler, err);
    if (status == HW_OK) {
        const struct hw_monitor_source source = {
            .check = rec_reconciler_check, .metrics = rec_reconciler_metrics, .arg = reconciler};
        status = hw_monitor_start(loop, monitor_address, &source, &monitor, err);
        if (status != HW_OK)
            hw_fail_in(err, "--monitor");
    }
    if (status == HW_OK) {
        hw_log_info(
            "started", HW_S("version", HW_VERSION), HW_S("slot", config->slot),
            HW_S("bucket", config->bucket), HW_S("monitor", hw_monitor_name(monitor)),
            HW_S("signs_with", config->signer != NULL ? hw_signer_id(config->signer) : NULL));
        status = hw_loop_run(loop, err);
    }
    if (status == HW_OK) {
        hw_log_info("stopping", HW_S("slot", config->slot));
        hw_notify_stopping(notifier.notify);
        rec_reconciler_drain(reconciler, DRAIN_MS);
    }
    hw_monitor_stop(monitor);
    rec_reconciler_stop(reconciler);
    hw_notify_close(notifier.notify);
    hw_warnings_attach(NULL);
    hw_loop_free(loop);
    return status == HW_OK ? HW_EXIT_OK : HW_EXIT_FAILURE;
}

static int verify(const struct options *o)
{
    struct rec_verify_config config = {.database = o->database,
                                       .nats = o->nats,
                                       .nats_files = o->nats_files,
                                       .bucket = o->bucket,
                                       .timeout_ms = o->timeout,
                                       .json = o->json};
    struct hw_error err;
    bool equal = false;
    enum hw_status status = HW_OK;

    if (o->trust != NULL && hw_trust_open(o->trust, &config.trust, &err) != HW_OK)
        status = hw_fail_in(&err, "--trust");
    if (status == HW_OK)
        status = rec_verify_run(&config, &equal, &err);
    hw_trust_free(config.trust);
    if (status != HW_OK) {
        hw_log_error("cannot verify", HW_E(&err));
        return HW_EXIT_FAILURE;
    }
    return equal ? HW_EXIT_OK : HW_EXIT_FAILURE;
}

static int take_over(const struct options *o)
{
    const struct rec_takeover_config config = {.database = o->database,
                                               .nats = o->nats,
                                               .nats_files = o->nats_files,
                                               .bucket = o->bucket,
                                               .slot = o->slot,
                                               .timeout_ms = o->timeout,
                                               .json = o->json};
    struct hw_error err;

    if (rec_takeover_run(&config, &err) == HW_OK)
        return HW_EXIT_OK;
    hw_log_error("cannot take over", HW_S("bucket", o->bucket), HW_E(&err));
    return HW_EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct options o; /* so that what its lists hold lives as long as we do */
    struct hw_signer *signer = NULL;
    struct hw_error err = {0};
    struct hw_address address;
    const char *command;
    char **operands;
    int64_t take_over_ms;
    int count, code;

    hw_streams_open(program.name, HW_EXIT_FAILURE);
    if (hw_options_parse(&program, argc, argv, &o, &command, &operands, &count, &err) != HW_OK ||
        hw_options_log(o.log_level, o.log_format, &err) != HW_OK)
        return hw_options_usage_error(&program, &err);
    if (count > 0)
        hw_fail(&err, HW_EINVAL, "%s: no arguments are expected", operands[0]);
    else if (o.database == NULL && (command == NULL || strcmp(command, "permissions") != 0))
        hw_fail(&err, HW_EINVAL, "--database or HEADWATER_DATABASE_URL is needed");
    else if (!hw_kv_bucket_valid(o.bucket))
        hw_fail(&err, HW_EINVAL, "--bucket: \"%s\" is not a bucket name: letters, digits, - and _",
                o.bucket);
    else if (o.monitor != NULL && *o.monitor != '\0' &&
             hw_monitor_address(o.monitor, &address, &err) != HW_OK)
        hw_fail_in(&err, "--monitor");
    if (err.status != HW_OK)
        return hw_options_usage_error(&program, &err);
    if (command != NULL && strcmp(command, "permissions") == 0) {
        if (hw_permissions_reconciler(o.bucket, &o.nats_files, &err) == HW_OK)
            return HW_EXIT_OK;
        fprintf(stderr, "headwater-reconciler: permissions: %s\n", err.message);
        return HW_EXIT_FAILURE;
    }
    const char *const exposed = hw_nats_exposed(&o.nats_files);
    if (exposed != NULL)
        hw_log_warn("every user of this machine can read a secret; take their permission away",
                    HW_S("file", exposed));
    if (command != NULL && strcmp(command, "verify") == 0)
        return verify(&o);
    if (command != NULL)
        return take_over(&o);
    srandom((unsigned)hw_loop_now());
    if (o.sign_key != NULL && hw_signer_open(o.sign_key, &signer, &err) != HW_OK) {
        hw_fail_in(&err, "--sign-key");
        hw_log_error("cannot run", HW_E(&err));
        return HW_EXIT_FAILURE;
    }
    (void)read_take_over_after(o.take_over_after, &take_over_ms); /* it was checked */
    const struct rec_config config = {.database = o.database,
                                      .nats = o.nats,
                                      .nats_files = o.nats_files,
                                      .bucket = o.bucket,
                                      .slot = o.slot,
                                      .replicas = o.replicas,
                                      .history = o.history,
                                      .window = o.window,
                                      .archive_bytes = o.archive_bytes,
                                      .archive_ms = o.archive_time,
                                      .compare_ms = o.compare_interval,
                                      .heartbeat_ms = o.heartbeat_interval,
                                      .gc_grace_ms = o.gc_grace,
                                      .purge_after_ms = o.purge_after,
                                      .take_over_ms = take_over_ms,
                                      .remake_slot = strcmp(o.on_lost_slot, "resync") == 0,
                                      .signer = signer};
    code = run(&config, o.monitor, &err);
    if (code != HW_EXIT_OK)
        hw_log_error("cannot run", HW_E(&err));
    hw_signer_free(signer);
    return code;
}
