/*
 * Does the background stream send first what the guest is near to, and all?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "postcopy-order.h"
#include "unit.h"

#define PAGES 4096ul
#define HOST_PAGES 16           /* of the guest in a host page, if not one */
#define REACH POSTCOPY_ORDER_REACH
#define RUN POSTCOPY_ORDER_RUN

struct RAMBlock {
    unsigned long pages;
    unsigned host_page;         /* in pages of the guest */
    DECLARE_BITMAP(dirty, PAGES);
};

static void block_init(RAMBlock *rb, unsigned long pages)
{
    *rb = (RAMBlock) { .pages = pages, .host_page = 1 };
    bitmap_set(rb->dirty, 0, pages);
}

static void ask(PostcopyOrder *order, RAMBlock *rb, unsigned long first,
                unsigned long nr)
{
    postcopy_order_asked(order, rb, rb->dirty, rb->pages, first, nr);
}

static void answer(PostcopyOrder *order, RAMBlock *rb, unsigned long first,
                   unsigned long nr)
{
    ask(order, rb, first, nr);
    bitmap_clear(rb->dirty, first, nr);
}

/* The scan is at @page of @rb.  Where does it begin? */
static void begins(PostcopyOrder *order, RAMBlock *rb, unsigned long page,
                   RAMBlock *wanted_rb, unsigned long wanted_page)
{
    ram_addr_t at = page;

    postcopy_order_next(order, &rb, &at);
    g_assert_true(rb == wanted_rb);
    g_assert_cmpuint(at, ==, wanted_page);
}

/* It begins at @page of @rb, and this page is sent. */
static void sends(PostcopyOrder *order, RAMBlock *from_rb, unsigned long from,
                  RAMBlock *rb, unsigned long page)
{
    begins(order, from_rb, from, rb, page);
    g_assert_true(test_and_clear_bit(page, rb->dirty));
}

static void test_no_request(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a;

    block_init(&a, PAGES);
    begins(&order, &a, 0, &a, 0);
    begins(&order, &a, 7, &a, 7);
    begins(&order, &a, PAGES, &a, PAGES);
}

static void test_behind(void)
{
    PostcopyOrder order = { 0 };
    unsigned long page;
    RAMBlock a, b;

    block_init(&a, PAGES);
    block_init(&b, PAGES);
    answer(&order, &b, 1000, 1);
    sends(&order, &a, 7, &b, 1001);
    for (page = 1002; page <= 1000 + REACH; page++) {
        sends(&order, &b, page, &b, page);
    }
    begins(&order, &b, page, &a, 7);
    begins(&order, &a, 8, &a, 8);
}

/* Pages of a detour that have been asked for meanwhile, and others */
static void test_gaps(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a;

    block_init(&a, PAGES);
    bitmap_clear(a.dirty, 1000, REACH + 1);
    set_bit(1001, a.dirty);
    set_bit(1300, a.dirty);
    set_bit(1400, a.dirty);
    ask(&order, &a, 1000, 1);
    sends(&order, &a, 7, &a, 1001);
    clear_bit(1300, a.dirty);
    sends(&order, &a, 1002, &a, 1400);
    begins(&order, &a, 1401, &a, 7);
}

/* The source leaves a page out that the background stream may be sending. */
static void test_unanswered(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a;

    block_init(&a, PAGES);
    ask(&order, &a, 1000, 8);
    clear_bit(1000, a.dirty);
    sends(&order, &a, 7, &a, 1001);
    sends(&order, &a, 1002, &a, 1002);
}

static void test_clean(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a;

    block_init(&a, PAGES);
    bitmap_clear(a.dirty, 1000, REACH + 4);
    ask(&order, &a, 1000, 4);
    begins(&order, &a, 7, &a, 7);
    /* The request is over. */
    set_bit(1100, a.dirty);
    begins(&order, &a, 8, &a, 8);
}

static void test_reach(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a;

    block_init(&a, PAGES);
    bitmap_clear(a.dirty, 1000, REACH + 4);
    set_bit(1000 + 4 + REACH - 1, a.dirty);
    ask(&order, &a, 1000, 4);
    sends(&order, &a, 7, &a, 1000 + 4 + REACH - 1);
    begins(&order, &a, 1000 + 4 + REACH, &a, 7);
}

static void test_latest(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a, b;

    block_init(&a, PAGES);
    block_init(&b, PAGES);
    answer(&order, &a, 1000, 1);
    answer(&order, &b, 2000, 1);
    sends(&order, &a, 7, &b, 2001);
}

