/*
 * Who waits for which page: exact wake-ups for postcopy page faults
 *
 * Threads      vCPUs wait; the threads that load the stream wake.
 *              One that waits alone may be given the page instead, and places
 *              it: so pages are placed by as many threads as wait for them.
 * Owns         a hash table of waiters; the waiters live on the stacks of the
 *              waiting threads.
 * Locks        one mutex a bucket, held for a few instructions or while a page
 *              is copied, never across a system call and never two at a time.
 *              Threads meet on one only when they wait for the same page, or by
 *              a collision.
 * Orderings    waiter: link, full barrier, look for the page
 *              waker:  page present, full barrier, look for waiters
 *              One of the two sees the other.  Without the barriers both
 *              looks could miss and the vCPU would sleep for ever.
 * Failure      none: nothing is allocated while waiting.
 *
 * A waiter that leaves early takes its bucket's lock to unlink itself.  The
 * waker sets DONE under that lock, so a DONE meant for one wait never reaches
 * the next one; a late futex wake may, and is harmless (qemu/park.h).  A page
 * is given under it, too: a waiter that leaves has it, or nobody gives it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/lockable.h"
#include "qemu/memalign.h"
#include "qemu/thread.h"
#include "postcopy-wait.h"

/* Parks collected under the lock, woken after it; more take another turn. */
#define WAKE_BATCH 16

typedef struct PostcopyWaitBucket {
    QemuMutex lock;
    QLIST_HEAD(, PostcopyWaiter) waiters;
    /* Length of the list: written under the lock, read by wakers without */
    unsigned nr;
} QEMU_ALIGNED(64) PostcopyWaitBucket;

struct PostcopyWaitTable {
    unsigned shift;
    unsigned nr;
    PostcopyWaitBucket *bucket;
};

PostcopyWaitTable *postcopy_wait_table_new(unsigned threads)
{
    PostcopyWaitTable *table = g_new0(PostcopyWaitTable, 1);
    unsigned i;

    /* Four buckets a thread: a collision is rare, the table small. */
    table->nr = pow2ceil(MAX(threads, 16) * 4);
    table->shift = clz64(table->nr) + 1;
    table->bucket = qemu_memalign(64, sizeof(*table->bucket) * table->nr);
    for (i = 0; i < table->nr; i++) {
        qemu_mutex_init(&table->bucket[i].lock);
        QLIST_INIT(&table->bucket[i].waiters);
        table->bucket[i].nr = 0;
    }
    return table;
}

void postcopy_wait_table_free(PostcopyWaitTable *table)
{
    unsigned i;

    if (!table) {
        return;
    }
    for (i = 0; i < table->nr; i++) {
        assert(QLIST_EMPTY(&table->bucket[i].waiters));
        qemu_mutex_destroy(&table->bucket[i].lock);
    }
    qemu_vfree(table->bucket);
    g_free(table);
}

static PostcopyWaitBucket *bucket_of(PostcopyWaitTable *table, uintptr_t page)
{
    /* Fibonacci hashing: the top bits of the product depend on all of page. */
    uint64_t hash = (uint64_t)page * 0x9e3779b97f4a7c15ull;

    return &table->bucket[hash >> table->shift];
}

void postcopy_wait_begin(PostcopyWaitTable *table, PostcopyWaiter *waiter,
                         uintptr_t page, QemuPark *park,
                         PostcopyHandover *handover)
{
    PostcopyWaitBucket *b = bucket_of(table, page);

    waiter->page = page;
    waiter->park = park;
    waiter->handover = handover;
    waiter->linked = true;
    WITH_QEMU_LOCK_GUARD(&b->lock) {
        QLIST_INSERT_HEAD(&b->waiters, waiter, next);
        qatomic_set(&b->nr, b->nr + 1);
    }
    /* Pairs with smp_mb() in postcopy_wait_wake(). */
    smp_mb();
}

