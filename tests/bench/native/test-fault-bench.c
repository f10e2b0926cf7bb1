/*
 * Does the native benchmark serve every fault, in both modes, once each?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "destination.h"
#include "walk.h"
#include "../../unit/unit.h"

static void run(BenchMode mode, unsigned threads, unsigned faults)
{
    BenchSpec spec = {
        .mode = mode, .threads = threads, .faults = faults, .seed = 1,
    };
    BenchFigures f;

    if (bench_impossible()) {
        g_test_skip(bench_impossible());
        return;
    }
    bench_run(&spec, &f);
    g_assert_cmpstr(bench_wrong(&spec, &f), ==, NULL);
    g_assert_cmpuint(f.faults, ==, threads * faults);
    g_assert_cmpuint(f.writes, >, 0);
    g_assert_cmpuint(f.longest, <=, threads);
    g_assert_cmpuint(f.p50_ns, <=, f.p99_ns);
    g_assert_cmpuint(f.p99_ns, <=, f.max_ns);
    g_assert_cmpuint(f.max_ns, <=, f.wall_ns);
    /* Each vCPU slept about once a fault, and no thread's time is lost. */
    g_assert_cmpuint(f.vcpus.switches, >, 0);
    g_assert_cmpuint(f.vcpus.cpu_ns + f.loader.cpu_ns, <, 2 * f.process.cpu_ns);
    g_test_message("%" PRIu64 " faults, %" PRIu64 " writes, %" PRIu64
                   " handed over, %" PRIu64 " ns of CPU time a fault",
                   f.faults, f.writes, f.handoffs,
                   f.process.cpu_ns / f.faults);
}

static void test_service(gconstpointer threads)
{
    run(BENCH_SERVICE, GPOINTER_TO_UINT(threads), 64);
}

static void test_giving(gconstpointer threads)
{
    run(BENCH_GIVING, GPOINTER_TO_UINT(threads), 64);
}

static void test_userfaultfd(gconstpointer threads)
{
    run(BENCH_USERFAULTFD, GPOINTER_TO_UINT(threads), 64);
}

static void test_walk(gconstpointer vcpus)
{
    walk_run(GPOINTER_TO_UINT(vcpus), 64);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 60);
    unit_add_number("/fault-bench/service/all-served-once", 1, test_service);
    unit_add_number("/fault-bench/service/all-served-once", 4, test_service);
    unit_add_number("/fault-bench/service/all-served-once", 64, test_service);
    unit_add_number("/fault-bench/giving/all-served-once", 4, test_giving);
    unit_add_number("/fault-bench/userfaultfd/all-served", 4, test_userfaultfd);
    unit_add_number("/fault-bench/walk/all-served-once", 1, test_walk);
    unit_add_number("/fault-bench/walk/all-served-once", 64, test_walk);
    return g_test_run();
}
