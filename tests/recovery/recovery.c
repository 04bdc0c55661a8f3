/*
 * The fault harness: a fleet under a workload, faults at random moments, and then a proof that
 * nothing was lost, doubled or reordered. A seed decides what happens; when it happens is also up
 * to the machine. docs/reliability.md tells more.
 */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tests/recovery/doubled.h"
#include "tests/recovery/drain.h"
#include "tests/recovery/faults.h"
#include "tests/recovery/tamper.h"
#include "tests/support/process.h"

enum {
    SETTLE_S = 90, /* sanitizers on a loaded machine */
    PLAN_MOST = 32,
    DRAIN_CHECKED = 4000, /* transactions of the drain that make check has */
};

/* The seeds that make check runs, chosen so that all kinds of faults are among them. */
static const uint64_t fixed_seeds[] = {20, 27, 52, 61, 66};

struct run {
    uint64_t first, last;
    const char *kinds; /* NULL: all */
    bool verbose, strict_replay, without_reports, prove;
    bool is_open;                  /* see struct rig */
    bool drain;                    /* instead of faults at random */
    int transactions, fault_count; /* 0: the seed decides */
};

/* ---- the plan ---- */

static bool is_wanted(const char *kinds, const char *name)
{
    const size_t len = strlen(name);

    if (kinds == NULL)
        return true;
    for (const char *at = strstr(kinds, name); at != NULL; at = strstr(at + len, name))
        if ((at == kinds || at[-1] == ',') && (at[len] == '\0' || at[len] == ','))
            return true;
    return false;
}

static int make_plan(const struct run *run, struct chance *c, const struct fault *plan[PLAN_MOST])
{
    const int count = run->fault_count > 0 ? run->fault_count : chance_between(c, 4, 9);
    int sum = 0;

    for (const struct fault *f = faults; f->name != NULL; f++)
        sum += is_wanted(run->kinds, f->name) ? f->weight : 0;
    if (sum == 0)
        test_fail("no such fault: %s", run->kinds);
    for (int i = 0; i < count; i++) {
        int left = chance_below(c, sum);
        const struct fault *f = faults;

        for (; f->name != NULL; f++) {
            if (is_wanted(run->kinds, f->name))
                left -= f->weight;
            if (left < 0)
                break;
        }
        plan[i] = f;
    }
    return count;
}

static void print_plan(const struct run *run, uint64_t seed)
{
    struct chance chance = chance_of(seed, 0);
    const struct fault *plan[PLAN_MOST];
    const int count = make_plan(run, &chance, plan);

    printf("seed=%" PRIu64 " faults=", seed);
    for (int i = 0; i < count; i++)
        printf("%s%s", i > 0 ? "," : "", plan[i]->name);
    putchar('\n');
}

/* ---- one seed ---- */

/* Like test_fail, but prints no ends of logs, since the logs are kept. */
static void __attribute__((noreturn, format(printf, 2, 3)))
give_up(const struct rig *rig, const char *fmt, ...)
{
    va_list args;

    fputs("problem: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nfaults: %s\n", hw_buf_str(&rig->told));
    exit(EXIT_FAILURE);
}

/* The agents of a doubled node say that it is. */
static bool is_about_doubled(const struct rig *rig, const char *line)
{
    HW_AUTO_FREE char *node = hw_sprintf(" node=%s ", rig->doubled);

    return rig->doubled[0] != '\0' && strstr(line, DOUBLED_LOGGED) != NULL &&
           strstr(line, node) != NULL;
}

/* Programs must log faults around them as warnings, not errors, and must not believe that NATS lost
 * data when it did not. */
