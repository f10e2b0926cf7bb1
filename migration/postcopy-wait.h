/*
 * Who waits for which page: exact wake-ups for postcopy page faults
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_WAIT_H
#define QEMU_MIGRATION_POSTCOPY_WAIT_H

#include "qemu/park.h"
#include "qemu/queue.h"

/*
 * Where a thread takes the page it waits for, to place it itself.  It outlives
 * the waits.
 */
typedef struct PostcopyHandover {
    /* Set once */
    uint8_t *page;
    /* Written by who gives, under the bucket's lock; then the waiter's */
    bool zero;              /* the page is, and @page is not used */
    /*
     * Set under the bucket's lock before the waiter is woken; cleared by it,
     * with release semantics, when the page is placed or will not be
     */
    bool given;
} PostcopyHandover;

/* One wait of one thread; lives on that thread's stack. */
typedef struct PostcopyWaiter {
    /* Set once, by postcopy_wait_begin() */
    uintptr_t page;
    QemuPark *park;
    PostcopyHandover *handover;
    /* Under the bucket's lock */
    QLIST_ENTRY(PostcopyWaiter) next;
    bool linked;
} PostcopyWaiter;

typedef struct PostcopyWaitTable PostcopyWaitTable;

/**
 * postcopy_wait_table_new: make an empty table
 * @threads: how many threads may wait at a time; only the speed depends on it
 */
PostcopyWaitTable *postcopy_wait_table_new(unsigned threads);

/**
 * postcopy_wait_table_free: free @table, in which nobody may wait
 */
void postcopy_wait_table_free(PostcopyWaitTable *table);

/**
 * postcopy_wait_begin: announce that the calling thread waits for a page
 * @table: the table
 * @waiter: storage that stays valid until postcopy_wait_end()
 * @page: host address of the page, rounded down to its block's page size
 * @park: the calling thread's park word, reset by the caller
 * @handover: where it would take the page, with "given" false; or NULL
 *
 * A full barrier: if the page is looked for after this call and is not
 * there, then whoever makes it present sees the waiter.
 */
void postcopy_wait_begin(PostcopyWaitTable *table, PostcopyWaiter *waiter,
                         uintptr_t page, QemuPark *park,
                         PostcopyHandover *handover);

/**
 * postcopy_wait_end: the calling thread no longer waits
 * @table: the table
 * @waiter: as given to postcopy_wait_begin()
 *
 * Afterwards nobody touches @waiter or sets DONE in its park word.
 * Returns true if the page was announced or given, false if the thread left
 * early.  Whoever was given the page has to place it, kicked or not: nobody
 * else has it.
 */
bool postcopy_wait_end(PostcopyWaitTable *table, PostcopyWaiter *waiter);

/**
 * postcopy_wait_give: leave it to the thread that waits for a page to place it
 * @table: the table
 * @page: as for postcopy_wait_begin(); it is not there yet
 * @from: its content, copied before this returns; NULL for a page of zeroes
 * @size: of the page in bytes, as is room for in PostcopyHandover.page
 *
 * Does nothing, and returns false, if none waits, if one of those that do takes
 * no page, or if several do: they would wait for one of them to run.
 * Returns true if the page was given and the thread is awake.  Any thread, no
 * lock needed.
 */
bool postcopy_wait_give(PostcopyWaitTable *table, uintptr_t page,
                        const void *from, size_t size);

/**
 * postcopy_wait_wake: wake all threads that wait for a page, and no other
 * @table: the table
 * @page: as for postcopy_wait_begin(); its content must be in place and the
 *        place where waiters look for it must say so
 *
 * Costs one load when nobody waits for a page of the same bucket.
 * Returns the number of threads woken.  Any thread, no lock needed.
 */
unsigned postcopy_wait_wake(PostcopyWaitTable *table, uintptr_t page);

/**
 * postcopy_wait_wake_all: wake every waiting thread, as at the end
 * @table: the table
 *
 * Returns the number of threads woken.
 */
unsigned postcopy_wait_wake_all(PostcopyWaitTable *table);

#endif
