/* The program: options, the groups one after another, and where the figures go. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/memory.h"
#include "bench/bench.h"
#include "bench/rig.h"
#include "common/clock.h"
#include "common/version.h"
#include "tests/support/process.h"

static const struct {
    const char *name;
    void (*measure)(struct bench *bench);
} groups[] = {
    {"drain", bench_drain},   {"latency", bench_latency}, {"api", bench_api},
    {"fleet", bench_fleet},   {"blob", bench_blob},       {"replay", bench_replay},
    {"growth", bench_growth}, {"agents", bench_agents},   {"sustained", bench_sustained},
};

static int usage(FILE *out, int status)
{
    fputs("usage: bench [--quick] [--runs N] [--only GROUP,...] [--sustained SECONDS]\n"
          "             [--output DIR]\n"
          "  --quick     one run, smaller sizes\n"
          "  --runs N    medians of so many runs (default 3; 1 with --quick)\n"
          "  --sustained how long the sustained load is (default 600; 20 with --quick)\n"
          "  --only ...  some groups:",
          out);
    for (size_t i = 0; i < HW_COUNT(groups); i++)
        fprintf(out, " %s", groups[i].name);
    fputs("\n  --output    where bench.json, bench.md and the plots go (default build/bench)\n",
          out);
    return status;
}

static bool is_in(const char *list, const char *name)
{
    const size_t len = strlen(name);

    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return true;
    }
    return false;
}

/* Every name must be one of a group. */
static bool is_list_known(const char *list)
{
    HW_AUTO_FREE char *copy = hw_strdup(list);
    char *rest = copy, *name;

    while ((name = strsep(&rest, ",")) != NULL) {
        bool known = false;

        for (size_t i = 0; i < HW_COUNT(groups); i++)
            known |= strcmp(groups[i].name, name) == 0;
        if (!known) {
            fprintf(stderr, "bench: no group \"%s\"\n", name);
            return false;
        }
    }
    return true;
}

/* ---- facts ---- */

static char *first_line_of(const char *const argv[])
{
    char *output = NULL;

    if (test_program_run(argv, NULL, NULL, &output) != 0) {
        free(output);
        return hw_strdup("unknown");
    }
    output[strcspn(output, "\n")] = '\0';
    return output;
}

static char *load_now(void)
{
    double load[3] = {0};

    getloadavg(load, 3);
    return hw_sprintf("%.2f %.2f %.2f", load[0], load[1], load[2]);
}

static char *cpu_model(void)
{
    HW_AUTO_FREE char *text = test_read_file("/proc/cpuinfo");
    const char *at = strstr(text, "model name");

    at = at != NULL ? strchr(at, ':') : NULL;
    return at != NULL ? hw_strndup(at + 2, strcspn(at + 2, "\n")) : hw_strdup("unknown");
}

static char *settings(void)
{
    char *text = hw_strdup(RIG_SETTINGS);

    for (char *at = text; *at != '\0'; at++)
        if (*at == '\n')
            *at = at[1] != '\0' ? ';' : '\0';
    return text;
}

static char *time_now(void)
{
    char text[HW_CLOCK_MAX];

    return hw_strdup(hw_clock_format(hw_clock_now(), 3, text));
}

enum { FACTS = 16 };

