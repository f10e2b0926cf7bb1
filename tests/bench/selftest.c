/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Do the workers of the benchmark's guest touch what they are to touch, and
 * notice every wrong byte?
 *
 * Runs natively: workers as in the guest, one after the other in one thread.
 * Prints a line for each question.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/worker.h"

#define PAGES 128u              /* a multiple of CPUS * PART_PAGES */
#define CPUS 2u

static struct worker workers[CPUS];
static struct job job;
static int failures;

static void result(bool good, const char *question, const char *what)
{
    printf("%s %s: %s\n", good ? "ok" : "not ok", question, what);
    failures += !good;
}

static void start(enum order order, bool write)
{
    uint64_t generations = job_generations(order, CPUS, PAGES);

    free(job.memory);
    free(job.generations);
    job = (struct job) {
        .order = order, .write = write, .workers = CPUS, .pages = PAGES,
        .memory = malloc(PAGES * PAGE_BYTES),
        .generations = calloc(1, generations),
        .seed = 7, .slow_ns = ~0ull, .cycles_per_ms = 1000000,
    };
    if (!job.memory || !job.generations) {
        abort();
    }
    memset(workers, 0, sizeof(workers));
    for (unsigned i = 0; i < CPUS; i++) {
        worker_init(&workers[i], &job, i);
        worker_fill(&workers[i]);
    }
}

static void one_pass(void)
{
    uint64_t passes = workers[0].passes;

    for (unsigned i = 0; i < CPUS; i++) {
        while (workers[i].passes == passes) {
            worker_touch(&workers[i]);
        }
    }
}

static uint64_t errors(void)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < CPUS; i++) {
        total += workers[i].errors;
    }
    return total;
}

static uint64_t verify(void)
{
    for (unsigned i = 0; i < CPUS; i++) {
        workers[i].errors = 0;
        worker_verify(&workers[i], 1);
    }
    return errors();
}

/* How often each page was written to is in its generation. */
static bool all_touched(unsigned least, unsigned most)
{
    uint64_t n = job_generations(job.order, CPUS, PAGES);

    for (uint64_t i = 0; i < n; i++) {
        if (job.generations[i] < least || job.generations[i] > most) {
            return false;
        }
    }
    return true;
}

static void check_pass(enum order order)
{
    bool moving = order == ORDER_MOVING;

    start(order, true);
    one_pass();
    result(all_touched(moving ? 2 : 1, moving ? 8 : 1) && !errors(),
           "a pass comes to every page", order_names[order]);
    one_pass();
    result(!errors() && !verify(), "written pages are right",
           order_names[order]);
}

/* The page of its part that the worker's next touch writes to */
static uint64_t next_written(struct worker *w)
{
    static uint8_t before[PAGES];
    uint64_t page = 0;

    memcpy(before, w->generation, w->pages);
    worker_touch(w);
    while (before[page] == w->generation[page]) {
        page++;
    }
    return page;
}

static void check_order(enum order order)
{
    unsigned stepped = 0, alike = 0, low = 0;
    uint64_t window = PAGES / CPUS / 8;

    start(order, true);
    for (uint64_t i = 0, last = 0; i < window; i++) {
        uint64_t page = next_written(&workers[0]);
        uint64_t other = next_written(&workers[1]);

        stepped += i && page == last + (order == ORDER_STRIDED ? PART_PAGES : 1);
        alike += page == other;
        low += page < window;
        last = page;
    }
    switch (order) {
    case ORDER_SEQUENTIAL:
        result(stepped == window - 1, "next to each other", order_names[order]);
        break;
    case ORDER_STRIDED:
        /* It turns back after the last one. */
        result(stepped >= window - 3, "far from each other", order_names[order]);
        break;
    case ORDER_RANDOM:
        result(stepped < window / 2 && alike < window, "in no order",
               order_names[order]);
        break;
    case ORDER_SHARED:
        result(stepped < window / 2 && alike == window, "all the same",
               order_names[order]);
        break;
    default:
        result(low == window, "within a window", order_names[order]);
    }
}

static uint64_t counted(const struct worker *w)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        total += w->latency.count[i];
    }
    return total;
}

static void check_counts(enum order order)
{
    bool good = true;

    start(order, false);
    one_pass();
    for (unsigned i = 0; i < CPUS; i++) {
        uint64_t expected = workers[i].pages * (order == ORDER_MOVING ? 4 : 1);

        good &= workers[i].touches == expected && counted(&workers[i]) == expected;
    }
    result(good, "touches are counted", order_names[order]);
    result(all_touched(0, 0), "reading leaves pages alone", order_names[order]);
}

/* Whether verification notices @byte of a page, and finds no other fault. */
static bool notices(unsigned byte)
{
    uint8_t *memory = (uint8_t *)job.memory + (PAGES - 3) * PAGE_BYTES;
    uint64_t found;

    memory[byte] ^= 0x10;
    found = verify();
    memory[byte] ^= 0x10;
    return found == 1;
}

static void check_damage(enum order order)
{
    bool all = true;

    start(order, true);
    one_pass();
    for (unsigned byte = 0; byte < PAGE_BYTES; byte++) {
        all &= notices(byte);
    }
    result(all && !verify(), "verification notices every byte",
           order_names[order]);
}

/* A page as it was before the last write to it, or another page's */
static void check_stale(enum order order)
{
    static uint8_t old[PAGE_BYTES];
    uint8_t *memory;

    start(order, true);
    one_pass();
    memory = (uint8_t *)job.memory;
    memcpy(old, memory, PAGE_BYTES);
    one_pass();
    memcpy(memory, old, PAGE_BYTES);
    result(verify() > 0, "verification notices a stale page", order_names[order]);

    start(order, true);
    memory = (uint8_t *)job.memory;
    memcpy(memory, memory + PAGE_BYTES, PAGE_BYTES);
    result(verify() > 0, "verification notices another page",
           order_names[order]);
}

static void check_corrupt(enum order order)
{
    start(order, false);
    worker_corrupt(&workers[0]);
    worker_touch(&workers[0]);
    result(errors() == 1, "a touch notices damage", order_names[order]);

    start(order, false);
    worker_corrupt_hidden(&workers[1]);
    one_pass();
    result(!errors() && verify() == 1, "only verification notices what is hidden",
           order_names[order]);
}

int main(void)
{
    for (enum order order = 0; order < ORDERS; order++) {
        check_order(order);
        check_pass(order);
        check_counts(order);
        check_damage(order);
        check_stale(order);
        check_corrupt(order);
    }
    return failures > 0;
}
