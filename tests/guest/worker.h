/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The threads of the migration guest: each verifies and rewrites its share
 * of the hot region for ever, as fast as it can.
 *
 * Threads   one worker per share; one observer (the main thread) that reads
 *           their figures while they run.
 * Owns      a worker owns the pages of its share and their generations.
 * Locks     none.  Figures are relaxed atomics with a single writer, except
 *           slow_max_ns and corrupt, which both sides write.
 * Ordering  errors[] entries are published by a release store of
 *           error_count; worker_error() pairs with an acquire load.
 * Failure   a wrong byte is counted and described, the page is rewritten and
 *           the worker goes on.
 */
#ifndef GUEST_WORKER_H
#define GUEST_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "page.h"

#define WORKER_ERRORS_KEPT 8u

/* Converts time stamp counter cycles into nanoseconds. */
struct cycle_clock {
    uint64_t mult;              /* ns = cycles * mult >> 24 */
};

struct worker {
    /* set once, before the thread starts */
    unsigned int index;
    int cpu;                    /* -1: not pinned */
    uint64_t seed;
    uint64_t first_page;        /* of the share, in pages of the region */
    uint64_t pages;
    uint64_t *mem;              /* of the share */
    uint32_t *generation;       /* of the share */
    uint64_t slow_ns;
    struct cycle_clock clock;
    uint64_t max_passes;        /* 0: for ever */
    bool sequential;            /* page after page, not in random order */
    pthread_t thread;

    /* worker writes, observer reads */
    uint64_t filled;            /* pages given their first content */
    uint64_t verified;          /* pages verified */
    uint64_t passes;            /* whole walks of the share */
    uint64_t slow;              /* first touches of slow_ns and more */
    uint64_t backwards;         /* first touches that took negative time */
    uint64_t error_count;
    struct page_error errors[WORKER_ERRORS_KEPT];
    struct histogram hist;      /* of first touches */

    /* both write */
    uint64_t slow_max_ns;       /* observer takes it and sets 0 */
    bool corrupt;               /* observer asks for one damaged byte */
} __attribute__((aligned(128)));

/*
 * Measure the time stamp counter against CLOCK_MONOTONIC for @ms.
 * Any thread.
 */
struct cycle_clock cycle_clock_calibrate(unsigned int ms);

/* The counter now, not moved across earlier or later memory accesses. */
uint64_t cycle_clock_now(void);

uint64_t cycle_clock_ns(struct cycle_clock c, uint64_t cycles);

/*
 * Split @mem (of @pages pages) among @count workers.  Workers are zeroed
 * first.  Returns false when memory for the generations is missing.
 */
bool workers_init(struct worker *w, unsigned int count, uint64_t *mem,
                  uint64_t pages, uint64_t seed, uint64_t slow_ns,
                  struct cycle_clock clock);

/*
 * Thread function; @opaque is the struct worker.  Returns only when
 * max_passes is set and reached.
 */
void *worker_run(void *opaque);

/*
 * Copy the @n-th error of @w into @err.
 * Observer only.  Returns false when there is none, or it was not kept.
 */
bool worker_error(struct worker *w, uint64_t n, struct page_error *err);

#endif
