/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The threads of the migration guest; see worker.h. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "worker.h"

#define CLOCK_SHIFT 24

uint64_t cycle_clock_now(void)
{
    uint64_t t;

    _mm_lfence();
    t = __rdtsc();
    _mm_lfence();
    return t;
}

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

struct cycle_clock cycle_clock_calibrate(unsigned int ms)
{
    struct timespec pause = { .tv_sec = ms / 1000,
                              .tv_nsec = ms % 1000 * 1000000l };
    uint64_t ns = monotonic_ns();
    uint64_t cycles = cycle_clock_now();
    struct cycle_clock c;

    nanosleep(&pause, NULL);
    ns = monotonic_ns() - ns;
    cycles = cycle_clock_now() - cycles;
    c.mult = (((unsigned __int128)ns << CLOCK_SHIFT) + cycles / 2) /
             (cycles ? cycles : 1);
    return c;
}

uint64_t cycle_clock_ns(struct cycle_clock c, uint64_t cycles)
{
    return (unsigned __int128)cycles * c.mult >> CLOCK_SHIFT;
}

bool workers_init(struct worker *w, unsigned int count, uint64_t *mem,
                  uint64_t pages, uint64_t seed, uint64_t slow_ns,
                  struct cycle_clock clock)
{
    for (unsigned int i = 0; i < count; i++) {
        uint64_t first = pages * i / count;
        uint64_t end = pages * (i + 1) / count;

        memset(&w[i], 0, sizeof(w[i]));
        w[i].index = i;
        w[i].cpu = -1;
        w[i].seed = seed;
        w[i].first_page = first;
        w[i].pages = end - first;
        w[i].mem = mem + first * PAGE_WORDS;
        w[i].slow_ns = slow_ns;
        w[i].clock = clock;
        w[i].generation = calloc(end - first, sizeof(uint32_t));
        if (!w[i].generation) {
            return false;
        }
    }
    return true;
}

/* A figure with this thread as its only writer. */
static void bump(uint64_t *figure)
{
    __atomic_store_n(figure, *figure + 1, __ATOMIC_RELAXED);
}

static void note_slow(struct worker *w, uint64_t ns)
{
    uint64_t max = __atomic_load_n(&w->slow_max_ns, __ATOMIC_RELAXED);

    bump(&w->slow);
    while (ns > max &&
           !__atomic_compare_exchange_n(&w->slow_max_ns, &max, ns, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

static void note_error(struct worker *w, const struct page_error *err)
{
    uint64_t n = w->error_count;

    if (n < WORKER_ERRORS_KEPT) {
        w->errors[n] = *err;
    }
    /* Pairs with the acquire in worker_error(): a counted entry is whole. */
    __atomic_store_n(&w->error_count, n + 1, __ATOMIC_RELEASE);
}

bool worker_error(struct worker *w, uint64_t n, struct page_error *err)
{
    if (n >= __atomic_load_n(&w->error_count, __ATOMIC_ACQUIRE) ||
        n >= WORKER_ERRORS_KEPT) {
        return false;
    }
    *err = w->errors[n];
    return true;
}

/* Read one word of a page that may be missing, and account for the wait. */
static void touch(struct worker *w, const uint64_t *mem)
{
    uint64_t before = cycle_clock_now();
    uint64_t after, ns;

    (void)*(const volatile uint64_t *)mem;
    after = cycle_clock_now();
    if (after < before) {
        bump(&w->backwards);
        return;
    }
    ns = cycle_clock_ns(w->clock, after - before);
    hist_add(&w->hist, ns);
    if (ns >= w->slow_ns) {
        note_slow(w, ns);
    }
}

static void visit(struct worker *w, uint64_t i)
{
    uint64_t *mem = w->mem + i * PAGE_WORDS;
    uint64_t page = w->first_page + i;
    struct page_error err;

    touch(w, mem);
    if (!page_check(mem, w->seed, page, w->generation[i], &err)) {
        note_error(w, &err);
    }
    bump(&w->verified);

    w->generation[i]++;
    page_fill(mem, w->seed, page, w->generation[i]);

    if (__atomic_load_n(&w->corrupt, __ATOMIC_RELAXED)) {
        __atomic_store_n(&w->corrupt, false, __ATOMIC_RELAXED);
        ((volatile uint8_t *)mem)[PAGE_BYTES / 2 + 3] ^= 0x10;
    }
}

static void pin(int cpu)
{
    cpu_set_t set;

    if (cpu < 0) {
        return;
    }
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

void *worker_run(void *opaque)
{
    struct worker *w = opaque;

    pin(w->cpu);
    for (uint64_t i = 0; i < w->pages; i++) {
        page_fill(w->mem + i * PAGE_WORDS, w->seed, w->first_page + i, 0);
        bump(&w->filled);
    }

    while (!w->max_passes || w->passes < w->max_passes) {
        uint64_t key = mix64(w->seed + ((uint64_t)w->index << 32) + w->passes);
        struct walk walk = walk_init(w->pages, key);

        for (uint64_t i = 0; i < w->pages; i++) {
            visit(w, w->sequential ? i : walk_at(&walk, i));
        }
        bump(&w->passes);
    }
    return NULL;
}