static bool logs_are_clean(const struct rig *rig)
{
    HW_AUTO_FREE char *pattern = hw_sprintf("%s/headwater-*", test_base_dir());
    glob_t logs = {0};
    bool clean = true;

    glob(pattern, 0, NULL, &logs);
    for (size_t i = 0; i < logs.gl_pathc; i++) {
        HW_AUTO_FREE char *text = test_read_file(logs.gl_pathv[i]);
        char *rest = text, *line;

        while ((line = strsep(&rest, "\n")) != NULL)
            if ((strstr(line, "level=error") != NULL && !is_about_doubled(rig, line)) ||
                strstr(line, "Sanitizer") != NULL ||
                (!rig->lost && strstr(line, "NATS has lost data") != NULL)) {
                fprintf(stderr, "problem: %s: %s\n", logs.gl_pathv[i], line);
                clean = false;
            }
    }
    globfree(&logs);
    return clean;
}

static struct checker_result judge(const struct run *run, struct rig *rig, const char *failure)
{
    return checker_check(rig->checker, &(struct checker_options){
                                           .strict_replay = run->strict_replay,
                                           .proposals = rig->proposals,
                                           .doubled = rig->doubled[0] != '\0' ? rig->doubled : NULL,
                                           .failure_dir = failure});
}

static void settle(const struct run *run, struct rig *rig, const char *failure)
{
    const char *outputs[WORKLOAD_AGENTS + 1] = {NULL};
    const double until = test_deadline(SETTLE_S);
    struct hw_error err;
    hw_lsn position = 0;
    HW_AUTO_FREE char *end = test_sql(&rig->pg, "SELECT pg_current_wal_lsn()::text");

    if (hw_lsn_parse(end, &position, &err) != HW_OK)
        test_fail("%s", err.message);
    for (int i = 0; i < WORKLOAD_AGENTS; i++)
        outputs[i] = rig->agents[i].output;
    for (;;) {
        HW_AUTO_FREE char *why =
            run->without_reports ? NULL : proposals_unsettled(rig->proposals, &rig->pg);

        if (why == NULL)
            why = checker_unsettled(rig->checker, position, outputs, !run->without_reports);

        if (why == NULL)
            return;
        if (test_now() > until) {
            judge(run, rig, failure);
            give_up(rig, "not settled within %g s: %s", SETTLE_S * test_patience(), why);
        }
        rig_wait(rig, 0.1);
    }
}

static void settle_doubled(const struct run *run, struct rig *rig, const char *failure)
{
    HW_AUTO_FREE char *why = run->without_reports ? NULL : doubled_unsettled(rig);

    if (why == NULL)
        return;
    judge(run, rig, failure);
    give_up(rig, "%s", why);
}

/* Does one damage after another; each must add to the problems that the checker finds. */
static void prove_checker(struct rig *rig, const struct run *run)
{
    int before = 0;
    const char *what;

    rig_stop_programs(rig);
    for (int i = 0; (what = tamper(&rig->pg, rig->nats.url, rig->checker, i)) != NULL; i++) {
        const struct checker_result result = judge(run, rig, NULL);

        if (result.problems <= before)
            give_up(rig, "the checker does not notice %s", what);
        before = result.problems;
    }
    printf("the checker notices all damage: %d problems\n", before);
}

