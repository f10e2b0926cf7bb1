/*
 * Are exactly the bits of present pages clear in the bitmap KVM reads?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "userfault-map.h"
#include "unit.h"

#define PAGE 4096ull
#define MAX_PAGES 400

static int block, other_block;

static UserfaultView *view_new(uint64_t first_page, uint64_t pages)
{
    UserfaultView *view = userfault_view_new(7, 123 * PAGE, pages * PAGE,
                                             &block, first_page * PAGE,
                                             &other_block, PAGE);

    g_assert_nonnull(view);
    return view;
}

/* Look at the bits as KVM does, by number from the slot's first page on. */
static bool kvm_bit(const UserfaultView *view, unsigned bit)
{
    return qatomic_read(&view->bitmap[bit / BITS_PER_LONG]) >>
           (bit % BITS_PER_LONG) & 1;
}

static void check(const UserfaultView *view, const bool *absent)
{
    unsigned i, pages = view->size / PAGE;

    for (i = 0; i < pages; i++) {
        g_assert_cmpint(kvm_bit(view, i), ==, absent[i]);
        g_assert_cmpint(userfault_view_test(view,
                                            view->block_offset + i * PAGE),
                        ==, absent[i]);
    }
}

static void test_new(void)
{
    static const unsigned pages[] = { 1, 63, 64, 65, 127, 128, 129 };
    bool absent[MAX_PAGES];
    unsigned i;

    memset(absent, true, sizeof(absent));
    for (i = 0; i < ARRAY_SIZE(pages); i++) {
        UserfaultView *view = view_new(5, pages[i]);

        g_assert_cmpuint(view->slot, ==, 7);
        g_assert_cmphex(view->gpa, ==, 123 * PAGE);
        g_assert_true(view->block == &block);
        g_assert_true(view->cookie == &other_block);
        g_assert_cmpuint(view->bitmap_bytes, ==, (pages[i] + 63) / 64 * 8);
        check(view, absent);
        userfault_view_free(view);
    }
}

static void test_too_large(void)
{
    /* A bitmap larger than the address space */
    g_assert_null(userfault_view_new(0, 0, 1ull << 63, &block, 0, NULL, PAGE));
}

static void test_no_memory(void)
{
    struct rlimit old, little;
    UserfaultView *view;

    if (UNIT_ASAN || UNIT_TSAN) {
        g_test_skip("sanitizers need an unlimited address space");
        return;
    }
    g_assert_cmpint(getrlimit(RLIMIT_AS, &old), ==, 0);
    little = old;
    little.rlim_cur = 1 << 20;
    g_assert_cmpint(setrlimit(RLIMIT_AS, &little), ==, 0);
    /* 32 MiB of bits, which there are before and after */
    view = userfault_view_new(0, 0, 1ull << 40, &block, 0, NULL, PAGE);
    g_assert_cmpint(setrlimit(RLIMIT_AS, &old), ==, 0);
    g_assert_null(view);
    view = userfault_view_new(0, 0, 1ull << 40, &block, 0, NULL, PAGE);
    g_assert_nonnull(view);
    userfault_view_free(view);
}

static void test_other_block(void)
{
    UserfaultView *view = view_new(10, 100);
    bool absent[MAX_PAGES];

    memset(absent, true, sizeof(absent));
    userfault_view_clear(view, &other_block, 0, 1000 * PAGE);
    check(view, absent);
    userfault_view_free(view);
}

static void test_outside(void)
{
    UserfaultView *view = view_new(10, 100);
    bool absent[MAX_PAGES];

    memset(absent, true, sizeof(absent));
    userfault_view_clear(view, &block, 0, 10 * PAGE);
    userfault_view_clear(view, &block, 110 * PAGE, 10 * PAGE);
    userfault_view_clear(view, &block, 50 * PAGE, 0);
    check(view, absent);
    /* One page at each end */
    userfault_view_clear(view, &block, 0, 11 * PAGE);
    userfault_view_clear(view, &block, 109 * PAGE, 10 * PAGE);
    absent[0] = absent[99] = false;
    check(view, absent);
    userfault_view_free(view);
}

