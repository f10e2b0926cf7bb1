/*
 * Is each page claimed by exactly one, and found again at a resume?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "postcopy-request.h"
#include "unit.h"

#define KiB 1024ull
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)

static void test_empty(void)
{
    PostcopyRequestMap map = { 0 };

    g_assert_true(postcopy_request_map_init(&map, 0, 4 * KiB));
    g_assert_cmphex(postcopy_request_next(&map, 0), ==, UINT64_MAX);
    postcopy_request_map_destroy(&map);
    g_assert_null(map.requested);
    postcopy_request_map_destroy(&map);
}

static void test_no_memory(void)
{
    PostcopyRequestMap map = { 0 };

    /* A bitmap larger than the address space */
    g_assert_false(postcopy_request_map_init(&map, 1ull << 63, 4 * KiB));
    postcopy_request_map_destroy(&map);
}

static void check_borders(uint64_t page_size, uint64_t pages)
{
    const uint64_t borders[] = {
        0, 1, 62, 63, 64, 65, 127, 128, pages - 2, pages - 1,
    };
    PostcopyRequestMap map = { 0 };
    uint64_t offset, i;

    g_assert_true(postcopy_request_map_init(&map, pages * page_size,
                                            page_size));
    for (i = 0; i < ARRAY_SIZE(borders); i++) {
        g_assert_cmphex(postcopy_request_next(&map, 0), ==, UINT64_MAX);
        offset = borders[i] * page_size;
        g_assert_false(postcopy_request_claimed(&map, offset));
        g_assert_false(postcopy_request_is_ahead(&map, offset));
        g_assert_true(postcopy_request_claim(&map, offset));
        g_assert_true(postcopy_request_claimed(&map, offset));
        g_assert_false(postcopy_request_claim(&map, offset));
        /* Any byte of a page stands for the page. */
        g_assert_false(postcopy_request_claim(&map, offset + page_size - 1));
        g_assert_true(postcopy_request_claimed(&map, offset + page_size - 1));
        if (borders[i]) {
            g_assert_false(postcopy_request_claimed(&map, offset - 1));
        }
        if (borders[i] + 1 < pages) {
            g_assert_false(postcopy_request_claimed(&map, offset + page_size));
        }

        g_assert_cmphex(postcopy_request_next(&map, 0), ==, offset);
        g_assert_cmphex(postcopy_request_next(&map, offset), ==, offset);
        g_assert_cmphex(postcopy_request_next(&map, offset + page_size), ==,
                        UINT64_MAX);
        postcopy_request_map_destroy(&map);
        g_assert_true(postcopy_request_map_init(&map, pages * page_size,
                                                page_size));
    }
    postcopy_request_map_destroy(&map);
}

/* Needed or not, a page is asked for once, and the first one decides. */
static void test_ahead(void)
{
    enum { PAGES = 130 };
    PostcopyRequestMap map = { 0 };
    uint64_t i;

    g_assert_true(postcopy_request_map_init(&map, PAGES * 4 * KiB, 4 * KiB));
    for (i = 0; i < PAGES; i++) {
        bool (*first)(PostcopyRequestMap *map, uint64_t offset) =
            i % 3 ? postcopy_request_claim : postcopy_request_claim_ahead;

        g_assert_true(first(&map, i * 4 * KiB));
        g_assert_false(postcopy_request_claim(&map, i * 4 * KiB));
        g_assert_false(postcopy_request_claim_ahead(&map, i * 4 * KiB));
    }
    for (i = 0; i < PAGES; i++) {
        g_assert_true(postcopy_request_claimed(&map, i * 4 * KiB));
        g_assert_cmpint(postcopy_request_is_ahead(&map, i * 4 * KiB), ==,
                        i % 3 == 0);
        g_assert_cmphex(postcopy_request_next(&map, i * 4 * KiB), ==,
                        i * 4 * KiB);
    }
    postcopy_request_map_destroy(&map);
    g_assert_null(map.ahead);
}

static void test_borders(void)
{
    static const uint64_t sizes[] = { 4 * KiB, 64 * KiB, 2 * MiB, GiB };
    static const uint64_t pages[] = { 129, 130, 191, 192, 193, 1000 };
    unsigned i, j;

    for (i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (j = 0; j < ARRAY_SIZE(pages); j++) {
            check_borders(sizes[i], pages[j]);
        }
    }
}

