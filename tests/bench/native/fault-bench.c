/*
 * The native benchmark: how does the fault service scale, without KVM?
 *
 *   fault-bench --threads 8,1024 --faults 32768 --rounds 5
 *   fault-bench --walk 1024 --faults 2000
 *
 * The first prints a line of JSON for each run.  The second goes the way of
 * some faults in a single thread, for a tool that counts instructions.
 * tests/bench/native/run starts both and makes tables of what they print.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "destination.h"
#include "walk.h"

static const char * const mode_name[BENCH_MODES] = {
    [BENCH_SERVICE] = "service",
    [BENCH_GIVING] = "giving",
    [BENCH_USERFAULTFD] = "userfaultfd",
};

static char *threads = (char *)"1,2,8,32,64,128,256,512,1024";
static gint faults = 32768, rounds = 5, walk, limit = 120;

static GOptionEntry options[] = {
    { "threads", 0, 0, G_OPTION_ARG_STRING, &threads,
      "numbers of vCPUs", "N,..." },
    { "faults", 0, 0, G_OPTION_ARG_INT, &faults,
      "of all vCPUs together in a run", "N" },
    { "rounds", 0, 0, G_OPTION_ARG_INT, &rounds,
      "how often each mode runs, every other time in reverse order", "N" },
    { "walk", 0, 0, G_OPTION_ARG_INT, &walk,
      "one thread, with N vCPUs in the table of waiters", "N" },
    { "limit", 0, 0, G_OPTION_ARG_INT, &limit,
      "seconds after which a run is killed", "S" },
    { NULL }
};

#define PRINT(name) \
    printf(", \"" #name "\": %" PRIu64, f->name)
#define PRINT_USE(name) \
    printf(", \"" #name "_cpu_ns\": %" PRIu64 \
           ", \"" #name "_switches\": %" PRIu64, \
           f->name.cpu_ns, f->name.switches)

static void print_run(const BenchSpec *spec, unsigned round,
                      const BenchFigures *f)
{
    printf("{\"mode\": \"%s\", \"threads\": %u, \"round\": %u",
           mode_name[spec->mode], spec->threads, round);
    PRINT(faults);
    PRINT(wall_ns);
    PRINT_USE(process);
    PRINT_USE(vcpus);
    PRINT_USE(loader);
    PRINT_USE(fault_thread);
    PRINT(source_cpu_ns);
    PRINT(p50_ns);
    PRINT(p99_ns);
    PRINT(max_ns);
    PRINT(writes);
    PRINT(longest);
    PRINT(handoffs);
    printf("}\n");
    fflush(stdout);
}

static bool run_once(BenchMode mode, unsigned vcpus, unsigned round)
{
    BenchSpec spec = {
        .mode = mode, .threads = vcpus, .faults = MAX(faults / vcpus, 1),
        .seed = 2463534242u + round,
    };
    BenchFigures figures;
    const char *wrong;

    alarm(limit);
    bench_run(&spec, &figures);
    alarm(0);
    wrong = bench_wrong(&spec, &figures);
    if (wrong) {
        fprintf(stderr, "%s, %u vCPUs: %s\n", mode_name[mode], vcpus, wrong);
        return false;
    }
    print_run(&spec, round, &figures);
    return true;
}

/* All numbers of vCPUs in each round: what changes on the machine meets all. */
static bool run_round(char **numbers, unsigned round)
{
    unsigned i, m;

    for (i = 0; numbers[i]; i++) {
        for (m = 0; m < BENCH_MODES; m++) {
            BenchMode mode = round % 2 ? BENCH_MODES - 1 - m : m;

            if (!run_once(mode, atoi(numbers[i]), round)) {
                return false;
            }
        }
    }
    return true;
}

static bool check_options(char **numbers)
{
    unsigned i;

    for (i = 0; numbers[i]; i++) {
        if (atoi(numbers[i]) < 1 || atoi(numbers[i]) > 4096) {
            fprintf(stderr, "--threads: 1 to 4096\n");
            return false;
        }
    }
    if (faults < 1 || rounds < 1 || limit < 1 || walk < 0) {
        fprintf(stderr, "a number is too small\n");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) numbers = NULL;
    const char *why;
    int round;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    numbers = g_strsplit(threads, ",", 0);
    if (!check_options(numbers)) {
        return 2;
    }
    if (walk) {
        walk_run(walk, faults);
        return 0;
    }
    why = bench_impossible();
    if (why) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    for (round = 0; round < rounds; round++) {
        if (!run_round(numbers, round)) {
            return 1;
        }
    }
    return 0;
}
