/*
 * Does a vCPU that walks memory get the next pages, and no other vCPU any?
 *
 * A guest whose pages come as soon as they are asked for, or later.  The steps
 * that ask for pages are those of migration/postcopy-userfault.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "postcopy-readahead.h"
#include "unit.h"

#define WINDOW 32

typedef struct Guest {
    PostcopyReadahead ra;
    int64_t pages;
    unsigned max;
    bool *there;
    bool *asked;
    bool late;                  /* what was asked for is not there yet */
    unsigned faults;
    unsigned asked_ahead, used, dropped;
    unsigned last_asked;        /* by the latest fault */
    int64_t nearest, farthest;  /* of these, from it; in its direction */
} Guest;

static Guest *guest_new(int64_t pages, unsigned max)
{
    Guest *g = g_new0(Guest, 1);

    g->pages = pages;
    g->max = max;
    g->there = g_new0(bool, pages);
    g->asked = g_new0(bool, pages);
    return g;
}

static unsigned open_pages(Guest *g)
{
    unsigned i, n = 0;

    for (i = 0; i < POSTCOPY_READAHEAD_WALKS; i++) {
        n += ctpop64(g->ra.walk[i].asked);
    }
    return n;
}

static void guest_free(Guest *g)
{
    g_assert_cmpuint(g->used + g->dropped + open_pages(g), ==, g->asked_ahead);
    g_free(g->there);
    g_free(g->asked);
    g_free(g);
}

static void ask_ahead(Guest *g, PostcopyWalk *w, int64_t page)
{
    unsigned step;

    for (step = 1; step <= POSTCOPY_READAHEAD_REACH; step++) {
        int64_t next = page + step * w->stride;

        if (next < 0 || next >= g->pages) {
            break;
        }
        if (g->there[next] || g->asked[next]) {
            continue;
        }
        if (!postcopy_readahead_room(w)) {
            break;
        }
        g->asked[next] = true;
        g->there[next] = !g->late;
        g->nearest = g->last_asked++ ? g->nearest : next - page;
        g->farthest = next - page;
        postcopy_readahead_asked(w, step);
    }
    postcopy_readahead_reached(w, step - 1);
    g->asked_ahead += g->last_asked;
    g_assert_cmpuint(g->last_asked, <=, g->max);
    g_assert_cmpuint(ctpop64(w->asked), <=, g->max);
}

static void fault(Guest *g, const void *block, int64_t page)
{
    PostcopyReadaheadVerdict verdict = { 99, 99 };
    PostcopyWalk *w;

    g->faults++;
    g->asked[page] = true;
    g->last_asked = 0;
    w = postcopy_readahead_fault(&g->ra, block, page, g->max, &verdict);
    g->used += verdict.used;
    g->dropped += verdict.dropped;
    if (w) {
        ask_ahead(g, w, page);
    }
    g->there[page] = true;
}

static void touch(Guest *g, int64_t page)
{
    if (!g->there[page]) {
        fault(g, g, page);
    }
}

static void walk(Guest *g, int64_t from, int64_t stride, unsigned steps)
{
    unsigned i;

    for (i = 0; i < steps; i++) {
        touch(g, from + i * stride);
    }
}

/* The window after each fault, by the book */
static void test_growth(void)
{
    static const unsigned windows[] = { 0, 0, 4, 8, 16, 32, 32, 32 };
    Guest *g = guest_new(4096, WINDOW);
    int64_t page = 100;
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(windows); i++) {
        fault(g, g, page);
        g_assert_cmpuint(g->last_asked, ==, windows[i]);
        if (windows[i]) {
            g_assert_cmpint(g->nearest, ==, 1);
            g_assert_cmpint(g->farthest, ==, windows[i]);
        }
        page += windows[i] + 1;
    }
    g_assert_cmpuint(g->dropped, ==, 0);
    g_assert_cmpuint(g->used, ==, 4 + 8 + 16 + 32 + 32);
    guest_free(g);
}

