/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log-linear histogram of nanoseconds: eight buckets per octave, so that a
 * bucket is never wider than an eighth of its lower bound.  Values below
 * eight have a bucket each.  harness/histogram.py holds the same arithmetic;
 * its unit test compares the two.
 *
 * One writer; readers take counts with relaxed loads and may be a few
 * counts behind.
 */
#ifndef GUEST_HISTOGRAM_H
#define GUEST_HISTOGRAM_H

#include <stdint.h>

#define HIST_SUB_BITS 3
#define HIST_SUB (1u << HIST_SUB_BITS)
#define HIST_BUCKETS ((64 - HIST_SUB_BITS + 1) * HIST_SUB)

struct histogram {
    uint32_t count[HIST_BUCKETS];
};

static inline unsigned int hist_index(uint64_t ns)
{
    unsigned int octave;

    if (ns < HIST_SUB) {
        return ns;
    }
    octave = 63 - __builtin_clzll(ns);
    return (octave - HIST_SUB_BITS + 1) * HIST_SUB +
           ((ns >> (octave - HIST_SUB_BITS)) & (HIST_SUB - 1));
}

/* The smallest value that falls into bucket @index. */
static inline uint64_t hist_lower(unsigned int index)
{
    unsigned int row = index / HIST_SUB;

    if (row == 0) {
        return index;
    }
    return (uint64_t)(HIST_SUB + index % HIST_SUB) << (row - 1);
}

static inline void hist_add(struct histogram *h, uint64_t ns)
{
    uint32_t *c = &h->count[hist_index(ns)];

    __atomic_store_n(c, *c + 1, __ATOMIC_RELAXED);
}

#endif