static void test_run(void)
{
    PostcopyOrder order = { 0 };
    unsigned long i;
    RAMBlock a, b;

    block_init(&a, PAGES);
    block_init(&b, PAGES);
    answer(&order, &a, 1000, 1);
    for (i = 1; i <= RUN; i++) {
        sends(&order, &a, i == 1 ? 7 : 1000 + i, &a, 1000 + i);
        answer(&order, &b, 2000 + i, 1);
    }
    /* Now that of the last request, which has a run of its own */
    for (i = 1; i <= RUN; i++) {
        sends(&order, &a, 7, &b, 2000 + RUN + i);
        answer(&order, &a, 3000, 1);
    }
    sends(&order, &b, 7, &a, 3001);
    /* The scan goes on where it was before all of them. */
    bitmap_clear(a.dirty, 3000, REACH + 1);
    begins(&order, &a, 3002, &a, 7);
}

/* Without requests a detour is longer than a run, and ends for the first. */
static void test_long_run(void)
{
    PostcopyOrder order = { 0 };
    unsigned long i;
    RAMBlock a;

    block_init(&a, PAGES);
    answer(&order, &a, 1000, 1);
    for (i = 1; i <= RUN + 1; i++) {
        sends(&order, &a, 7, &a, 1000 + i);
    }
    answer(&order, &a, 2000, 1);
    sends(&order, &a, 7, &a, 2001);
}

/* A request with nothing behind it does not end a detour. */
static void test_run_clean(void)
{
    PostcopyOrder order = { 0 };
    unsigned long i;
    RAMBlock a, b;

    block_init(&a, PAGES);
    block_init(&b, PAGES);
    bitmap_clear(b.dirty, 0, PAGES);
    answer(&order, &a, 1000, 1);
    for (i = 1; i <= 2 * RUN; i++) {
        sends(&order, &a, 7, &a, 1000 + i);
        ask(&order, &b, i, 1);
    }
}

static void test_end_of_block(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a;

    block_init(&a, 100);
    set_bit(100, a.dirty);      /* of nobody */
    bitmap_clear(a.dirty, 90, 9);
    ask(&order, &a, 90, 1);
    sends(&order, &a, 7, &a, 99);
    begins(&order, &a, 100, &a, 7);
    ask(&order, &a, 99, 1);
    begins(&order, &a, 8, &a, 8);
}

/* What QEMU lets pass, or what the sum of which is too large for a word */
static void test_outside(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a;

    block_init(&a, 100);
    bitmap_set(a.dirty, 100, PAGES - 100);
    ask(&order, &a, 100, 1);
    begins(&order, &a, 7, &a, 7);
    ask(&order, &a, 101, 1);
    begins(&order, &a, 7, &a, 7);
    ask(&order, &a, ULONG_MAX, 2);
    begins(&order, &a, 7, &a, 7);
    bitmap_clear(a.dirty, 50, 50);
    ask(&order, &a, 50, ULONG_MAX);
    begins(&order, &a, 7, &a, 7);
    ask(&order, &a, 40, ULONG_MAX - 39);
    sends(&order, &a, 7, &a, 40);
}

static void test_reset(void)
{
    PostcopyOrder order = { 0 };
    RAMBlock a, b;

    block_init(&a, PAGES);
    block_init(&b, PAGES);
    answer(&order, &a, 1000, 1);
    sends(&order, &a, 7, &a, 1001);
    answer(&order, &a, 2000, 1);
    postcopy_order_reset(&order);
    begins(&order, &b, 0, &b, 0);
    /* Nor is there a way back. */
    begins(&order, &b, 1, &b, 1);
    answer(&order, &b, 1000, 1);
    sends(&order, &b, 2, &b, 1001);
}

/* ------------------------------------------------------------------------- */
/* The scan, around all blocks; what it tells of the end must be true. */

typedef struct Scan {
    RAMBlock *block;            /* BLOCKS of them */
    RAMBlock *seen;
    ram_addr_t page;
    unsigned long sent;
} Scan;

#define BLOCKS 3

static unsigned long send_host_page(RAMBlock *rb, unsigned long page)
{
    unsigned long end = ROUND_UP(page + 1, rb->host_page), n = 0;

    for (; page < MIN(end, rb->pages); page++) {
        n += test_and_clear_bit(page, rb->dirty);
    }
    return n;
}

