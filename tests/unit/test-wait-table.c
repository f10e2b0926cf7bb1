/*
 * Does a wake reach all waiters of its page, and nobody else?
 *
 * One thread plays all waiters: what a waiter learns is in its park word.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "postcopy-wait.h"
#include "unit.h"

#define PAGE 4096ull
#define THREADS 16
/* Many more pages than a table for THREADS threads has buckets: by far most
 * of them share a bucket with others. */
#define PAGES 2000

void *__real_qemu_memalign(size_t alignment, size_t size);
void *__wrap_qemu_memalign(size_t alignment, size_t size);

/* All ones, so that a counter that nobody sets is -1 and one waiter makes 0 */
void *__wrap_qemu_memalign(size_t alignment, size_t size)
{
    return memset(__real_qemu_memalign(alignment, size), 0xff, size);
}

typedef struct Waiting {
    PostcopyWaiter waiter;
    QemuPark park;
    PostcopyHandover *handover;
    uintptr_t page;
    bool woken;
} Waiting;

static void enter(PostcopyWaitTable *t, Waiting *w, uintptr_t page)
{
    w->page = page;
    w->woken = false;
    qemu_park_reset(&w->park);
    postcopy_wait_begin(t, &w->waiter, page, &w->park, w->handover);
    g_assert_cmphex(qemu_park_state(&w->park), ==, 0);
}

static void check_state(Waiting *w)
{
    g_assert_cmphex(qemu_park_state(&w->park), ==,
                    w->woken ? QEMU_PARK_DONE : 0);
}

static void leave(PostcopyWaitTable *t, Waiting *w)
{
    check_state(w);
    g_assert_cmpint(postcopy_wait_end(t, &w->waiter), ==, w->woken);
}

static uintptr_t page_at(unsigned i)
{
    return 0x7f0000000000ull + i * PAGE;
}

static void test_fresh(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    Waiting w = { 0 };

    g_assert_cmpuint(postcopy_wait_wake(t, page_at(0)), ==, 0);
    enter(t, &w, page_at(0));
    g_assert_cmpuint(postcopy_wait_wake(t, page_at(0)), ==, 1);
    w.woken = true;
    leave(t, &w);
    g_assert_cmpuint(postcopy_wait_wake(t, page_at(0)), ==, 0);
    postcopy_wait_table_free(t);
    postcopy_wait_table_free(NULL);
}

static void test_collisions(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    g_autofree Waiting *w = g_new0(Waiting, PAGES);
    uint32_t chance = 7;
    unsigned i, j;

    for (i = 0; i < PAGES; i++) {
        enter(t, &w[i], page_at(i));
    }
    for (i = 0; i < PAGES; i++) {
        j = unit_random(&chance) % PAGES;
        g_assert_cmpuint(postcopy_wait_wake(t, page_at(j)), ==, !w[j].woken);
        w[j].woken = true;
        if (i % 100 == 0) {
            for (j = 0; j < PAGES; j++) {
                check_state(&w[j]);
            }
        }
    }
    for (i = 0; i < PAGES; i++) {
        leave(t, &w[i]);
    }
    postcopy_wait_table_free(t);
}

/* Huge pages and far apart blocks, where only high bits differ */
static void test_strides(void)
{
    static const uint64_t strides[] = { 4096, 1 << 16, 2 << 20, 1 << 30 };
    Waiting w[200] = { 0 };
    unsigned s, i;

    for (s = 0; s < ARRAY_SIZE(strides); s++) {
        PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);

        for (i = 0; i < ARRAY_SIZE(w); i++) {
            enter(t, &w[i], i * strides[s]);
        }
        for (i = 0; i < ARRAY_SIZE(w); i += 2) {
            g_assert_cmpuint(postcopy_wait_wake(t, i * strides[s]), ==, 1);
            w[i].woken = true;
        }
        for (i = 0; i < ARRAY_SIZE(w); i++) {
            leave(t, &w[i]);
        }
        postcopy_wait_table_free(t);
    }
}