static void gather(struct figures_fact facts[FACTS], const struct bench *bench)
{
    /* A server like those of the rig tells its version. */
    struct test_postgres pg;
    struct utsname system;

    uname(&system);
    test_postgres_start(&pg, false, NULL);
    const struct figures_fact all[] = {
        {"headwater", hw_strdup(HW_VERSION)},
        {"begun", time_now()},
        {"runs", hw_sprintf("%d%s", bench->runs, bench->quick ? ", quick" : "")},
        {"cores", hw_sprintf("%ld", sysconf(_SC_NPROCESSORS_ONLN))},
        {"processor", cpu_model()},
        {"kernel", hw_sprintf("%s %s", system.sysname, system.release)},
        {"load before (1, 5, 15 minutes)", load_now()},
        {"PostgreSQL", test_sql(&pg, "SHOW server_version")},
        {"PostgreSQL's settings beside the defaults", settings()},
        {"wal2json", first_line_of((const char *const[]){"/usr/bin/env", "dpkg-query", "-W", "-f",
                                                         "${Package} ${Version}\n",
                                                         "postgresql-*-wal2json", NULL})},
        {"nats-server",
         first_line_of((const char *const[]){"/usr/bin/env", "nats-server", "--version", NULL})},
        {"libnats", hw_strdup(nats_GetVersion())},
    };
    test_postgres_remove(&pg);
    for (size_t i = 0; i < HW_COUNT(all); i++)
        facts[i] = all[i];
}

static void free_facts(struct figures_fact *facts)
{
    for (; facts->name != NULL; facts++)
        free(facts->value);
}

/* ---- output ---- */

static void write_file(const char *dir, const char *name, const struct bench *bench,
                       const struct figures_fact *facts,
                       void (*write)(const struct figures *figures,
                                     const struct figures_fact *facts, FILE *out))
{
    HW_AUTO_FREE char *path = hw_sprintf("%s/%s", dir, name);
    FILE *out;

    mkdir(dir, 0755);
    out = fopen(path, "we");
    if (out == NULL)
        test_fail("cannot write %s", path);
    write(&bench->figures, facts, out);
    if (fclose(out) != 0)
        test_fail("cannot write %s", path);
}

int main(int argc, char *argv[])
{
    static const struct option options[] = {
        {"quick", no_argument, NULL, 'q'},
        {"runs", required_argument, NULL, 'r'},
        {"only", required_argument, NULL, 'o'},
        {"output", required_argument, NULL, 'd'},
        {"sustained", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct bench bench = {0};
    struct figures_fact facts[FACTS] = {{NULL, NULL}};
    struct figures_fact *last;
    const char *only = NULL, *dir = "build/bench";
    bool drawn = true;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'q':
            bench.quick = true;
            break;
        case 'r':
            bench.runs = (int)strtol(optarg, NULL, 10);
            if (bench.runs < 1 || bench.runs > FIGURES_RUNS_MAX)
                return usage(stderr, 2);
            break;
        case 'o':
            only = optarg;
            break;
        case 'd':
            dir = optarg;
            break;
        case 's':
            bench.sustained_s = (int)strtol(optarg, NULL, 10);
            if (bench.sustained_s < 1)
                return usage(stderr, 2);
            break;
        case 'h':
            return usage(stdout, 0);
        default:
            return usage(stderr, 2);
        }
    if (optind != argc || dir == NULL || (only != NULL && !is_list_known(only)))
        return usage(stderr, 2);
    if (bench.runs == 0)
        bench.runs = bench.quick ? 1 : 3;
    gather(facts, &bench);
    last = facts;
    while (last->name != NULL)
        last++;
    for (size_t i = 0; i < HW_COUNT(groups); i++) {
        if (only != NULL && !is_in(only, groups[i].name))
            continue;
        groups[i].measure(&bench);
        /* Written after each group, so that a group which fails does not lose the ones before. */
        free(last->value);
        *last = (struct figures_fact){"load after (1, 5, 15 minutes)", load_now()};
        write_file(dir, "bench.json", &bench, facts, figures_json);
        write_file(dir, "bench.md", &bench, facts, figures_markdown);
        drawn = plots_write(&bench.plots, dir);
    }
    for (const struct figures_fact *fact = facts; fact->name != NULL; fact++)
        printf("%s: %s\n", fact->name, fact->value);
    figures_print(&bench.figures, stdout);
    if (!drawn)
        fputs("no plots: gnuplot is not installed, or failed; their points are there\n", stdout);
    free_facts(facts);
    figures_free(&bench.figures);
    plots_free(&bench.plots);
    return EXIT_SUCCESS;
}
