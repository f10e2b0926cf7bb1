/*
 * Which memslot maps which page, and the bitmaps KVM reads
 *
 * Threads      one thread at a time makes maps and views; any thread reads
 *              maps, and clears and tests bits.
 * Owns         the bitmaps; one may be that of several views.  Who publishes a
 *              map also retires it (with RCU).
 * Locks        none.
 * Orderings    a bit is cleared with release semantics, after the content of
 *              its page is in place.  The partner is KVM's fault handler: a
 *              vCPU that finds the bit clear goes on to the page itself.
 *              Otherwise it could map a page that is not there yet and fault
 *              through userfaultfd, slower but not wrong.
 * Failure      only userfault_view_new() can fail, for lack of memory.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/host-utils.h"
#include "userfault-map.h"

UserfaultView *userfault_view_new(uint32_t slot, uint64_t gpa, uint64_t size,
                                  void *block, uint64_t block_offset,
                                  void *cookie, uint64_t page_size)
{
    uint64_t pages = size / page_size;
    size_t bytes = BITS_TO_LONGS(pages) * sizeof(unsigned long);
    UserfaultView *view;
    void *bitmap;

    /*
     * A mapping of its own, so that freeing gives the memory back: 32 MiB for
     * each TiB of guest memory.
     */
    bitmap = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bitmap == MAP_FAILED) {
        return NULL;
    }
    memset(bitmap, 0xff, bytes);

    view = g_new0(UserfaultView, 1);
    view->slot = slot;
    view->gpa = gpa;
    view->size = size;
    view->block = block;
    view->block_offset = block_offset;
    view->cookie = cookie;
    view->page_shift = ctz64(page_size);
    view->bitmap = bitmap;
    view->bitmap_bytes = bytes;
    view->users = g_new(unsigned, 1);
    *view->users = 1;
    return view;
}

UserfaultView *userfault_view_share(const UserfaultView *like, uint32_t slot,
                                    uint64_t gpa)
{
    UserfaultView *view = g_memdup2(like, sizeof(*like));

    view->slot = slot;
    view->gpa = gpa;
    qatomic_inc(view->users);
    return view;
}

void userfault_view_free(UserfaultView *view)
{
    if (qatomic_fetch_dec(view->users) == 1) {
        munmap(view->bitmap, view->bitmap_bytes);
        g_free(view->users);
    }
    g_free(view);
}

static void clear(UserfaultView *view, uint64_t offset, uint64_t length)
{
    uint64_t start = MAX(offset, view->block_offset);
    uint64_t end = MIN(offset + length, view->block_offset + view->size);
    uint64_t bit, last;

    if (start >= end) {
        return;
    }

    bit = (start - view->block_offset) >> view->page_shift;
    last = (end - 1 - view->block_offset) >> view->page_shift;

    /*
     * One page is the common case.  An atomic OR or AND of a word is a full
     * barrier in QEMU's memory model, hence also a release.
     */
    while (bit <= last) {
        unsigned long mask = BITMAP_FIRST_WORD_MASK(bit);
        unsigned long *word = view->bitmap + BIT_WORD(bit);

        if (BIT_WORD(bit) == BIT_WORD(last)) {
            mask &= BITMAP_LAST_WORD_MASK(last + 1);
        }
        qatomic_and(word, ~mask);
        bit = QEMU_ALIGN_DOWN(bit, BITS_PER_LONG) + BITS_PER_LONG;
    }
}

void userfault_view_clear(UserfaultView *view, void *block, uint64_t offset,
                          uint64_t length)
{
    if (view->block == block) {
        clear(view, offset, length);
    }
}

void userfault_map_clear(const UserfaultMap *map, void *block, uint64_t offset,
                         uint64_t length)
{
    unsigned i;

    /* For each page that comes, past the memslots of all other blocks */
    for (i = 0; map && i < map->nr; i++) {
        userfault_view_clear(map->view[i], block, offset, length);
    }
}

