/*
 * Is each latency counted in the bucket its length asks for?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "postcopy-userfault-stats.h"
#include "unit.h"

static void check_bucket(uint64_t ns, unsigned bucket)
{
    PostcopyLatency l = { 0 };
    unsigned i;

    postcopy_latency_add(&l, ns);
    g_assert_cmpuint(l.count, ==, 1);
    g_assert_cmpuint(l.total_ns, ==, ns);
    g_assert_cmpuint(l.max_ns, ==, ns);
    for (i = 0; i < POSTCOPY_LATENCY_BUCKETS; i++) {
        g_assert_cmpuint(l.bucket[i], ==, i == bucket);
    }
}

static void test_borders(void)
{
    unsigned i;

    check_bucket(0, 0);
    check_bucket(1, 0);
    check_bucket(2, 1);
    check_bucket(3, 1);
    for (i = 2; i < POSTCOPY_LATENCY_BUCKETS; i++) {
        check_bucket((1ull << i) - 1, i - 1);
        check_bucket(1ull << i, i);
        check_bucket((1ull << i) + 1, i);
    }
    check_bucket((1ull << 40) - 1, 39);
    check_bucket(1ull << 40, 39);
    check_bucket(UINT64_MAX, 39);
}

static void test_sum(void)
{
    PostcopyLatency a = { 0 }, b = { 0 }, sum = { 0 };

    postcopy_latency_add(&a, 5);
    postcopy_latency_add(&a, 1000);
    postcopy_latency_add(&a, 7);
    g_assert_cmpuint(a.count, ==, 3);
    g_assert_cmpuint(a.total_ns, ==, 1012);
    g_assert_cmpuint(a.max_ns, ==, 1000);
    g_assert_cmpuint(a.bucket[2], ==, 2);
    g_assert_cmpuint(a.bucket[9], ==, 1);

    postcopy_latency_add(&b, 6);
    postcopy_latency_add(&b, 1ull << 39);
    postcopy_latency_merge(&sum, &a);
    postcopy_latency_merge(&sum, &b);
    g_assert_cmpuint(sum.count, ==, 5);
    g_assert_cmpuint(sum.total_ns, ==, 1018 + (1ull << 39));
    g_assert_cmpuint(sum.max_ns, ==, 1ull << 39);
    g_assert_cmpuint(sum.bucket[2], ==, 3);
    g_assert_cmpuint(sum.bucket[9], ==, 1);
    g_assert_cmpuint(sum.bucket[39], ==, 1);
    /* The larger maximum stays, whichever comes first. */
    postcopy_latency_merge(&sum, &a);
    g_assert_cmpuint(sum.max_ns, ==, 1ull << 39);
    g_assert_cmpuint(a.count, ==, 3);
}

typedef struct Run {
    PostcopyLatency latency;
    unsigned rounds;
} Run;

/* The statistics are queried while vCPUs count. */
static void run_thread(unsigned number, void *opaque)
{
    Run *r = opaque;
    uint64_t last = 0, i;

    if (number == 0) {
        for (i = 1; i <= r->rounds; i++) {
            postcopy_latency_add(&r->latency, i);
        }
        return;
    }
    do {
        PostcopyLatency sum = { 0 };

        postcopy_latency_merge(&sum, &r->latency);
        g_assert_cmpuint(sum.count, >=, last);
        g_assert_cmpuint(sum.count, <=, r->rounds);
        last = sum.count;
    } while (last < r->rounds);
}

static void test_concurrent(void)
{
    Run r = { .rounds = unit_rounds(200000) };

    unit_threads(2, run_thread, &r);
    g_assert_cmpuint(r.latency.count, ==, r.rounds);
    g_assert_cmpuint(r.latency.total_ns, ==,
                     (uint64_t)r.rounds * (r.rounds + 1) / 2);
    g_assert_cmpuint(r.latency.max_ns, ==, r.rounds);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    unit_add("/latency/borders/right-bucket", test_borders);
    unit_add("/latency/merge/sums-and-maximum", test_sum);
    unit_add("/latency/read-while-counting/never-goes-back", test_concurrent);
    return g_test_run();
}