static void unlink_locked(PostcopyWaitBucket *b, PostcopyWaiter *waiter)
{
    QLIST_REMOVE(waiter, next);
    waiter->linked = false;
    qatomic_set(&b->nr, b->nr - 1);
}

bool postcopy_wait_end(PostcopyWaitTable *table, PostcopyWaiter *waiter)
{
    PostcopyWaitBucket *b = bucket_of(table, waiter->page);

    /* Seen DONE: the waker has unlinked the waiter and will not touch it. */
    if (qemu_park_state(waiter->park) & QEMU_PARK_DONE) {
        return true;
    }
    QEMU_LOCK_GUARD(&b->lock);
    if (!waiter->linked) {
        return true;
    }
    unlink_locked(b, waiter);
    return false;
}

/* The waiter for @page if it is the only one, and takes it */
static PostcopyWaiter *find_taker_locked(PostcopyWaitBucket *b, uintptr_t page)
{
    PostcopyWaiter *w, *found = NULL;

    QLIST_FOREACH(w, &b->waiters, next) {
        if (w->page == page) {
            if (found || !w->handover) {
                return NULL;
            }
            found = w;
        }
    }
    return found;
}

bool postcopy_wait_give(PostcopyWaitTable *table, uintptr_t page,
                        const void *from, size_t size)
{
    PostcopyWaitBucket *b = bucket_of(table, page);
    PostcopyWaiter *w;
    QemuPark *park;

    /* No barrier: who is missed here is found when the page is placed. */
    if (!qatomic_read(&b->nr)) {
        return false;
    }
    WITH_QEMU_LOCK_GUARD(&b->lock) {
        w = find_taker_locked(b, page);
        if (!w) {
            return false;
        }
        w->handover->zero = !from;
        if (from) {
            memcpy(w->handover->page, from, size);
        }
        qatomic_set(&w->handover->given, true);
        unlink_locked(b, w);
        park = w->park;
        /* Last touch of w, as in wake_batch(). */
        qemu_park_done(park);
    }
    qemu_park_wake(park);
    return true;
}

/*
 * Wake the waiters of @page in @b, or all of them.  One turn of at most
 * WAKE_BATCH; returns how many, less than WAKE_BATCH when none is left.
 */
static unsigned wake_batch(PostcopyWaitBucket *b, uintptr_t page, bool all)
{
    QemuPark *park[WAKE_BATCH];
    PostcopyWaiter *w, *tmp;
    unsigned i, n = 0;

    WITH_QEMU_LOCK_GUARD(&b->lock) {
        QLIST_FOREACH_SAFE(w, &b->waiters, next, tmp) {
            if (!all && w->page != page) {
                continue;
            }
            unlink_locked(b, w);
            park[n++] = w->park;
            /* Last touch of w: from here on its owner may return. */
            qemu_park_done(w->park);
            if (n == WAKE_BATCH) {
                break;
            }
        }
    }
    for (i = 0; i < n; i++) {
        qemu_park_wake(park[i]);
    }
    return n;
}

static unsigned wake_bucket(PostcopyWaitBucket *b, uintptr_t page, bool all)
{
    unsigned n, total = 0;

    do {
        n = wake_batch(b, page, all);
        total += n;
    } while (n == WAKE_BATCH);
    return total;
}

unsigned postcopy_wait_wake(PostcopyWaitTable *table, uintptr_t page)
{
    PostcopyWaitBucket *b = bucket_of(table, page);

    /* Pairs with smp_mb() in postcopy_wait_begin(). */
    smp_mb();
    if (!qatomic_read(&b->nr)) {
        return 0;
    }
    return wake_bucket(b, page, false);
}

unsigned postcopy_wait_wake_all(PostcopyWaitTable *table)
{
    unsigned i, total = 0;

    /* Pairs with the one in postcopy_wait_begin(). */
    smp_mb();
    for (i = 0; i < table->nr; i++) {
        total += wake_bucket(&table->bucket[i], 0, true);
    }
    return total;
}
