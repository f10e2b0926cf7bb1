/*
 * What the postcopy userfault service counts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_USERFAULT_STATS_H
#define QEMU_MIGRATION_POSTCOPY_USERFAULT_STATS_H

#include "qemu/atomic.h"
#include "qemu/host-utils.h"

/* Bucket i holds 2^i <= ns < 2^(i+1); the last one all that is longer. */
#define POSTCOPY_LATENCY_BUCKETS 40

typedef struct PostcopyLatency {
    uint64_t count;
    uint64_t total_ns;
    uint64_t max_ns;
    uint64_t bucket[POSTCOPY_LATENCY_BUCKETS];
} PostcopyLatency;

/* Written by one vCPU thread, read by all */
typedef struct PostcopyVcpuStats {
    uint64_t exits;
    uint64_t already_present;
    uint64_t spurious;
    uint64_t discarded;
    uint64_t requests;
    uint64_t waits;
    uint64_t waits_broken;
    uint64_t readahead_pages;
    uint64_t readahead_requests;
    uint64_t readahead_used;
    uint64_t readahead_dropped;
    PostcopyLatency latency;
} PostcopyVcpuStats;

/* Written under a lock, read by all */
typedef struct PostcopyServiceStats {
    /* rp_mutex */
    uint64_t resent;
    /* any vCPU, atomically; rare */
    unsigned handoffs;
    /* the fault thread */
    uint64_t readahead_again;
    /* the service's stats_lock */
    uint64_t pages_vcpu;
    uint64_t pages_readahead;
    uint64_t pages_userfaultfd;
    uint64_t pages_background;
    PostcopyLatency uffd_latency;
} PostcopyServiceStats;

/* A counter with one writer at a time, read without its lock */
static inline void postcopy_count(uint64_t *counter, uint64_t n)
{
    qatomic_set_u64(counter, qatomic_read_u64(counter) + n);
}

/**
 * postcopy_latency_add: count one latency
 * @l: the histogram; the caller is its only writer
 * @ns: the latency
 */
static inline void postcopy_latency_add(PostcopyLatency *l, uint64_t ns)
{
    unsigned i = ns ? 63 - clz64(ns) : 0;

    postcopy_count(&l->bucket[MIN(i, POSTCOPY_LATENCY_BUCKETS - 1)], 1);
    postcopy_count(&l->total_ns, ns);
    postcopy_count(&l->count, 1);
    if (ns > qatomic_read_u64(&l->max_ns)) {
        qatomic_set_u64(&l->max_ns, ns);
    }
}

/**
 * postcopy_latency_merge: add one histogram to another
 * @to: the sum; the caller's own
 * @from: may be written to meanwhile
 */
static inline void postcopy_latency_merge(PostcopyLatency *to,
                                          PostcopyLatency *from)
{
    unsigned i;

    to->count += qatomic_read_u64(&from->count);
    to->total_ns += qatomic_read_u64(&from->total_ns);
    to->max_ns = MAX(to->max_ns, qatomic_read_u64(&from->max_ns));
    for (i = 0; i < POSTCOPY_LATENCY_BUCKETS; i++) {
        to->bucket[i] += qatomic_read_u64(&from->bucket[i]);
    }
}

#endif
