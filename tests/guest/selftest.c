/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does the guest's checker notice every kind of damage?  See selftest.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "selftest.h"
#include "worker.h"

#define SEED 7
#define PAGE 12345
#define GENERATION 42

static uint64_t buffer[PAGE_WORDS];

static bool buffer_passes(struct page_error *err)
{
    return page_check(buffer, SEED, PAGE, GENERATION, err);
}

static bool test_intact_page_passes(void)
{
    struct page_error err;

    page_fill(buffer, SEED, PAGE, GENERATION);
    return buffer_passes(&err);
}

static bool test_every_flipped_bit_is_noticed(void)
{
    struct page_error err;

    for (unsigned int byte = 0; byte < PAGE_BYTES; byte++) {
        for (unsigned int bit = 0; bit < 8; bit++) {
            uint8_t *p = (uint8_t *)buffer + byte;

            page_fill(buffer, SEED, PAGE, GENERATION);
            *p ^= 1u << bit;
            if (buffer_passes(&err) || err.page != PAGE ||
                err.word != byte / sizeof(uint64_t) ||
                err.got != buffer[err.word] ||
                (err.got ^ err.expected) !=
                1ull << (byte % sizeof(uint64_t) * 8 + bit)) {
                return false;
            }
        }
    }
    return true;
}

static bool test_stale_page_is_noticed(void)
{
    struct page_error err;

    page_fill(buffer, SEED, PAGE, GENERATION - 1);
    return !buffer_passes(&err) && err.word == 1 &&
           err.got == GENERATION - 1;
}

static bool test_neighbour_page_is_noticed(void)
{
    struct page_error err;

    page_fill(buffer, SEED, PAGE + 1, GENERATION);
    return !buffer_passes(&err) && err.word == 0;
}

static bool test_zero_page_is_noticed(void)
{
    struct page_error err;

    memset(buffer, 0, sizeof(buffer));
    return !buffer_passes(&err);
}

/* The header of one content on the rest of another: a torn page. */
static bool test_torn_page_is_noticed(void)
{
    uint64_t old[PAGE_WORDS];
    struct page_error err;

    page_fill(old, SEED, PAGE, GENERATION - 1);
    page_fill(buffer, SEED, PAGE, GENERATION);
    memcpy(buffer + PAGE_WORDS / 2, old + PAGE_WORDS / 2, PAGE_BYTES / 2);
    return !buffer_passes(&err) && err.word == PAGE_WORDS / 2;
}

static bool walk_is_a_permutation(uint64_t size, uint64_t key)
{
    struct walk w = walk_init(size, key);
    uint8_t *seen = calloc(size, 1);
    bool ok = seen;

    for (uint64_t i = 0; ok && i < size; i++) {
        uint64_t at = walk_at(&w, i);

        ok = at < size && !seen[at]++;
    }
    free(seen);
    return ok;
}

static bool test_walk_visits_every_page_once(void)
{
    static const uint64_t sizes[] = { 1, 2, 3, 7, 8, 9, 1000, 4096, 8193 };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (uint64_t key = 0; key < 16; key++) {
            if (!walk_is_a_permutation(sizes[i], mix64(key))) {
                return false;
            }
        }
    }
    return true;
}

static bool test_walk_is_out_of_order(void)
{
    struct walk w = walk_init(8192, 1);
    unsigned int near = 0;

    for (uint64_t i = 1; i < 8192; i++) {
        int64_t jump = walk_at(&w, i) - walk_at(&w, i - 1);

        near += jump > -16 && jump < 16;
    }
    return near < 8192 / 64;
}

static bool test_histogram_bucket_holds_its_values(void)
{
    for (unsigned int i = 0; i + 1 < HIST_BUCKETS; i++) {
        uint64_t low = hist_lower(i), next = hist_lower(i + 1);

        if (low >= next || hist_index(low) != i || hist_index(next - 1) != i) {
            return false;
        }
    }
    return hist_index(UINT64_MAX) == HIST_BUCKETS - 1;
}

/* Run one worker over @pages pages, with a byte of @victim damaged first. */
static bool run_worker(uint64_t pages, bool corrupt, struct worker *w)
{
    struct cycle_clock clock = cycle_clock_calibrate(5);
    uint64_t *mem = aligned_alloc(PAGE_BYTES, pages * PAGE_BYTES);

    if (!mem || !workers_init(w, 1, mem, pages, SEED, 1000000000, clock)) {
        return false;
    }
    w->max_passes = 3;
    w->corrupt = corrupt;
    worker_run(w);
    free(w->generation);
    free(mem);
    return w->verified == 3 * pages && w->passes == 3;
}

static bool test_worker_counts_no_error_when_intact(void)
{
    static struct worker w;
    struct page_error err;

    return run_worker(100, false, &w) && w.error_count == 0 &&
           !worker_error(&w, 0, &err);
}

static bool test_worker_counts_a_damaged_byte_once(void)
{
    static struct worker w;
    struct page_error err;
    uint64_t first;
    struct walk walk;

    if (!run_worker(100, true, &w) || w.error_count != 1 ||
        !worker_error(&w, 0, &err)) {
        return false;
    }
    /* The damage is done to the page visited first. */
    walk = walk_init(100, mix64(SEED));
    first = walk_at(&walk, 0);
    return err.page == first && err.generation == 1 &&
           err.word == PAGE_WORDS / 2 &&
           (err.got ^ err.expected) == 0x10ull << 24;
}

int selftest(void)
{
    static const struct {
        const char *name;
        bool (*run)(void);
    } tests[] = {
        { "intact page passes", test_intact_page_passes },
        { "every flipped bit is noticed", test_every_flipped_bit_is_noticed },
        { "stale page is noticed", test_stale_page_is_noticed },
        { "neighbour's page is noticed", test_neighbour_page_is_noticed },
        { "zero page is noticed", test_zero_page_is_noticed },
        { "torn page is noticed", test_torn_page_is_noticed },
        { "walk visits every page once", test_walk_visits_every_page_once },
        { "walk is out of order", test_walk_is_out_of_order },
        { "histogram bucket holds its values",
          test_histogram_bucket_holds_its_values },
        { "worker counts no error when intact",
          test_worker_counts_no_error_when_intact },
        { "worker counts a damaged byte once",
          test_worker_counts_a_damaged_byte_once },
    };
    unsigned int count = sizeof(tests) / sizeof(tests[0]);
    int status = 0;

    printf("1..%u\n", count);
    for (unsigned int i = 0; i < count; i++) {
        bool ok = tests[i].run();

        printf("%sok %u - %s\n", ok ? "" : "not ", i + 1, tests[i].name);
        status |= !ok;
    }
    return status;
}
