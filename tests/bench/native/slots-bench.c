/*
 * How long does it take to switch KVM userfault on and off for much memory?
 *
 *   slots-bench GIB ADDRESS_SPACES PRESENT
 *
 * The part of it in QEMU, which is the same code: the bitmap of each memslot is
 * made, the map of them is, and the bits of the pages that are present are
 * cleared; then all are freed.  Memory of GIB GiB is one block in two memslots,
 * as on a PC, with 3 GiB below 4 GiB; each of the ADDRESS_SPACES has its own.
 * PRESENT: none, half (every other page) or all.
 *
 * One line for each round: {"mode": ...}.  "touch_ns" is what the kernel takes
 * to make the bitmaps' pages: writing fresh memory of that size, less writing it
 * once more.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/bitmap.h"
#include "clock.h"
#include "userfault-map.h"

#define GIB             ((uint64_t)1 << 30)
#define PAGE            4096ull
#define LOW_END         (3 * GIB)
#define HIGH_BEGIN      (4 * GIB)
#define ROUNDS          7
#define MAX_VIEWS       4

typedef struct Slots {
    uint64_t bytes;             /* of memory */
    unsigned address_spaces;
    unsigned long *present;
    UserfaultMap *map;
    UserfaultView *view[MAX_VIEWS];
    unsigned nr;
    uint64_t bitmap_bytes;
} Slots;

static char block[1];           /* stands for the RAMBlock */

static void add(Slots *s, unsigned as, unsigned index, uint64_t gpa,
                uint64_t offset, uint64_t size)
{
    UserfaultMap *old = s->map;
    UserfaultView *like = userfault_map_find_like(old, block, offset, size);
    UserfaultView *view =
        like ? userfault_view_share(like, as << 16 | index, gpa)
             : userfault_view_new(as << 16 | index, gpa, size, block, offset,
                                  NULL, PAGE);

    g_assert_nonnull(view);
    g_assert_cmpuint(s->nr, <, MAX_VIEWS);
    s->view[s->nr++] = view;
    s->map = userfault_map_add(old, view);
    g_free(old);
    if (!like) {
        userfault_view_load(view, s->present, s->bytes);
        s->bitmap_bytes += view->bitmap_bytes;
    }
}

static void enable(Slots *s)
{
    unsigned as;

    s->nr = 0;
    s->map = NULL;
    s->bitmap_bytes = 0;
    for (as = 0; as < s->address_spaces; as++) {
        add(s, as, 0, 0, 0, LOW_END);
        add(s, as, 1, HIGH_BEGIN, LOW_END, s->bytes - LOW_END);
    }
}

static void disable(Slots *s)
{
    unsigned i;

    for (i = 0; i < s->nr; i++) {
        userfault_view_free(s->view[i]);
    }
    g_free(s->map);
}

/* Writing @bytes of fresh memory, less writing them once more */
static int64_t touch_ns(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int64_t start, first, again;

    g_assert(memory != MAP_FAILED);
    /* CPU time, here and below, so that others' work is not in it */
    start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    memset(memory, 0xff, bytes);
    first = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    memset(memory, 0x55, bytes);
    again = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    munmap(memory, bytes);
    return first - again;
}

/* What the loops above are for must have come true. */
static void check(const Slots *s, const char *mode)
{
    uint64_t offset = s->bytes / 2;
    unsigned i;

    g_assert_cmpuint(s->map->nr, ==, 2 * s->address_spaces);
    for (i = 1; i < s->nr; i += 2) {
        g_assert_cmpint(userfault_view_test(s->view[i], offset), ==,
                        g_str_equal(mode, "none"));
        g_assert_cmpint(userfault_view_test(s->view[i], offset + PAGE), ==,
                        !g_str_equal(mode, "all"));
    }
}

int main(int argc, char **argv)
{
    Slots s = { 0 };
    unsigned round;
    uint64_t i;

    if (argc != 4) {
        fprintf(stderr, "usage: slots-bench GIB ADDRESS_SPACES PRESENT\n");
        return 2;
    }
    s.bytes = strtoull(argv[1], NULL, 10) * GIB;
    s.address_spaces = strtoul(argv[2], NULL, 10);
    g_assert(s.bytes > HIGH_BEGIN && s.address_spaces >= 1 &&
             s.address_spaces <= MAX_VIEWS / 2);
    s.present = bitmap_new(s.bytes / PAGE);
    for (i = 0; i < s.bytes / PAGE / BITS_PER_LONG; i++) {
        s.present[i] = g_str_equal(argv[3], "all") ? ~0ul :
                       g_str_equal(argv[3], "half") ? ~0ul / 3 : 0;
    }
    for (round = 0; round < ROUNDS; round++) {
        int64_t start, on, off;

        start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        enable(&s);
        on = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        check(&s, argv[3]);
        start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        disable(&s);
        off = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        printf("{\"gib\": %" PRIu64 ", \"address_spaces\": %u, \"present\": "
               "\"%s\", \"enable_ns\": %" PRId64 ", \"disable_ns\": %" PRId64
               ", \"touch_ns\": %" PRId64 ", \"bitmap_bytes\": %" PRIu64 "}\n",
               s.bytes / GIB, s.address_spaces, argv[3], on, off,
               touch_ns(s.bitmap_bytes), s.bitmap_bytes);
    }
    g_free(s.present);
    return 0;
}