static bool run_seed(const struct run *run, uint64_t seed)
{
    const double started = test_now();
    struct chance chance = chance_of(seed, 0);
    const struct fault *plan[PLAN_MOST];
    const int count = make_plan(run, &chance, plan);
    const double seconds = 1.0 + count * 0.6;
    const int transactions =
        run->transactions > 0 ? run->transactions : chance_between(&chance, 300, 800);
    struct rig rig = {.verbose = run->verbose, .is_open = run->is_open};
    HW_AUTO_FREE char *failure = hw_sprintf("%s/failure", test_base_dir());

    rig_start(&rig, seed, chance_between(&chance, 1, RIG_RECONCILERS));
    workload_prepare(rig.pg.url, seed);
    struct workload *workload = workload_start(&(struct workload_options){
        .url = rig.pg.url, .seed = seed, .transactions = transactions, .seconds = seconds});
    for (int i = 0; i < count; i++) {
        rig_wait(&rig, chance_below(&chance, 1000) / 1000.0);
        if (run->verbose)
            fprintf(stderr, "%6.2f  %s\n", test_now() - started, plan[i]->name);
        hw_buf_printf(&rig.told, "%s%s", i > 0 ? "," : "", plan[i]->name);
        plan[i]->happen(&rig);
    }
    while (!workload_done(workload))
        rig_wait(&rig, 0.02);
    const int sent = workload_finish(workload);
    if (run->verbose)
        fprintf(stderr, "%6.2f  the workload is done\n", test_now() - started);
    rig_heal(&rig);
    workload_settle(rig.pg.url);
    settle_doubled(run, &rig, failure);
    settle(run, &rig, failure);
    if (run->verbose)
        fprintf(stderr, "%6.2f  settled\n", test_now() - started);
    const struct checker_result result = judge(run, &rig, failure);
    const bool passed = logs_are_clean(&rig) && result.problems == 0;
    printf("seed=%" PRIu64
           " faults=%s sent=%d transactions=%d entries=%d repairs=%d proposals=%d hostile=%d"
           " seconds=%.1f %s\n",
           seed, hw_buf_str(&rig.told), sent, result.transactions, result.entries, result.repairs,
           proposals_count(rig.proposals), hostile_sent(rig.hostile), test_now() - started,
           passed ? "passed" : "FAILED");
    fflush(stdout);
    if (passed && run->prove)
        prove_checker(&rig, run);
    rig_stop(&rig);
    return passed && logs_are_clean(&rig);
}

/* ---- many seeds ---- */

/* Removes the files of a seed, or keeps them where a person finds them. */
static void clear(uint64_t seed, bool passed)
{
    HW_AUTO_FREE char *pattern = hw_sprintf("%s/*", test_base_dir());
    const char *tmp = getenv("TMPDIR");
    HW_AUTO_FREE char *kept = hw_sprintf("%s/headwater-recovery-%" PRIu64 "-XXXXXX",
                                         tmp != NULL && *tmp == '/' ? tmp : "/tmp", seed);
    glob_t found = {0};

    if (!passed && mkdtemp(kept) == NULL)
        test_fail("cannot make %s: %s", kept, strerror(errno));
    glob(pattern, 0, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i], *name = strrchr(path, '/') + 1;
        HW_AUTO_FREE char *log = hw_sprintf("%s/log", path);
        HW_AUTO_FREE char *to = hw_sprintf("%s/%s", kept, name);

        if (strcmp(name, "template") == 0)
            continue;
        if (!passed && (strncmp(name, "headwater-", 10) == 0 || strcmp(name, "failure") == 0))
            test_program_run((const char *const[]){"cp", "-r", path, to, NULL}, NULL, NULL, NULL);
        else if (!passed && access(log, F_OK) == 0)
            test_program_run((const char *const[]){"cp", log, to, NULL}, NULL, NULL, NULL);
        test_remove_tree(path);
    }
    globfree(&found);
    if (!passed)
        printf("logs and histories are in %s\n", kept);
}

static bool run_drain(const struct run *run, uint64_t seed)
{
    HW_AUTO_FREE char *failure = hw_sprintf("%s/failure", test_base_dir());

    return drain_run(&(struct drain_options){.seed = seed,
                                             .transactions = run->transactions,
                                             .verbose = run->verbose,
                                             .failure_dir = failure});
}

static bool run_in_fork(const struct run *run, uint64_t seed)
{
    int status = 0;

    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0)
        exit((run->drain ? run_drain : run_seed)(run, seed) ? EXIT_SUCCESS : EXIT_FAILURE);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    const bool passed = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
    if (!passed) {
        char count[40] = "";

        if (run->fault_count > 0)
            snprintf(count, sizeof(count), " --faults %d", run->fault_count);
        if (run->transactions > 0)
            snprintf(count + strlen(count), sizeof(count) - strlen(count), " --transactions %d",
                     run->transactions);
        printf("seed=%" PRIu64
               " FAILED; again: HW_BUILD_DIR=%s %s/tests/recovery/recovery --seed %" PRIu64
               "%s%s%s%s%s%s --verbose\n",
               seed, getenv("HW_BUILD_DIR"), getenv("HW_BUILD_DIR"), seed, count,
               run->drain ? " --drain" : "", run->strict_replay ? " --strict-replay" : "",
               run->without_reports ? " --without-reports" : "",
               run->kinds != NULL ? " --kinds " : "", run->kinds != NULL ? run->kinds : "");
    }
    clear(seed, passed);
    fflush(stdout);
    return passed;
}

