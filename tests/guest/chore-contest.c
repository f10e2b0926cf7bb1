/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chore "contest": a block device and a CPU go for the same pages at the same
 * time, in the same random order.
 *
 * In one round the pages go to the disk while the CPU reads them.  In the next
 * one the device writes the first half of each while the CPU reads and then
 * writes the second half.  What either did must be there afterwards: a page
 * that is put in place twice loses it.  Of pages that are absent both want the
 * same one most of the time: who is ahead waits for it, who is behind catches
 * up.
 *
 *     chore's thread                     rival, on another CPU
 *     meet                               meet
 *     transfer, by the device            sometimes wait until that has begun
 *                                        read or write the pages
 *     meet                               meet
 *     check all, new content
 *
 * Threads   the two.  The round's fields change only between two meetings
 *           that the rival waits for.
 * Failure   counted once, and the contest ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "chore.h"
#include "chore-util.h"
#include "page.h"

#define SEED 0xc047e57ull
#define PAGES 4096u
#define BATCH 64u               /* pages of a round */
#define HALF (PAGE_BYTES / 2)
#define DELAY_US 5000

struct contest {
    struct chore *chore;
    int fd;
    uint64_t *mem;
    uint64_t *scratch;          /* pages that the chore's thread alone has */
    uint32_t *generation;
    pthread_barrier_t meeting;

    /* the round; set by the chore's thread */
    uint64_t number;
    uint64_t page[BATCH];

    /* rival writes, chore's thread reads after a meeting */
    bool wrong;
};

static uint64_t *page_of(struct contest *t, unsigned int k)
{
    return t->mem + t->page[k] * PAGE_WORDS;
}

static uint64_t *scratch_of(struct contest *t, unsigned int k)
{
    return t->scratch + k * PAGE_WORDS;
}

static bool device_writes(const struct contest *t)
{
    return t->number % 2;
}

static bool is_at(struct contest *t, unsigned int k, const uint64_t *mem,
                  unsigned int ahead)
{
    struct page_error e;

    return page_check(mem, SEED, t->page[k],
                      t->generation[t->page[k]] + ahead, &e);
}

static void fill(struct contest *t, unsigned int k, uint64_t *mem)
{
    page_fill(mem, SEED, t->page[k], t->generation[t->page[k]] + 1);
}

/* Check the second half, and give it the content of the next generation. */
static bool rewrite_half(struct contest *t, unsigned int k)
{
    volatile uint64_t *mem = page_of(t, k);
    uint64_t page = t->page[k];
    uint64_t generation = t->generation[page];
    bool good = true;

    for (unsigned int i = PAGE_WORDS / 2; i < PAGE_WORDS; i++) {
        good &= mem[i] == page_word(SEED, page, generation, i);
        mem[i] = page_word(SEED, page, generation + 1, i);
    }
    return good;
}

static void *rival(void *opaque)
{
    struct contest *t = opaque;

    for (;;) {
        bool good = true;

        pthread_barrier_wait(&t->meeting);
        if (t->number / 2 % 2) {
            usleep(DELAY_US);
        }
        for (unsigned int k = 0; k < BATCH; k++) {
            good &= device_writes(t) ? rewrite_half(t, k) :
                                       is_at(t, k, page_of(t, k), 0);
        }
        t->wrong = !good;
        pthread_barrier_wait(&t->meeting);
    }
    return NULL;
}

/* Move @bytes of each page of the round, or its scratch; one request. */
static bool transfer(struct contest *t, const char *what, bool out,
                     bool scratch, size_t bytes)
{
    struct iovec iov[BATCH];
    ssize_t n;

    for (unsigned int k = 0; k < BATCH; k++) {
        iov[k].iov_base = scratch ? scratch_of(t, k) : page_of(t, k);
        iov[k].iov_len = bytes;
    }
    n = out ? pwritev(t->fd, iov, BATCH, 0) : preadv(t->fd, iov, BATCH, 0);
    if (n != (ssize_t)(BATCH * bytes)) {
        chore_fail(t->chore, what, n < 0 ? errno : 0);
        return false;
    }
    return true;
}

/* Where the device is to write, the disk has the next generation. */
static bool prepare(struct contest *t)
{
    if (!device_writes(t)) {
        return true;
    }
    for (unsigned int k = 0; k < BATCH; k++) {
        fill(t, k, scratch_of(t, k));
    }
    return transfer(t, "prepare", true, true, HALF);
}

static bool device(struct contest *t)
{
    return device_writes(t) ? transfer(t, "read", false, false, HALF) :
                              transfer(t, "write", true, false, PAGE_BYTES);
}

/* Both are done: is everything there?  Then make it the next generation. */
static bool settle(struct contest *t)
{
    if (!device_writes(t) &&
        !transfer(t, "fetch", false, true, PAGE_BYTES)) {
        return false;
    }
    for (unsigned int k = 0; k < BATCH; k++) {
        bool good = device_writes(t) ? is_at(t, k, page_of(t, k), 1) :
                                       is_at(t, k, scratch_of(t, k), 0);

        if (!good || t->wrong) {
            chore_fail(t->chore, good ? "rival" : "content", t->page[k]);
            return false;
        }
        if (!device_writes(t)) {
            fill(t, k, page_of(t, k));
        }
        t->generation[t->page[k]]++;
    }
    return true;
}

static bool run_round(struct contest *t)
{
    bool moved;

    if (!prepare(t)) {
        return false;
    }
    pthread_barrier_wait(&t->meeting);
    moved = device(t);
    pthread_barrier_wait(&t->meeting);
    return moved && settle(t);
}

static void run(struct chore *c)
{
    static struct contest t;

    t.chore = c;
    t.fd = chore_open_disk(c);
    t.mem = chore_region(c, PAGES);
    t.scratch = chore_region(c, BATCH);
    t.generation = calloc(PAGES, sizeof(*t.generation));
    pthread_barrier_init(&t.meeting, NULL, 2);
    if (t.fd < 0 || !t.mem || !t.scratch || !t.generation ||
        !chore_pair(c, rival, &t)) {
        return;
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        page_fill(t.mem + page * PAGE_WORDS, SEED, page, 0);
    }
    for (uint64_t pass = 0; ; pass++) {
        struct walk walk = walk_init(PAGES, mix64(SEED + pass));

        for (uint64_t i = 0; i < PAGES; i += BATCH) {
            for (unsigned int k = 0; k < BATCH; k++) {
                t.page[k] = walk_at(&walk, i + k);
            }
            if (!run_round(&t)) {
                return;
            }
            t.number++;
            chore_done(c);
        }
    }
}

CHORE(contest, run);
