/*
 * Read-ahead: which pages a vCPU is about to walk to
 *
 * A vCPU has page faults only where pages are missing.  Three of them at equal
 * distances are a walk.  A window of pages is asked for ahead of it; a walk
 * that has this window has its next fault behind the end, or, if it is faster
 * than the network, at a page on its way.
 *
 *   fault                                        window
 *   at the third page of equal distances         0 -> FIRST_WINDOW
 *   within the window, or right after its end    doubles, up to the maximum
 *   further on, by up to a window                halves: it left pages out
 *   elsewhere                                    belongs to another walk
 *
 * A walk is given up when its window gets smaller than the first one, when it
 * has had no fault for so long, or when a new one needs its place.
 *
 * Threads      a vCPU each, on its own data.
 * Owns         nothing but that.
 * Locks        none.
 * Orderings    none.
 * Failure      none: nothing is allocated.  Whatever is asked for by mistake is
 *              a page that would have come anyway.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "postcopy-readahead.h"

#define FIRST_WINDOW 4u
/* Faults of its vCPU after which a walk has ended */
#define LIFE 256

QEMU_BUILD_BUG_ON(POSTCOPY_READAHEAD_REACH > 64);
QEMU_BUILD_BUG_ON(POSTCOPY_READAHEAD_MAX > POSTCOPY_READAHEAD_REACH);

static void give_up(PostcopyWalk *w, PostcopyReadaheadVerdict *verdict)
{
    verdict->dropped += ctpop64(w->asked);
    *w = (PostcopyWalk) { 0 };
}

static void end_old_walks(PostcopyReadahead *ra,
                          PostcopyReadaheadVerdict *verdict)
{
    unsigned i;

    for (i = 0; i < POSTCOPY_READAHEAD_WALKS; i++) {
        if (ra->walk[i].block && ra->faults - ra->walk[i].seen > LIFE) {
            give_up(&ra->walk[i], verdict);
        }
    }
}

/* Steps from the latest fault of @w to @page; 0 if it leads elsewhere. */
static unsigned steps_to(const PostcopyWalk *w, int64_t page)
{
    int64_t distance = page - w->page, steps;

    if (distance % w->stride) {
        return 0;
    }
    steps = distance / w->stride;
    return steps > 0 && steps <= w->reach + 1 + w->window ? steps : 0;
}

static PostcopyWalk *find_walk(PostcopyReadahead *ra, const void *block,
                               int64_t page, unsigned *steps)
{
    unsigned i;

    for (i = 0; i < POSTCOPY_READAHEAD_WALKS; i++) {
        PostcopyWalk *w = &ra->walk[i];

        if (w->block == block) {
            *steps = steps_to(w, page);
            if (*steps) {
                return w;
            }
        }
    }
    return NULL;
}

/* Take @w to its new fault.  Returns false if that ends it. */
static bool advance(PostcopyReadahead *ra, PostcopyWalk *w, unsigned steps,
                    unsigned max, PostcopyReadaheadVerdict *verdict)
{
    uint64_t passed = MAKE_64BIT_MASK(0, MIN(steps, 64));

    verdict->used += ctpop64(w->asked & passed);
    w->asked = steps < 64 ? w->asked >> steps : 0;
    w->page += (int64_t)steps * w->stride;
    w->seen = ra->faults;
    if (steps <= w->reach + 1) {
        w->window = MIN(2 * w->window, max);
    } else {
        w->window /= 2;
    }
    w->reach = 0;
    if (w->window < MIN(FIRST_WINDOW, max)) {
        give_up(w, verdict);
        return false;
    }
    return true;
}

static bool happened_before(const PostcopyReadahead *ra, uint64_t before,
                            const void *block, int64_t page)
{
    uint64_t first = ra->strays - MIN(ra->strays, POSTCOPY_READAHEAD_HISTORY);
    uint64_t n;

    for (n = first; n < before; n++) {
        unsigned i = n % POSTCOPY_READAHEAD_HISTORY;

        if (ra->history[i].block == block && ra->history[i].page == page) {
            return true;
        }
    }
    return false;
}