static void usage(FILE *out)
{
    fprintf(out, "usage: recovery [--seed N | --seeds A-B] [--kinds NAME,…] [--faults N]"
                 " [--transactions N]\n"
                 "                [--drain] [--strict-replay] [--without-reports] "
                 "[--prove-checker] [--open] [--plan] "
                 "[--verbose]\n"
                 "kinds of faults:\n");
    for (const struct fault *f = faults; f->name != NULL; f++)
        fprintf(out, "  %-13s %s\n", f->name, f->help);
}

static bool parse_seeds(const char *text, struct run *run)
{
    char *end;

    errno = 0;
    run->first = run->last = strtoull(text, &end, 10);
    if (end == text)
        return false;
    if (*end == '-') {
        const char *second = end + 1;
        run->last = strtoull(second, &end, 10);
        if (end == second)
            return false;
    }
    return *end == '\0' && errno == 0 && run->first <= run->last;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"seeds", required_argument, NULL, 's'},
                                            {"kinds", required_argument, NULL, 'k'},
                                            {"faults", required_argument, NULL, 'f'},
                                            {"transactions", required_argument, NULL, 't'},
                                            {"strict-replay", no_argument, NULL, 'r'},
                                            {"without-reports", no_argument, NULL, 'w'},
                                            {"drain", no_argument, NULL, 'd'},
                                            {"plan", no_argument, NULL, 'n'},
                                            {"prove-checker", no_argument, NULL, 'p'},
                                            {"open", no_argument, NULL, 'o'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct run run = {.first = 1, .last = 1};
    bool plan_only = false;
    int failed = 0;

    /* make check calls it without arguments. */
    run.prove = run.strict_replay = argc == 1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool good = true;

        if (option == 's')
            good = parse_seeds(optarg, &run);
        else if (option == 'k')
            run.kinds = optarg;
        else if (option == 'f')
            good = (run.fault_count = (int)strtol(optarg, NULL, 10)) > 0 &&
                   run.fault_count <= PLAN_MOST;
        else if (option == 't')
            good = (run.transactions = (int)strtol(optarg, NULL, 10)) > 0;
        else if (option == 'r')
            run.strict_replay = true;
        else if (option == 'd')
            run.drain = true;
        else if (option == 'n')
            plan_only = true;
        else if (option == 'w')
            run.without_reports = true;
        else if (option == 'p')
            run.prove = true;
        else if (option == 'o')
            run.is_open = true;
        else if (option == 'v')
            run.verbose = true;
        else
            good = false;
        if (!good) {
            usage(option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    /* Runs the programs that were built with this one. */
    char *inside = strstr(argv[0], "/tests/recovery/");
    if (inside != NULL) {
        HW_AUTO_FREE char *dir = hw_strndup(argv[0], (size_t)(inside - argv[0]));
        setenv("HW_BUILD_DIR", dir, 0);
    }
    if (plan_only) {
        for (uint64_t seed = run.first; seed <= run.last; seed++)
            print_plan(&run, seed);
        return EXIT_SUCCESS;
    }
    const uint64_t count = argc == 1 ? HW_COUNT(fixed_seeds) : run.last - run.first + 1;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t seed = argc == 1 ? fixed_seeds[i] : run.first + i;

        printf("seed %" PRIu64 "\n", seed);
        failed += !run_in_fork(&run, seed);
        run.prove &= argc > 1; /* in make check one proof is enough */
    }
    if (argc == 1) {
        run.drain = true;
        run.transactions = DRAIN_CHECKED;
        failed += !run_in_fork(&run, 1);
    }
    if (failed > 0)
        printf("%d of %" PRIu64 " seeds FAILED\n", failed, count);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