/* All ranges around the borders of words and of the view */
static void test_ranges(void)
{
    static const unsigned edges[] = {
        0, 2, 3, 4, 5, 62, 63, 64, 65, 66, 67, 68, 127, 130, 131, 132, 133,
        134, 195, 196, 197, 198, 260,
    };
    enum { FIRST = 3, PAGES = 194 };
    unsigned a, b, i;

    for (a = 0; a < ARRAY_SIZE(edges); a++) {
        for (b = a; b < ARRAY_SIZE(edges); b++) {
            UserfaultView *view = view_new(FIRST, PAGES);
            bool absent[MAX_PAGES];

            for (i = 0; i < PAGES; i++) {
                absent[i] = i + FIRST < edges[a] || i + FIRST >= edges[b];
            }
            userfault_view_clear(view, &block, edges[a] * PAGE,
                                 (edges[b] - edges[a]) * PAGE);
            check(view, absent);
            /* Again: never sets a bit */
            userfault_view_clear(view, &block, edges[a] * PAGE,
                                 (edges[b] - edges[a]) * PAGE);
            check(view, absent);
            userfault_view_free(view);
        }
    }
}

static void test_huge_pages(void)
{
    /* A slot that begins and ends within host pages of 64 small pages */
    UserfaultView *view = view_new(32, 128);
    bool absent[MAX_PAGES];
    unsigned i;

    memset(absent, true, sizeof(absent));
    for (i = 0; i < 3; i++) {
        unsigned first = i == 0 ? 0 : i * 64 - 32;
        unsigned last = MIN(i * 64 + 32, 128);

        userfault_view_clear(view, &block, i * 64 * PAGE, 64 * PAGE);
        memset(absent + first, false, last - first);
        check(view, absent);
    }
    userfault_view_free(view);
}

static void test_high_offset(void)
{
    uint64_t far = (3ull << 40) / PAGE;
    UserfaultView *view = view_new(far, 64);
    bool absent[MAX_PAGES];

    memset(absent, true, sizeof(absent));
    userfault_view_clear(view, &block, (far + 33) * PAGE, PAGE);
    absent[33] = false;
    check(view, absent);
    userfault_view_free(view);
}

static void test_large_slot(void)
{
    uint64_t pages = (6ull << 30) / PAGE, high = (5ull << 30) / PAGE, i;
    UserfaultView *view = view_new(3, pages);

    userfault_view_clear(view, &block, (3 + high) * PAGE, PAGE);
    for (i = 0; i < pages; i++) {
        g_assert_cmpint(kvm_bit(view, i), ==, i != high);
    }
    g_assert_false(userfault_view_test(view, (3 + high) * PAGE));
    userfault_view_free(view);
}

/* Bits of @present from @pages on are all ones or garbage: never used. */
static void check_load(unsigned first, unsigned pages, unsigned block_pages,
                       uint32_t *chance)
{
    g_autofree unsigned long *present = bitmap_new(MAX(block_pages, 1));
    UserfaultView *view = view_new(first, pages);
    bool absent[MAX_PAGES] = { false };
    unsigned i;

    memset(present, 0xff, BITS_TO_LONGS(block_pages) * sizeof(long));
    for (i = 0; i < block_pages; i++) {
        if (unit_random(chance) % 2) {
            clear_bit(i, present);
        }
    }
    if (*chance % 2) {
        for (i = block_pages; i % BITS_PER_LONG; i++) {
            clear_bit(i, present);
        }
    }
    for (i = 0; i < pages; i++) {
        absent[i] = first + i < block_pages && !test_bit(first + i, present);
    }
    userfault_view_load(view, present, block_pages * PAGE);
    check(view, absent);
    userfault_view_free(view);
}