static void test_stride(gconstpointer number)
{
    unsigned stride = GPOINTER_TO_UINT(number);
    int64_t pages = 1000 * stride;
    Guest *g;

    g = guest_new(pages, WINDOW);
    walk(g, 0, stride, 1000);
    g_assert_cmpuint(g->faults, <, 1000 / 25);
    g_assert_cmpuint(g->dropped, ==, 0);
    guest_free(g);

    g = guest_new(pages, WINDOW);
    walk(g, pages - 1, -(int64_t)stride, 1000);
    g_assert_cmpuint(g->faults, <, 1000 / 25);
    g_assert_cmpuint(g->dropped, ==, 0);
    guest_free(g);
}

static void test_too_long(void)
{
    int64_t stride = POSTCOPY_READAHEAD_STRIDE + 1;
    Guest *g = guest_new(200 * stride, WINDOW);

    walk(g, 0, stride, 200);
    g_assert_cmpuint(g->faults, ==, 200);
    walk(g, 199 * stride - 1, -stride, 199);
    g_assert_cmpuint(g->faults, ==, 399);
    guest_free(g);
}

static void test_bound(gconstpointer number)
{
    unsigned max = GPOINTER_TO_UINT(number), i, most = 0;
    Guest *g = guest_new(4096, max);

    for (i = 0; i < 4000; i++) {
        touch(g, i);
        most = MAX(most, g->last_asked);
    }
    g_assert_cmpuint(most, ==, max);
    if (!max) {
        g_assert_cmpuint(g->faults, ==, 4000);
    }
    guest_free(g);
}

/* No three of these are at equal distances. */
static void test_no_walk(void)
{
    static const int64_t pages[] = { 10, 11, 13, 14, 19, 20, 22, 23 };
    Guest *g = guest_new(4096, WINDOW);
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(pages); i++) {
        touch(g, pages[i]);
    }
    g_assert_cmpuint(g->faults, ==, ARRAY_SIZE(pages));
    /* Of the right distances, but in the wrong order */
    touch(g, 1001);
    touch(g, 1000);
    touch(g, 1002);
    g_assert_cmpuint(g->asked_ahead, ==, 0);
    guest_free(g);
}

static void test_interleaved(void)
{
    static const int64_t stride[] = { 1, -1, 3, 16 };
    static const int64_t from[] = { 0, 9999, 10000, 30000 };
    Guest *g = guest_new(60000, WINDOW);
    unsigned i, j;

    for (i = 0; i < 1000; i++) {
        for (j = 0; j < ARRAY_SIZE(stride); j++) {
            touch(g, from[j] + i * stride[j]);
        }
    }
    g_assert_cmpuint(g->faults, <, 4000 / 25);
    g_assert_cmpuint(g->dropped, ==, 0);
    guest_free(g);
}

/* Walks that are near each other, as two arrays that are added up */
static void test_close(void)
{
    Guest *g = guest_new(2000, WINDOW);
    unsigned i;

    for (i = 0; i < 500; i++) {
        touch(g, i);
        touch(g, 510 + i);
        touch(g, 1020 + i);
    }
    g_assert_cmpuint(g->faults, <, 1500 / 20);
    guest_free(g);
}

/* A walk among other accesses is not forgotten. */
static void test_among_random(void)
{
    Guest *g = guest_new(1000000, WINDOW);
    uint32_t chance = 1;
    unsigned i, j, before, by_walk = 0;

    for (i = 0; i < 1000; i++) {
        before = g->faults;
        touch(g, i);
        by_walk += g->faults - before;
        for (j = 0; j < 3; j++) {
            touch(g, 1000 + unit_random(&chance) % 990000);
        }
    }
    g_assert_cmpuint(by_walk, <, 1000 / 20);
    guest_free(g);
}

static void test_random(gconstpointer number)
{
    unsigned pages = GPOINTER_TO_UINT(number), seed, i;
    unsigned faults = 0, asked = 0;

    for (seed = 1; seed <= 20; seed++) {
        Guest *g = guest_new(pages, WINDOW);
        uint32_t chance = seed * 7919;

        for (i = 0; i < pages / 2; i++) {
            touch(g, unit_random(&chance) % pages);
        }
        faults += g->faults;
        asked += g->asked_ahead;
        guest_free(g);
    }
    g_test_message("%u faults, %u pages asked for ahead", faults, asked);
    /* The fewer pages, the more of them are at equal distances by chance. */
    g_assert_cmpuint(asked * (pages < 1000 ? 25 : 200), <, faults);
}