/* More waiters on a page than are woken in one turn, others between them */
static void test_many_on_one_page(gconstpointer number)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    unsigned n = GPOINTER_TO_UINT(number), i;
    g_autofree Waiting *same = g_new0(Waiting, n);
    g_autofree Waiting *other = g_new0(Waiting, PAGES);

    for (i = 0; i < MAX(n, PAGES); i++) {
        if (i < n) {
            enter(t, &same[i], page_at(0));
        }
        if (i < PAGES) {
            enter(t, &other[i], page_at(1 + i));
        }
    }
    g_assert_cmpuint(postcopy_wait_wake(t, page_at(0)), ==, n);
    for (i = 0; i < n; i++) {
        same[i].woken = true;
        leave(t, &same[i]);
    }
    g_assert_cmpuint(postcopy_wait_wake(t, page_at(0)), ==, 0);
    for (i = 0; i < PAGES; i++) {
        leave(t, &other[i]);
    }
    postcopy_wait_table_free(t);
}

static void test_wake_all(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    g_autofree Waiting *w = g_new0(Waiting, PAGES);
    unsigned i;

    g_assert_cmpuint(postcopy_wait_wake_all(t), ==, 0);
    for (i = 0; i < PAGES; i++) {
        enter(t, &w[i], page_at(i / 3));
    }
    g_assert_cmpuint(postcopy_wait_wake_all(t), ==, PAGES);
    for (i = 0; i < PAGES; i++) {
        w[i].woken = true;
        leave(t, &w[i]);
    }
    g_assert_cmpuint(postcopy_wait_wake_all(t), ==, 0);
    postcopy_wait_table_free(t);
}

static void test_left_early(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    Waiting first = { 0 }, second = { 0 };

    enter(t, &first, page_at(0));
    enter(t, &second, page_at(0));
    qemu_park_kick(&first.park);
    g_assert_cmphex(qemu_park_sleep(&first.park), ==, QEMU_PARK_KICKED);
    g_assert_false(postcopy_wait_end(t, &first.waiter));
    /* Its next wait, for another page, with the same park word */
    enter(t, &first, page_at(1));
    g_assert_cmpuint(postcopy_wait_wake(t, page_at(0)), ==, 1);
    second.woken = true;
    leave(t, &first);
    leave(t, &second);
    postcopy_wait_table_free(t);
}

static void test_kicked_and_woken(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    Waiting w = { 0 };

    enter(t, &w, page_at(0));
    qemu_park_kick(&w.park);
    g_assert_cmpuint(postcopy_wait_wake(t, page_at(0)), ==, 1);
    g_assert_true(postcopy_wait_end(t, &w.waiter));
    g_assert_cmphex(qemu_park_state(&w.park), ==,
                    QEMU_PARK_DONE | QEMU_PARK_KICKED);
    postcopy_wait_table_free(t);
}

/* A thread that never slept, and one that waits for the same page again */
static void test_again(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(1);
    Waiting w = { 0 };
    unsigned i;

    for (i = 0; i < 1000; i++) {
        enter(t, &w, page_at(i % 3));
        if (i % 2) {
            g_assert_cmpuint(postcopy_wait_wake(t, page_at(i % 3)), ==, 1);
            w.woken = true;
        }
        leave(t, &w);
        g_assert_cmpuint(postcopy_wait_wake(t, page_at(i % 3)), ==, 0);
    }
    postcopy_wait_table_free(t);
}

/* --- pages that are given ------------------------------------------------- */

static const uint8_t content[PAGE] = { [0] = 1, [77] = 2, [PAGE - 1] = 3 };

typedef struct Taker {
    Waiting w;
    PostcopyHandover handover;
    uint8_t page[PAGE];
} Taker;

static void enter_taker(PostcopyWaitTable *t, Taker *k, uintptr_t page)
{
    memset(k, 0xa5, sizeof(*k));
    k->handover = (PostcopyHandover) { .page = k->page };
    k->w.handover = &k->handover;
    enter(t, &k->w, page);
}

static void test_give(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    Taker k;

    g_assert_false(postcopy_wait_give(t, page_at(0), content, PAGE));
    enter_taker(t, &k, page_at(0));
    g_assert_false(postcopy_wait_give(t, page_at(1), content, PAGE));
    g_assert_false(k.handover.given);
    g_assert_true(postcopy_wait_give(t, page_at(0), content, PAGE));
    k.w.woken = true;
    g_assert_true(k.handover.given);
    g_assert_false(k.handover.zero);
    g_assert_cmpmem(k.page, PAGE, content, PAGE);
    /* It comes once, and wakes nobody else. */
    g_assert_false(postcopy_wait_give(t, page_at(0), content, PAGE));
    g_assert_cmpuint(postcopy_wait_wake(t, page_at(0)), ==, 0);
    leave(t, &k.w);
    postcopy_wait_table_free(t);
}