/* From where it is around to there.  Returns false if nothing is dirty. */
static bool scan(Scan *s)
{
    RAMBlock *rb = s->seen;
    unsigned long page = s->page;
    bool around = false;

    for (;;) {
        page = find_next_bit(rb->dirty, rb->pages, page);
        if (around && rb == s->seen && page >= s->page) {
            return false;
        }
        if (page < rb->pages) {
            break;
        }
        page = 0;
        rb = rb == &s->block[BLOCKS - 1] ? s->block : rb + 1;
        around |= rb == s->block;
    }
    s->sent += send_host_page(rb, page);
    s->seen = rb;
    s->page = MIN(ROUND_UP(page + 1, rb->host_page), rb->pages);
    return true;
}

static unsigned long dirty_pages(RAMBlock *block)
{
    unsigned long n = 0;
    unsigned i;

    for (i = 0; i < BLOCKS; i++) {
        n += bitmap_count_one(block[i].dirty, block[i].pages);
    }
    return n;
}

/* At random, answered or left out; of a host page, or of several */
static void ask_at_random(PostcopyOrder *order, Scan *s, uint32_t *random)
{
    RAMBlock *rb = &s->block[unit_random(random) % BLOCKS];
    unsigned long page = unit_random(random) % rb->pages;
    unsigned nr = rb->host_page * (1 + unit_random(random) % 8);
    unsigned i;

    page = ROUND_DOWN(page, rb->host_page);
    ask(order, rb, page, nr);
    if (unit_random(random) % 8) {
        for (i = 0; i < nr && page + i < rb->pages; i += rb->host_page) {
            s->sent += send_host_page(rb, page + i);
        }
    }
}

static void migrate(RAMBlock *block, unsigned asked_in_1024, uint32_t *random)
{
    unsigned long dirty = dirty_pages(block);
    Scan s = { .block = block, .seen = block };
    PostcopyOrder order = { 0 };

    for (;;) {
        while (unit_random(random) % 1024 < asked_in_1024) {
            ask_at_random(&order, &s, random);
        }
        postcopy_order_next(&order, &s.seen, &s.page);
        g_assert_cmpuint(s.page, <=, s.seen->pages);
        if (!scan(&s)) {
            break;
        }
        g_assert_cmpuint(s.sent, <=, dirty);
    }
    g_assert_cmpuint(dirty_pages(block), ==, 0);
    g_assert_cmpuint(s.sent, ==, dirty);
}

static void test_all(gconstpointer number)
{
    unsigned asked_in_1024 = GPOINTER_TO_UINT(number);
    unsigned round, rounds = unit_rounds(200);
    uint32_t random = 1 + asked_in_1024;
    RAMBlock block[BLOCKS];
    unsigned i, n;

    for (round = 0; round < rounds; round++) {
        block_init(&block[0], 1 + unit_random(&random) % PAGES);
        block_init(&block[1], HOST_PAGES * (1 + unit_random(&random) % 64));
        block[1].host_page = HOST_PAGES;
        block_init(&block[2], PAGES);
        for (i = 0; i < BLOCKS; i++) {
            /* From all dirty to next to nothing */
            for (n = unit_random(&random) % 2 * block[i].pages; n; n--) {
                bitmap_clear(block[i].dirty,
                             ROUND_DOWN(unit_random(&random) % block[i].pages,
                                        block[i].host_page),
                             block[i].host_page);
            }
        }
        migrate(block, asked_in_1024, &random);
    }
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 60);
    unit_add("/order/no-request/unchanged", test_no_request);
    unit_add("/order/request/behind-it-first-then-back", test_behind);
    unit_add("/order/gaps-on-a-detour/passed-over", test_gaps);
    unit_add("/order/unanswered-request/sent-first", test_unanswered);
    unit_add("/order/nothing-dirty-behind/unchanged", test_clean);
    unit_add("/order/reach/no-further", test_reach);
    unit_add("/order/two-requests/latest-counts", test_latest);
    unit_add("/order/requests-on-a-detour/after-a-run", test_run);
    unit_add("/order/request-after-a-run/at-once", test_long_run);
    unit_add("/order/clean-requests-on-a-detour/no-end", test_run_clean);
    unit_add("/order/end-of-block/no-further", test_end_of_block);
    unit_add("/order/outside-of-block/left-out", test_outside);
    unit_add("/order/scan-begins-anew/forgotten", test_reset);
    unit_add_number("/order/never-asked/all-sent-once", 0, test_all);
    unit_add_number("/order/seldom-asked/all-sent-once", 16, test_all);
    unit_add_number("/order/often-asked/all-sent-once", 512, test_all);
    unit_add_number("/order/always-asked/all-sent-once", 960, test_all);
    return g_test_run();
}
