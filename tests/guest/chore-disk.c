/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chore "disk": a block device reads and writes the guest's memory.
 *
 * One region of pages is only read by the device, in an order of its own for
 * each pass; another one is only written by it.  What goes to the disk from
 * the first comes back into the second, and a CPU looks at either only after
 * the device has: of pages that are absent, it is the device that meets them.
 *
 * Threads   the chore's.
 * Failure   a transfer that fails or a wrong byte is counted; it goes on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "chore.h"
#include "chore-util.h"
#include "page.h"

#define SEED 0xd15cull
#define PAGES 2048u             /* in each region */
#define BATCH 8u                /* pages of a transfer, all over the region */

struct disk {
    struct chore *chore;
    int fd;
    uint64_t *out;              /* the device reads these */
    uint64_t *in;               /* the device writes these */
    struct walk out_walk;
    struct walk in_walk;
};

static uint64_t *page_at(uint64_t *region, const struct walk *walk, uint64_t i)
{
    return region + walk_at(walk, i) * PAGE_WORDS;
}

/* Transfer @BATCH pages to or from where the disk has position @i. */
static bool transfer(struct disk *d, uint64_t i, bool out)
{
    struct iovec iov[BATCH];
    off_t place = i * PAGE_BYTES;
    ssize_t n;

    for (unsigned int k = 0; k < BATCH; k++) {
        iov[k].iov_base = out ? page_at(d->out, &d->out_walk, i + k) :
                                page_at(d->in, &d->in_walk, i + k);
        iov[k].iov_len = PAGE_BYTES;
    }
    n = out ? pwritev(d->fd, iov, BATCH, place) :
              preadv(d->fd, iov, BATCH, place);
    if (n != BATCH * PAGE_BYTES) {
        chore_fail(d->chore, out ? "write" : "read", n < 0 ? errno : 0);
    }
    return n == BATCH * PAGE_BYTES;
}

/* Check the pages that came back, and give those that went a new content. */
static bool verify(struct disk *d, uint64_t i, uint64_t generation)
{
    for (unsigned int k = 0; k < BATCH; k++) {
        uint64_t page = walk_at(&d->out_walk, i + k);
        uint64_t *out = d->out + page * PAGE_WORDS;
        struct page_error e;

        if (!page_check(page_at(d->in, &d->in_walk, i + k), SEED, page,
                        generation, &e) ||
            !page_check(out, SEED, page, generation, &e)) {
            chore_fail(d->chore, "content", page);
            return false;
        }
        page_fill(out, SEED, page, generation + 1);
    }
    return true;
}

static void run(struct chore *c)
{
    struct disk d = { .chore = c, .fd = chore_open_disk(c) };

    d.out = chore_region(c, PAGES);
    d.in = chore_region(c, PAGES);
    if (d.fd < 0 || !d.out || !d.in) {
        return;
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        page_fill(d.out + page * PAGE_WORDS, SEED, page, 0);
    }
    for (uint64_t pass = 0; ; pass++) {
        d.out_walk = walk_init(PAGES, mix64(SEED + 2 * pass));
        d.in_walk = walk_init(PAGES, mix64(SEED + 2 * pass + 1));
        for (uint64_t i = 0; i < PAGES; i += BATCH) {
            if (!transfer(&d, i, true) || !transfer(&d, i, false) ||
                !verify(&d, i, pass)) {
                return;
            }
            chore_done(c);
        }
    }
}

CHORE(disk, run);