/* The stride at which @page is the third of a walk, or 0; newest first. */
static int64_t find_stride(const PostcopyReadahead *ra, const void *block,
                           int64_t page)
{
    uint64_t back, known = MIN(ra->strays, POSTCOPY_READAHEAD_HISTORY);

    for (back = 1; back <= known; back++) {
        uint64_t n = ra->strays - back;
        unsigned i = n % POSTCOPY_READAHEAD_HISTORY;
        int64_t stride = page - ra->history[i].page;

        if (ra->history[i].block == block && stride &&
            stride >= -POSTCOPY_READAHEAD_STRIDE &&
            stride <= POSTCOPY_READAHEAD_STRIDE &&
            happened_before(ra, n, block, page - 2 * stride)) {
            return stride;
        }
    }
    return 0;
}

static bool is_repeated(const PostcopyReadahead *ra, const void *block,
                        int64_t page)
{
    unsigned i;

    for (i = 0; i < POSTCOPY_READAHEAD_WALKS; i++) {
        if (ra->walk[i].block == block && ra->walk[i].page == page) {
            return true;
        }
    }
    return happened_before(ra, ra->strays, block, page);
}

static void remember(PostcopyReadahead *ra, const void *block, int64_t page)
{
    unsigned i = ra->strays++ % POSTCOPY_READAHEAD_HISTORY;

    ra->history[i].block = block;
    ra->history[i].page = page;
}

/* A place for a new walk: a free one, or that of the one seen longest ago. */
static PostcopyWalk *place_for_walk(PostcopyReadahead *ra,
                                    PostcopyReadaheadVerdict *verdict)
{
    PostcopyWalk *oldest = &ra->walk[0];
    unsigned i;

    for (i = 0; i < POSTCOPY_READAHEAD_WALKS; i++) {
        if (!ra->walk[i].block) {
            return &ra->walk[i];
        }
        if (ra->walk[i].seen < oldest->seen) {
            oldest = &ra->walk[i];
        }
    }
    give_up(oldest, verdict);
    return oldest;
}

PostcopyWalk *postcopy_readahead_fault(PostcopyReadahead *ra, const void *block,
                                       int64_t page, unsigned max,
                                       PostcopyReadaheadVerdict *verdict)
{
    PostcopyWalk *w;
    unsigned steps;
    int64_t stride;

    assert(max <= POSTCOPY_READAHEAD_MAX);
    *verdict = (PostcopyReadaheadVerdict) { 0 };
    if (!max || is_repeated(ra, block, page)) {
        return NULL;
    }
    ra->faults++;
    end_old_walks(ra, verdict);
    w = find_walk(ra, block, page, &steps);
    if (w && advance(ra, w, steps, max, verdict)) {
        return w;
    }
    stride = find_stride(ra, block, page);
    if (!stride) {
        remember(ra, block, page);
        return NULL;
    }
    w = place_for_walk(ra, verdict);
    *w = (PostcopyWalk) {
        .block = block, .page = page, .stride = stride, .seen = ra->faults,
        .window = MIN(FIRST_WINDOW, max),
    };
    return w;
}

unsigned postcopy_readahead_room(const PostcopyWalk *w)
{
    unsigned asked = ctpop64(w->asked);

    return w->window - MIN(w->window, asked);
}

void postcopy_readahead_asked(PostcopyWalk *w, unsigned step)
{
    assert(step && step <= POSTCOPY_READAHEAD_REACH);
    w->asked |= 1ull << (step - 1);
}

void postcopy_readahead_reached(PostcopyWalk *w, unsigned step)
{
    assert(step <= POSTCOPY_READAHEAD_REACH);
    w->reach = step;
}