/* 64 (or 32) bits of @map from @bit on; those from @nbits on read as set. */
static unsigned long bits_at(const unsigned long *map, uint64_t bit,
                             uint64_t nbits)
{
    unsigned shift = bit % BITS_PER_LONG;
    unsigned long bits = 0;

    if (bit >= nbits) {
        return ~0ul;
    }
    bits = qatomic_read(&map[BIT_WORD(bit)]) >> shift;
    if (shift && QEMU_ALIGN_DOWN(bit, BITS_PER_LONG) + BITS_PER_LONG < nbits) {
        bits |= qatomic_read(&map[BIT_WORD(bit) + 1])
                << (BITS_PER_LONG - shift);
    }
    if (nbits - bit < BITS_PER_LONG) {
        bits |= ~0ul << (nbits - bit);
    }
    return bits;
}

void userfault_view_load(UserfaultView *view, const unsigned long *present,
                         uint64_t length)
{
    uint64_t words = view->bitmap_bytes / sizeof(unsigned long);
    uint64_t bit = view->block_offset >> view->page_shift;
    uint64_t i;

    /* Pairs with the one between placing and looking up the map. */
    smp_mb();
    for (i = 0; i < words; i++, bit += BITS_PER_LONG) {
        unsigned long there = bits_at(present, bit, length >> view->page_shift);

        if (there) {
            qatomic_and(&view->bitmap[i], ~there);
        }
    }
}

bool userfault_view_test(const UserfaultView *view, uint64_t block_offset)
{
    uint64_t bit = (block_offset - view->block_offset) >> view->page_shift;

    return qatomic_read(&view->bitmap[BIT_WORD(bit)]) & BIT_MASK(bit);
}

static bool view_before(const UserfaultView *a, const UserfaultView *b)
{
    unsigned as_a = a->slot >> 16, as_b = b->slot >> 16;

    return as_a < as_b || (as_a == as_b && a->gpa < b->gpa);
}

static UserfaultMap *map_new(unsigned nr)
{
    UserfaultMap *map = g_malloc0(sizeof(*map) + nr * sizeof(map->view[0]));

    map->nr = nr;
    return map;
}

UserfaultMap *userfault_map_add(const UserfaultMap *old, UserfaultView *view)
{
    unsigned i, nr = old ? old->nr : 0;
    UserfaultMap *map = map_new(nr + 1);

    for (i = 0; i < nr && view_before(old->view[i], view); i++) {
        map->view[i] = old->view[i];
    }
    map->view[i] = view;
    for (; i < nr; i++) {
        map->view[i + 1] = old->view[i];
    }
    return map;
}

UserfaultMap *userfault_map_remove(const UserfaultMap *old,
                                   const UserfaultView *view)
{
    UserfaultMap *map = map_new(old->nr - 1);
    unsigned i, n = 0;

    for (i = 0; i < old->nr; i++) {
        if (old->view[i] != view) {
            assert(n < map->nr);
            map->view[n++] = old->view[i];
        }
    }
    return map;
}

UserfaultView *userfault_map_find(const UserfaultMap *map, unsigned as_id,
                                  uint64_t gpa)
{
    unsigned lo = 0, hi = map ? map->nr : 0;
    const UserfaultView key = { .slot = as_id << 16, .gpa = gpa };

    /* The last view that does not begin after gpa, if any */
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;

        if (view_before(&key, map->view[mid])) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    if (lo) {
        UserfaultView *view = map->view[lo - 1];

        if (view->slot >> 16 == as_id && gpa - view->gpa < view->size) {
            return view;
        }
    }
    return NULL;
}

UserfaultView *userfault_map_find_like(const UserfaultMap *map,
                                       const void *block,
                                       uint64_t block_offset, uint64_t size)
{
    unsigned i;

    for (i = 0; map && i < map->nr; i++) {
        UserfaultView *view = map->view[i];

        if (view->block == block && view->block_offset == block_offset &&
            view->size == size) {
            return view;
        }
    }
    return NULL;
}

UserfaultView *userfault_map_find_slot(const UserfaultMap *map, uint32_t slot)
{
    unsigned i;

    for (i = 0; map && i < map->nr; i++) {
        if (map->view[i]->slot == slot) {
            return map->view[i];
        }
    }
    return NULL;
}
