/*
 * The destination of the native benchmark: one run
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_NATIVE_DESTINATION_H
#define BENCH_NATIVE_DESTINATION_H

typedef enum BenchMode {
    /* The threads do what a vCPU does that has left KVM_RUN */
    BENCH_SERVICE,
    /* Likewise, but the loader gives all pages, also if it has nothing to read */
    BENCH_GIVING,
    /* They touch the memory, and a userfaultfd has them wait */
    BENCH_USERFAULTFD,
    BENCH_MODES,
} BenchMode;

typedef struct BenchSpec {
    BenchMode mode;
    unsigned threads;           /* vCPUs */
    unsigned faults;            /* of each, on pages of its own */
    uint32_t seed;              /* of the order of the pages, not 0 */
} BenchSpec;

/* What some threads used, while pages were missing */
typedef struct BenchUse {
    uint64_t cpu_ns;
    uint64_t switches;          /* of context, voluntary or not */
} BenchUse;

typedef struct BenchFigures {
    uint64_t faults;
    uint64_t wall_ns;
    /* The process, and its threads by what they do */
    BenchUse process, vcpus, loader, fault_thread;
    /* Latency of a touch */
    uint64_t p50_ns, p99_ns, max_ns;
    /* Requests: calls of write(), most requests in one, handed over */
    uint64_t writes, longest, handoffs;
    uint64_t source_cpu_ns;
    /* What must come out even; see bench_wrong() */
    uint64_t pages_wrong;
    uint64_t answers, requests, waits, events;
    uint64_t pages_vcpu, pages_userfaultfd, pages_background;
    bool source_complained;
} BenchFigures;

/**
 * bench_impossible: why userfaultfd cannot be used here, or NULL
 */
const char *bench_impossible(void);

/**
 * bench_run: one run, with a source of its own
 *
 * The caller has no other threads.
 */
void bench_run(const BenchSpec *spec, BenchFigures *figures);

/**
 * bench_wrong: what is wrong with the outcome of a run, or NULL
 */
const char *bench_wrong(const BenchSpec *spec, const BenchFigures *figures);

#endif
