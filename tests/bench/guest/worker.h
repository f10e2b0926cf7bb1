/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker: one CPU that touches pages in some order, measures how long each
 * touch takes, and checks what it reads.
 *
 * A page of the hot region is 64 lines of 64 bytes.  Line N belongs to worker
 * N: its first word holds what that worker wrote last, which depends on seed,
 * page, line and generation.  All other words stay as they were filled.  So
 * all workers may write to the same page, each to a line of its own, and every
 * byte of it can be checked.
 *
 * Threads      Each worker runs on its own CPU and is the only writer of its
 *              struct, but for max_ns; the first CPU reads the counters of all.
 */
#ifndef BENCH_WORKER_H
#define BENCH_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "../../guest/histogram.h"
#include "../../guest/page.h"

#define LINE_WORDS 8u
#define LINES (PAGE_WORDS / LINE_WORDS)

/* The parts of a hot region are multiples of that many pages. */
#define PART_PAGES 16u

enum order {
    ORDER_RANDOM,               /* of its own part, every page once a pass */
    ORDER_SEQUENTIAL,
    ORDER_STRIDED,              /* every 16th, then the ones behind these */
    ORDER_SHARED,               /* random, all workers the same pages */
    ORDER_MOVING,               /* random in an eighth, which moves on */
    ORDERS,
};

extern const char *const order_names[ORDERS];

/* Set once, before workers run */
struct job {
    enum order order;
    bool write;
    unsigned workers;
    uint64_t *memory;           /* the hot region */
    uint64_t pages;             /* of it, a multiple of workers * PART_PAGES */
    uint8_t *generations;       /* job_generations() of them */
    uint64_t seed;
    uint64_t slow_ns;
    uint64_t cycles_per_ms;
};

struct wrong {
    uint64_t page, word, generation, expected, got;
};

struct worker {
    /* set by worker_init() */
    const struct job *job;
    unsigned id;
    uint64_t first;             /* page of the hot region */
    uint64_t pages;
    uint8_t *generation;        /* of its line, of each of these pages */
    struct walk walk;

    /* the worker alone */
    uint64_t position;          /* in its order */

    /* written by the worker, read by the first CPU */
    uint64_t touches;
    uint64_t passes;
    uint64_t slow;              /* touches that took slow_ns or longer */
    uint64_t max_ns;            /* the first CPU sets it to 0 */
    uint64_t errors;
    struct wrong wrong;         /* the first of them */
    uint64_t verified;          /* the number last given to worker_verify() */
    struct histogram latency;
} __attribute__((aligned(4096)));

/* How many bytes job->generations has. */
uint64_t job_generations(enum order order, unsigned workers, uint64_t pages);

void worker_init(struct worker *w, const struct job *job, unsigned id);

/* Fill the worker's share of the hot region. */
void worker_fill(struct worker *w);

/* Touch the next page. */
void worker_touch(struct worker *w);

/*
 * Check every byte of the worker's share, and its own line in all pages that
 * it touches.  @number is remembered in @verified.
 */
void worker_verify(struct worker *w, uint64_t number);

/*
 * Damage a byte: of what @w touches next, or one that only a verification
 * comes to.
 */
void worker_corrupt(struct worker *w);
void worker_corrupt_hidden(struct worker *w);

#endif
