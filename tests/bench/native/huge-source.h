/*
 * The source of the benchmark of huge pages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_NATIVE_HUGE_SOURCE_H
#define BENCH_NATIVE_HUGE_SOURCE_H

#include "source.h"

/* What is sent for a request, all of it in pieces of PAGE_BYTES */
typedef enum HugeOrder {
    /* The host page from its begin to its end: what QEMU asks for today */
    HUGE_IN_ORDER,
    /* From the piece asked for to the end of the host page: what an unchanged
     * source does with a request that begins within a host page */
    HUGE_FROM_PIECE,
    /* The piece; the background goes on with the rest of the host page.  A
     * request as long as a host page is answered in order. */
    HUGE_PIECE_FIRST,
} HugeOrder;

typedef struct HugeSource {
    /* Set once */
    HugeOrder order;
    uint64_t bytes;
    uint64_t host_page;         /* bytes */
    uint64_t link;              /* bytes per second, 0: as fast as it goes */
    int background;             /* its socket for the background stream */
    int other_end;              /* of that socket, not its own */
} HugeSource;

/**
 * huge_source_serve: a SourceServe with a HugeSource
 *
 * Answers on the socket of the requests; all that nobody asks for comes, in
 * ascending order, on that of the background.
 */
void huge_source_serve(int sock, SourceReport *report, void *opaque);

#endif