static void test_load(void)
{
    static const unsigned firsts[] = { 0, 1, 31, 63, 64, 65, 100, 128 };
    static const unsigned pages[] = { 1, 63, 64, 65, 100, 128, 192, 200 };
    uint32_t chance = 11;
    unsigned f, p, i;

    for (f = 0; f < ARRAY_SIZE(firsts); f++) {
        for (p = 0; p < ARRAY_SIZE(pages); p++) {
            unsigned end = firsts[f] + pages[p];

            /* The block is longer, as long, ends within, ends before. */
            check_load(firsts[f], pages[p], end + 70, &chance);
            check_load(firsts[f], pages[p], end, &chance);
            for (i = 1; i < pages[p]; i += 13) {
                check_load(firsts[f], pages[p], end - i, &chance);
            }
            check_load(firsts[f], pages[p], firsts[f], &chance);
            check_load(firsts[f], pages[p], firsts[f] / 2, &chance);
            check_load(firsts[f], pages[p], 0, &chance);
        }
    }
}

static void test_load_keeps_clear(void)
{
    unsigned long present[2] = { 0 };
    UserfaultView *view = view_new(0, 128);
    bool absent[MAX_PAGES];

    memset(absent, true, sizeof(absent));
    userfault_view_clear(view, &block, 7 * PAGE, PAGE);
    userfault_view_clear(view, &block, 70 * PAGE, PAGE);
    absent[7] = absent[70] = false;
    present[0] = 1ul << 5;
    absent[5] = false;
    userfault_view_load(view, present, 128 * PAGE);
    check(view, absent);
    userfault_view_free(view);
}

/*
 * A slot is made while pages are placed: both orders end clear.  Many slots in
 * a row, so that the two threads meet at all distances.
 */
#define RACE_SLOTS 64

typedef struct RaceSlot {
    UserfaultView *view;
    UserfaultView *published QEMU_ALIGNED(64);
    unsigned long present QEMU_ALIGNED(64);
} RaceSlot;

typedef struct Race {
    UnitMeeting meeting;
    unsigned rounds;
    RaceSlot slot[RACE_SLOTS];
} Race;

static void race_place(RaceSlot *s)
{
    UserfaultView *view;

    set_bit_atomic(3, &s->present);
    smp_mb();
    view = qatomic_rcu_read(&s->published);
    if (view) {
        userfault_view_clear(view, &block, 3 * PAGE, PAGE);
    }
}

static void race_publish(RaceSlot *s)
{
    qatomic_rcu_set(&s->published, s->view);
    userfault_view_load(s->view, &s->present, 64 * PAGE);
}

static void race_thread(unsigned number, void *opaque)
{
    Race *r = opaque;
    uint32_t chance = number + 1;
    unsigned i, delay;

    while (r->rounds) {
        for (i = 0; number == 0 && i < RACE_SLOTS; i++) {
            qatomic_set(&r->slot[i].view->bitmap[0], ~0ul);
            qatomic_set(&r->slot[i].present, 0);
            qatomic_set(&r->slot[i].published, NULL);
        }
        unit_meet(&r->meeting);
        for (delay = unit_random(&chance) % 256; delay; delay--) {
            cpu_relax();
        }
        for (i = 0; i < RACE_SLOTS; i++) {
            if (number == 0) {
                race_publish(&r->slot[i]);
            } else {
                race_place(&r->slot[i]);
            }
        }
        unit_meet(&r->meeting);
        if (number == 0) {
            for (i = 0; i < RACE_SLOTS; i++) {
                g_assert_cmphex(r->slot[i].view->bitmap[0], ==, ~(1ul << 3));
            }
            r->rounds--;
        }
        unit_meet(&r->meeting);
    }
}

static void test_race(void)
{
    Race r = { .meeting.threads = 2, .rounds = unit_rounds(20000) };
    unsigned i;

    for (i = 0; i < RACE_SLOTS; i++) {
        r.slot[i].view = view_new(0, 64);
    }
    unit_threads(2, race_thread, &r);
    for (i = 0; i < RACE_SLOTS; i++) {
        userfault_view_free(r.slot[i].view);
    }
}