static void test_give_zeroes(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    Taker k;

    enter_taker(t, &k, page_at(0));
    g_assert_true(postcopy_wait_give(t, page_at(0), NULL, PAGE));
    k.w.woken = true;
    g_assert_true(k.handover.given);
    g_assert_true(k.handover.zero);
    leave(t, &k.w);
    postcopy_wait_table_free(t);
}

/* Whoever is there already must not wait for the other one to run. */
static void test_give_to_one_of_two(gconstpointer takers)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    Waiting plain = { 0 };
    Taker k, second;
    bool both = GPOINTER_TO_INT(takers) == 2;

    enter_taker(t, &k, page_at(0));
    if (both) {
        enter_taker(t, &second, page_at(0));
    } else {
        enter(t, &plain, page_at(0));
    }
    g_assert_false(postcopy_wait_give(t, page_at(0), content, PAGE));
    g_assert_false(k.handover.given);
    leave(t, both ? &second.w : &plain);
    g_assert_true(postcopy_wait_give(t, page_at(0), content, PAGE));
    k.w.woken = true;
    leave(t, &k.w);
    postcopy_wait_table_free(t);
}

static void test_give_to_none_that_takes(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    Waiting w = { 0 };

    enter(t, &w, page_at(0));
    g_assert_false(postcopy_wait_give(t, page_at(0), content, PAGE));
    leave(t, &w);
    postcopy_wait_table_free(t);
}

/* Kicked, but not gone: the page is its. */
static void test_give_to_kicked(void)
{
    PostcopyWaitTable *t = postcopy_wait_table_new(THREADS);
    Taker k;

    enter_taker(t, &k, page_at(0));
    qemu_park_kick(&k.w.park);
    g_assert_true(postcopy_wait_give(t, page_at(0), content, PAGE));
    g_assert_true(postcopy_wait_end(t, &k.w.waiter));
    g_assert_true(k.handover.given);
    /* Kicked and gone: nobody has it. */
    enter_taker(t, &k, page_at(0));
    qemu_park_kick(&k.w.park);
    g_assert_false(postcopy_wait_end(t, &k.w.waiter));
    g_assert_false(postcopy_wait_give(t, page_at(0), content, PAGE));
    g_assert_false(k.handover.given);
    postcopy_wait_table_free(t);
}

int main(int argc, char **argv)
{
    static const unsigned many[] = { 1, 2, 15, 16, 17, 31, 32, 33, 100, 1000 };
    unsigned i;

    unit_init(&argc, &argv, 120);
    unit_add("/wait-table/dirty-memory/first-waiter-is-woken", test_fresh);
    unit_add("/wait-table/colliding-pages/only-the-page-is-woken",
             test_collisions);
    unit_add("/wait-table/page-sizes/only-the-page-is-woken", test_strides);
    for (i = 0; i < ARRAY_SIZE(many); i++) {
        unit_add_number("/wait-table/many-on-one-page/all-are-woken", many[i],
                        test_many_on_one_page);
    }
    unit_add("/wait-table/wake-all/all-are-woken", test_wake_all);
    unit_add("/wait-table/left-early/not-woken-later", test_left_early);
    unit_add("/wait-table/kicked-and-woken/counts-as-woken",
             test_kicked_and_woken);
    unit_add("/wait-table/waits-again/nothing-is-left-over", test_again);
    unit_add("/wait-table/given/once-with-its-content", test_give);
    unit_add("/wait-table/given-zeroes/said-so", test_give_zeroes);
    unit_add_number("/wait-table/given-where-several-wait/refused", 1,
                    test_give_to_one_of_two);
    unit_add_number("/wait-table/given-where-several-wait/refused", 2,
                    test_give_to_one_of_two);
    unit_add("/wait-table/given-where-none-takes/refused",
             test_give_to_none_that_takes);
    unit_add("/wait-table/given-to-kicked/the-page-is-its", test_give_to_kicked);
    return g_test_run();
}