/* Every fault of a walk that is faster than the network tops up its window. */
static void test_late(void)
{
    Guest *g = guest_new(4096, WINDOW);
    unsigned i;

    g->late = true;
    for (i = 0; i < 1000; i++) {
        touch(g, i);
        if (i >= 7) {
            g_assert_true(g->asked[i + WINDOW]);
            g_assert_false(g->asked[i + WINDOW + 1]);
        }
    }
    g_assert_cmpuint(g->faults, ==, 1000);
    g_assert_cmpuint(g->used, ==, 1000 - 3);
    g_assert_cmpuint(g->dropped, ==, 0);
    guest_free(g);
}

/* Where some of the pages are there already */
static void test_sparse(gconstpointer number)
{
    unsigned percent = GPOINTER_TO_UINT(number), i, missing = 0;
    Guest *g = guest_new(20000, WINDOW);
    uint32_t chance = 1;

    for (i = 0; i < 20000; i++) {
        g->there[i] = unit_random(&chance) % 100 >= percent;
        missing += !g->there[i];
    }
    walk(g, 0, 1, 20000);
    g_test_message("%u missing, %u faults", missing, g->faults);
    g_assert_cmpuint(g->faults, <, missing / 10);
    guest_free(g);
}

static void test_skips(void)
{
    Guest *g = guest_new(4096, WINDOW);

    walk(g, 0, 1, 3 + 4 + 1 + 8 + 1 + 16 + 1);
    g_assert_cmpuint(g->last_asked, ==, 32);
    touch(g, 33 + 32 + 1 + 1);
    g_assert_cmpuint(g->last_asked, ==, 16);
    touch(g, 67 + 16 + 1 + 15);
    g_assert_cmpuint(g->last_asked, ==, 8);
    touch(g, 99 + 8 + 1 + 1);
    g_assert_cmpuint(g->last_asked, ==, 4);
    g_assert_cmpuint(g->dropped, ==, 0);
    touch(g, 109 + 4 + 1 + 1);
    g_assert_cmpuint(g->last_asked, ==, 0);
    g_assert_cmpuint(open_pages(g), ==, 0);
    guest_free(g);
}

/* Farther than a window behind its end is not that walk any more. */
static void test_jumps(void)
{
    Guest *g = guest_new(8192, WINDOW);

    walk(g, 0, 1, 3 + 4 + 1 + 8 + 1 + 16 + 1);
    g_assert_cmpuint(open_pages(g), ==, 32);
    touch(g, 33 + 32 + 1 + 33);
    g_assert_cmpuint(g->last_asked, ==, 0);
    walk(g, 4000, -1, 2);
    g_assert_cmpuint(g->asked_ahead, ==, 4 + 8 + 16 + 32);
    touch(g, 3998);
    g_assert_cmpuint(g->last_asked, ==, 4);
    /* Others need its place. */
    walk(g, 5000, 1, 3);
    walk(g, 6000, 1, 3);
    g_assert_cmpuint(g->dropped, ==, 0);
    walk(g, 7000, 1, 3);
    g_assert_cmpuint(g->dropped, ==, 32);
    guest_free(g);
}

static void test_life(void)
{
    Guest *g = guest_new(1000000, WINDOW);
    unsigned i;

    walk(g, 0, 1, 3);
    for (i = 0; i < 256; i++) {
        fault(g, g, 1000 + i * i);
    }
    g_assert_cmpuint(g->dropped, ==, 0);
    fault(g, g, 999999);
    g_assert_cmpuint(g->dropped, ==, 4);
    guest_free(g);
}

/* A vCPU whose wait was broken comes again. */
static void test_repeated(void)
{
    Guest *g = guest_new(4096, WINDOW);
    unsigned i;

    for (i = 0; i < 5; i++) {
        fault(g, g, 10);
    }
    fault(g, g, 11);
    fault(g, g, 11);
    g_assert_cmpuint(g->asked_ahead, ==, 0);
    fault(g, g, 12);
    fault(g, g, 12);
    g_assert_cmpuint(g->asked_ahead, ==, 4);
    g_assert_cmpuint(g->used, ==, 0);
    fault(g, g, 17);
    g_assert_cmpuint(g->used, ==, 4);
    g_assert_cmpuint(g->last_asked, ==, 8);
    guest_free(g);
}

