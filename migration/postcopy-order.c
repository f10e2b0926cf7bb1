/*
 * In which order the source sends what nobody has asked for
 *
 * With the preempt channel, requests are answered beside the background stream,
 * which takes no notice of them: it scans memory from one end to the other.
 * Here it learns of them.  What is behind a page that somebody needed is likely
 * to be needed next, so the scan makes a detour to it, and then goes on where
 * it was.
 *
 *   scan       -> detour     the latest request's neighbourhood is dirty
 *   detour     -> detour     another request's is, and this detour has had its
 *                            run of pages
 *   detour     -> scan       nothing of its neighbourhood is dirty any more
 *
 * The request itself belongs to its neighbourhood: it may have been left
 * unanswered, for the background stream to send, which is then here at once.
 *
 * What this must not cost:
 *
 *   The end      The scan tells that all is sent when it has come around to
 *                where it began with that host page.  It is moved before it
 *                begins, never on its way, so every round is a whole one.  A
 *                detour only goes to dirty pages: it ends.
 *   Scanning     The scan goes on from where it was, so no part of a bitmap is
 *                scanned more often than without detours.  A detour looks at
 *                the bits of its neighbourhood once, a few words.
 *   Huge pages   The background stream asks where to go when it has finished a
 *                host page, and sends from a page it is sent to all of its host
 *                page that is dirty.
 *
 * Threads      the migration thread; the one that reads the return path.
 * Owns         nothing.  Blocks and bitmaps are those of the scan, and are
 *              forgotten when it begins anew.
 * Locks        its caller's: the mutex of the bitmap.
 * Orderings    none.
 * Failure      none.  What is sent early by mistake had to be sent anyway.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "postcopy-order.h"
#include "trace.h"

/* Is there a dirty page in what is left of @part?  If not, that is its end. */
static bool find_dirty(PostcopyOrderPart *part)
{
    if (!part->block) {
        return false;
    }
    part->page = find_next_bit(part->dirty, part->end, part->page);
    if (part->page >= part->end) {
        part->block = NULL;
        return false;
    }
    return true;
}

void postcopy_order_asked(PostcopyOrder *order, RAMBlock *block,
                          const unsigned long *dirty, unsigned long pages,
                          unsigned long first, unsigned long nr)
{
    unsigned long left = pages - MIN(first, pages);

    nr = MIN(nr, left);
    order->asked = (PostcopyOrderPart) {
        .block = block, .dirty = dirty, .page = pages - left,
        .end = pages - left + nr + MIN(POSTCOPY_ORDER_REACH, left - nr),
    };
}

void postcopy_order_next(PostcopyOrder *order, RAMBlock **block,
                         ram_addr_t *page)
{
    bool away = order->detour.block;
    bool stay = find_dirty(&order->detour);

    if ((!stay || order->run >= POSTCOPY_ORDER_RUN) &&
        find_dirty(&order->asked)) {
        if (!away) {
            order->home_block = *block;
            order->home_page = *page;
        }
        order->detour = order->asked;
        order->asked.block = NULL;
        order->run = 0;
        stay = true;
        trace_postcopy_order_detour(order->detour.block, order->detour.page,
                                    order->detour.end);
    }
    if (stay) {
        order->run++;
        *block = order->detour.block;
        *page = order->detour.page;
    } else if (away) {
        *block = order->home_block;
        *page = order->home_page;
    }
}

void postcopy_order_reset(PostcopyOrder *order)
{
    *order = (PostcopyOrder) { 0 };
}