/* Neighbours of a word cleared at once: no bit comes back. */
typedef struct Neighbours {
    UnitMeeting meeting;
    UserfaultView *view;
    unsigned rounds;
} Neighbours;

static void neighbour_thread(unsigned number, void *opaque)
{
    Neighbours *n = opaque;

    for (unsigned i = 0; i < n->rounds; i++) {
        if (number == 0) {
            qatomic_set(&n->view->bitmap[0], ~0ul);
        }
        unit_meet(&n->meeting);
        for (unsigned bit = number; bit < 64; bit += 4) {
            userfault_view_clear(n->view, &block, bit * PAGE, PAGE);
            g_assert_false(userfault_view_test(n->view, bit * PAGE));
        }
        unit_meet(&n->meeting);
        g_assert_cmphex(qatomic_read(&n->view->bitmap[0]), ==, 0);
        unit_meet(&n->meeting);
    }
}

static void test_neighbours(void)
{
    Neighbours n = { .meeting.threads = 4, .rounds = unit_rounds(4000) };

    n.view = view_new(0, 64);
    unit_threads(4, neighbour_thread, &n);
    userfault_view_free(n.view);
}

/* Whether the pages of @bitmap's first word are mapped */
static bool mapped(void *bitmap)
{
    unsigned char resident;

    return !mincore(bitmap, PAGE, &resident);
}

/* Two slots for one part of a block; @first_goes: the one that was there first */
static void check_shared(bool first_goes)
{
    UserfaultView *first = view_new(10, 100);
    UserfaultView *second = userfault_view_share(first, 1 << 16 | 3, 456 * PAGE);
    UserfaultView *left = first_goes ? second : first;
    void *bitmap = first->bitmap;
    bool absent[MAX_PAGES];

    memset(absent, true, sizeof(absent));
    g_assert_cmpuint(second->slot, ==, 1 << 16 | 3);
    g_assert_cmphex(second->gpa, ==, 456 * PAGE);
    g_assert_cmphex(second->size, ==, 100 * PAGE);
    check(second, absent);
    userfault_view_clear(second, &block, 12 * PAGE, PAGE);
    absent[2] = false;
    check(first, absent);
    check(second, absent);

    userfault_view_free(first_goes ? first : second);
    g_assert_true(mapped(bitmap));
    check(left, absent);
    userfault_view_clear(left, &block, 13 * PAGE, PAGE);
    absent[3] = false;
    check(left, absent);
    userfault_view_free(left);
    g_assert_false(mapped(bitmap));
}

static void test_shared(void)
{
    check_shared(false);
    check_shared(true);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    unit_add("/userfault-view/new/all-absent", test_new);
    unit_add("/userfault-view/shared/same-bits-until-the-last-goes", test_shared);
    unit_add("/userfault-view/too-large/no-view", test_too_large);
    unit_add("/userfault-view/no-memory/no-view", test_no_memory);
    unit_add("/userfault-view/clear-other-block/unchanged", test_other_block);
    unit_add("/userfault-view/clear-outside/unchanged", test_outside);
    unit_add("/userfault-view/clear-ranges/only-these-clear", test_ranges);
    unit_add("/userfault-view/clear-huge-pages/parts-in-the-slot-clear",
             test_huge_pages);
    unit_add("/userfault-view/clear-above-4g/only-these-clear",
             test_high_offset);
    unit_add("/userfault-view/clear-in-slot-above-4g/only-these-clear",
             test_large_slot);
    unit_add("/userfault-view/load/only-present-clear", test_load);
    unit_add("/userfault-view/load/clear-stays-clear", test_load_keeps_clear);
    unit_add("/userfault-view/made-while-placing/ends-clear", test_race);
    unit_add("/userfault-view/cleared-at-once/none-comes-back",
             test_neighbours);
    return g_test_run();
}