static void test_other_block(void)
{
    Guest *g = guest_new(4096, WINDOW);
    int other = 0;

    fault(g, g, 10);
    fault(g, &other, 11);
    fault(g, g, 12);
    fault(g, &other, 13);
    g_assert_cmpuint(g->asked_ahead, ==, 0);
    fault(g, &other, 15);
    g_assert_cmpuint(g->last_asked, ==, 4);
    g_assert_cmpint(g->nearest, ==, 2);
    /* Where its next fault would be */
    fault(g, g, 25);
    g_assert_cmpuint(g->last_asked, ==, 0);
    g_assert_cmpuint(g->used, ==, 0);
    guest_free(g);
}

/* Whatever comes: what was asked for is used, dropped or still open. */
static void test_any(void)
{
    unsigned seed, i;

    for (seed = 1; seed <= unit_rounds(200); seed++) {
        uint32_t chance = seed;
        unsigned max = unit_random(&chance) % (POSTCOPY_READAHEAD_MAX + 1);
        Guest *g = guest_new(5000, max);
        int64_t page = 0, stride = 1;

        g->late = seed % 3 == 0;
        for (i = 0; i < 2000; i++) {
            switch (unit_random(&chance) % 64) {
            case 0:
                page = unit_random(&chance) % 5000;
                break;
            case 1:
                stride = (int64_t)(unit_random(&chance) % 80) - 40;
                break;
            }
            page = ((page + stride) % 5000 + 5000) % 5000;
            touch(g, page);
            g_assert_cmpuint(g->used + g->dropped + open_pages(g), ==,
                             g->asked_ahead);
        }
        guest_free(g);
    }
}

int main(int argc, char **argv)
{
    static const unsigned strides[] = { 1, 2, 3, 7, 16, 31, 32 };
    static const unsigned bounds[] = { 0, 1, 2, 3, 4, 5, 31, 32, 64 };
    static const unsigned sizes[] = { 512, 4096, 100000 };
    static const unsigned missing[] = { 100, 90, 60, 30 };
    unsigned i;

    unit_init(&argc, &argv, 120);
    unit_add("/readahead/walk/window-doubles", test_growth);
    for (i = 0; i < ARRAY_SIZE(strides); i++) {
        unit_add_number("/readahead/stride/followed-both-ways", strides[i],
                        test_stride);
    }
    unit_add("/readahead/stride-too-long/nothing-asked-for", test_too_long);
    for (i = 0; i < ARRAY_SIZE(bounds); i++) {
        unit_add_number("/readahead/bound/reached-and-kept", bounds[i],
                        test_bound);
    }
    unit_add("/readahead/unequal-steps/nothing-asked-for", test_no_walk);
    unit_add("/readahead/walks-in-turn/each-followed", test_interleaved);
    unit_add("/readahead/walks-in-turn/close-ones-told-apart", test_close);
    unit_add("/readahead/walk-among-random/followed", test_among_random);
    for (i = 0; i < ARRAY_SIZE(sizes); i++) {
        unit_add_number("/readahead/random/next-to-nothing-asked-for", sizes[i],
                        test_random);
    }
    unit_add("/readahead/pages-late/window-topped-up", test_late);
    for (i = 0; i < ARRAY_SIZE(missing); i++) {
        unit_add_number("/readahead/some-there/passed-over", missing[i],
                        test_sparse);
    }
    unit_add("/readahead/pages-left-out/window-halves", test_skips);
    unit_add("/readahead/jump/given-up-for-others", test_jumps);
    unit_add("/readahead/no-fault-for-long/given-up", test_life);
    unit_add("/readahead/same-fault-again/ignored", test_repeated);
    unit_add("/readahead/other-block/another-walk", test_other_block);
    unit_add("/readahead/anything/every-page-accounted-for", test_any);
    return g_test_run();
}
