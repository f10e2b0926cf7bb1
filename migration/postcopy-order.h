/*
 * In which order the source sends what nobody has asked for
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_ORDER_H
#define QEMU_MIGRATION_POSTCOPY_ORDER_H

#include "exec/cpu-common.h"

/*
 * Pages of the guest behind a request that are its neighbourhood, 2 MiB on x86.
 * The guest's own pages are no larger as a rule; beyond, what is close to each
 * other in the guest's memory need not be so for its programs.
 */
#define POSTCOPY_ORDER_REACH 512

/*
 * Host pages that are sent from one neighbourhood before the next one's turn.
 * As far apart may the pages of a walk be for a destination that reads ahead
 * (POSTCOPY_READAHEAD_STRIDE): what is closer is worth more than what somebody
 * else asked for meanwhile.
 */
#define POSTCOPY_ORDER_RUN 32

/* Part of a block, in pages of the guest */
typedef struct PostcopyOrderPart {
    RAMBlock *block;            /* NULL: none */
    const unsigned long *dirty; /* a bit for each page of the block */
    unsigned long page;         /* all before that has been looked at */
    unsigned long end;
} PostcopyOrderPart;

/* All zero at first.  All of it: under the mutex of the bitmap. */
typedef struct PostcopyOrder {
    PostcopyOrderPart asked;    /* the latest request and what is behind it */
    PostcopyOrderPart detour;   /* what the scan does before it goes on */
    unsigned run;               /* host pages sent on that detour */
    /* Where the scan goes on after it */
    RAMBlock *home_block;
    ram_addr_t home_page;
} PostcopyOrder;

/**
 * postcopy_order_asked: the destination has asked for pages
 * @order: of the migration
 * @block: the pages' block
 * @dirty: a bit for each page that has not been sent; stays valid until
 *         postcopy_order_reset()
 * @pages: length of the block, in pages of the guest
 * @first: number of the first page asked for, in pages of the guest
 * @nr: how many pages of the guest are asked for
 *
 * Of several requests between two calls of postcopy_order_next() the last one
 * counts.  What is not in the block is left out.  For the thread that reads the
 * return path, with the bitmap's mutex held until the request is answered.
 */
void postcopy_order_asked(PostcopyOrder *order, RAMBlock *block,
                          const unsigned long *dirty, unsigned long pages,
                          unsigned long first, unsigned long nr);

/**
 * postcopy_order_next: where the scan for dirty pages is to begin
 * @order: of the migration
 * @block: where it would begin otherwise, not NULL; may be changed
 * @page: the same, in pages of the guest; may be changed, to a page that is
 *        dirty or to where the scan was before
 *
 * For the thread that sends the background stream, before it looks for the host
 * page to send next, with the bitmap's mutex held until that page is found.
 */
void postcopy_order_next(PostcopyOrder *order, RAMBlock **block,
                         ram_addr_t *page);

/**
 * postcopy_order_reset: forget requests, and where the scan was
 * @order: of the migration
 *
 * For whoever has the scan begin anew, as the blocks may be others now, or the
 * bitmaps.  With the bitmap's mutex held, or while no requests are read.
 */
void postcopy_order_reset(PostcopyOrder *order);

#endif