static void test_one_page(void)
{
    PostcopyRequestMap map = { 0 };

    g_assert_true(postcopy_request_map_init(&map, GiB, GiB));
    g_assert_true(postcopy_request_claim(&map, GiB - 1));
    g_assert_cmphex(postcopy_request_next(&map, 0), ==, 0);
    g_assert_cmphex(postcopy_request_next(&map, GiB), ==, UINT64_MAX);
    postcopy_request_map_destroy(&map);
}

static void test_walk(void)
{
    enum { PAGES = 777 };
    uint64_t size = 2 * MiB, offset;
    unsigned density, i;

    for (density = 1; density <= 100; density += 11) {
        PostcopyRequestMap map = { 0 };
        bool claimed[PAGES] = { false };
        uint32_t chance = density;

        g_assert_true(postcopy_request_map_init(&map, PAGES * size, size));
        for (i = 0; i < PAGES; i++) {
            if (unit_random(&chance) % 100 < density) {
                claimed[i] = true;
                g_assert_true(postcopy_request_claim(&map, i * size));
            }
        }
        offset = postcopy_request_next(&map, 0);
        for (i = 0; i < PAGES; i++) {
            if (claimed[i]) {
                g_assert_cmphex(offset, ==, i * size);
                offset = postcopy_request_next(&map, offset + size);
            }
        }
        g_assert_cmphex(offset, ==, UINT64_MAX);
        postcopy_request_map_destroy(&map);
    }
}

typedef struct Race {
    PostcopyRequestMap map;
    UnitMeeting meeting;
    unsigned pages;
    unsigned *winners;
    unsigned rounds;
} Race;

/* All want the same page at the same time, page after page. */
static void race_thread(unsigned number, void *opaque)
{
    Race *r = opaque;
    unsigned round, i;

    for (round = 0; round < r->rounds; round++) {
        unit_meet(&r->meeting);
        for (i = 0; i < r->pages; i++) {
            /* Half of them in another order, to meet within words too */
            unsigned page = number % 2 ? i : i ^ 5;

            if (postcopy_request_claim(&r->map, page * 4 * KiB)) {
                qatomic_inc(&r->winners[page]);
            }
        }
        unit_meet(&r->meeting);
        if (number == 0) {
            for (i = 0; i < r->pages; i++) {
                g_assert_cmpuint(qatomic_read(&r->winners[i]), ==, 1);
                qatomic_set(&r->winners[i], 0);
            }
            for (i = 0; i < r->pages / BITS_PER_LONG; i++) {
                g_assert_cmphex(qatomic_read(&r->map.requested[i]), ==, ~0ul);
                qatomic_set(&r->map.requested[i], 0);
            }
        }
    }
}

static void test_race(gconstpointer threads)
{
    Race r = {
        .pages = 1024, .rounds = unit_rounds(400),
        .meeting.threads = GPOINTER_TO_UINT(threads),
    };

    r.rounds = MAX(r.rounds / r.meeting.threads, 2);
    r.winners = g_new0(unsigned, r.pages);
    g_assert_true(postcopy_request_map_init(&r.map, r.pages * 4 * KiB,
                                            4 * KiB));
    unit_threads(r.meeting.threads, race_thread, &r);
    postcopy_request_map_destroy(&r.map);
    g_free(r.winners);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    unit_add("/request-map/empty-block/nothing-claimed", test_empty);
    unit_add("/request-map/no-memory/init-fails", test_no_memory);
    unit_add("/request-map/borders/claimed-once-and-found", test_borders);
    unit_add("/request-map/block-of-one-page/claimed-once-and-found",
             test_one_page);
    unit_add("/request-map/ahead-of-need/claimed-once-and-told-apart",
             test_ahead);
    unit_add("/request-map/walk/finds-all-in-order", test_walk);
    unit_add_number("/request-map/claimed-at-once/one-wins", 2, test_race);
    unit_add_number("/request-map/claimed-at-once/one-wins", 16, test_race);
    unit_add_number("/request-map/claimed-at-once/one-wins", 64, test_race);
    return g_test_run();
}
