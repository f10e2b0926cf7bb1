/*
 * Postcopy page faults of vCPUs, served through KVM userfault
 *
 * The calls that the rest of migration/ makes.  All but the first three do
 * nothing, or what postcopy did before, while the service does not run.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_USERFAULT_H
#define QEMU_MIGRATION_POSTCOPY_USERFAULT_H

#include "migration.h"
#include "postcopy-wire.h"

/**
 * postcopy_userfault_class_init: add the policy property to the migration
 * object
 * @klass: its class
 */
void postcopy_userfault_class_init(ObjectClass *klass);

/**
 * postcopy_userfault_check: refuse a policy that this host cannot keep
 * @errp: what is missing
 *
 * To be called when the accelerator is up.  BQL held.
 */
bool postcopy_userfault_check(Error **errp);

/**
 * postcopy_userfault_start: begin to serve, or to count
 * @mis: the incoming migration
 *
 * Called once all of precopy has been received, before the fault thread is
 * made and before vCPUs run.  Never fails: when KVM userfault cannot be used
 * userfaultfd alone does the work, and the reason is reported.  BQL held.
 */
void postcopy_userfault_start(MigrationIncomingState *mis);

/**
 * postcopy_userfault_stop: serve no longer
 * @mis: the incoming migration
 *
 * Called when all pages are present, or when setting up has failed, before
 * userfaultfd is closed.  Takes the BQL if the caller does not hold it.
 * Idempotent.
 */
void postcopy_userfault_stop(MigrationIncomingState *mis);

/**
 * postcopy_userfault_account: make outstanding requests of vCPUs count
 * @mis: the incoming migration
 *
 * The end of postcopy waits until mis->page_requested_count is zero before it
 * closes the preempt channel.  vCPUs do not write to that shared counter for
 * each fault; what they have asked for and not got is added here.  Called by
 * the thread that ends postcopy, before it looks at the counter.
 */
void postcopy_userfault_account(MigrationIncomingState *mis);

/**
 * postcopy_userfault_received: have the kernel acknowledge what has come
 * @f: the channel by which a whole host page has come
 *
 * A source without this project leaves Nagle's algorithm on: the last part of
 * its next page waits for this acknowledgement, which the kernel would delay by
 * up to 40 ms.  For the thread that reads the channel, without any locks.
 */
void postcopy_userfault_received(QEMUFile *f);

/**
 * postcopy_userfault_arrived: a host page has come
 * @mis: the incoming migration
 * @f: the channel by which it has come
 * @host: where it belongs
 * @from: its content; NULL for a page of zeroes
 * @rb: its block
 *
 * Has it placed by the vCPU that waits for it, if there is more to read; or
 * places it.  Returns 0 or what postcopy_place_page() returned.  For the thread
 * that reads @f, without locks.
 */
int postcopy_userfault_arrived(MigrationIncomingState *mis, QEMUFile *f,
                               void *host, void *from, RAMBlock *rb);

/**
 * postcopy_userfault_settle: wait until all pages that have come are placed
 *
 * For the thread that pauses an incoming postcopy, when no loader runs any
 * more, before the bitmap of received pages is used.  Without locks.
 */
void postcopy_userfault_settle(void);

/**
 * postcopy_userfault_request: ask the source for a host page
 * @mis: the incoming migration
 * @rb: the block
 * @start: byte offset in the block, aligned to its page size
 * @ret: 0, or a negative errno value if the channel is broken
 *
 * For threads that may wait, such as the fault thread.  Returns false if the
 * service does not run: the caller sends the request itself.
 */
bool postcopy_userfault_request(MigrationIncomingState *mis, RAMBlock *rb,
                                ram_addr_t start, int *ret);

/**
 * postcopy_userfault_flush: send the requests that vCPUs could not send
 * @mis: the incoming migration
 *
 * Called by the fault thread when it has been notified.  Returns 0, or a
 * negative errno value if the channel is broken.
 */
int postcopy_userfault_flush(MigrationIncomingState *mis);

/**
 * postcopy_userfault_stamp: what to remember with a userfaultfd request
 *
 * Returns the value for mis->page_requested: when the page was asked for, in
 * ns, never 0.  Called by the fault thread.
 */
gpointer postcopy_userfault_stamp(void);

/**
 * postcopy_userfault_stamp_of_locked: when a page was asked for
 * @mis: the incoming migration; its page_request_mutex held
 * @host: host address of the page
 *
 * Returns what postcopy_userfault_stamp() gave, or NULL if the fault thread
 * did not ask for the page.
 */
gpointer postcopy_userfault_stamp_of_locked(MigrationIncomingState *mis,
                                            void *host);

/**
 * postcopy_userfault_placed: a host page is in place
 * @mis: the incoming migration
 * @rb: its block; the received bitmap says that the page is there
 * @host: its host address
 * @stamp: from postcopy_userfault_stamp_of_locked()
 *
 * Lets vCPUs access the page and wakes those that wait for it.  Called by the
 * thread that placed it, without locks.
 */
void postcopy_userfault_placed(MigrationIncomingState *mis, RAMBlock *rb,
                               void *host, gpointer stamp);

/**
 * postcopy_userfault_place_discarded: fill a page that is never sent
 * @mis: the incoming migration
 * @rb: the block, under a RamDiscardManager
 * @host: host address of the page
 *
 * A vCPU and the fault thread may come for the same page; one places zeroes,
 * the other finds it there.  Returns 0 or a negative errno value.
 */
int postcopy_userfault_place_discarded(MigrationIncomingState *mis,
                                       RAMBlock *rb, void *host);

/**
 * postcopy_userfault_pause_locked: the channel to the source is being closed
 * @mis: the incoming migration; its rp_mutex held
 *
 * vCPUs go on waiting and send nothing until postcopy_userfault_resume():
 * while the two sides find each other again the channel is not theirs.
 */
void postcopy_userfault_pause_locked(MigrationIncomingState *mis);

/**
 * postcopy_userfault_resume: the source is ready to serve again
 * @mis: the incoming migration
 *
 * Asks again for all pages that were asked for and have not come, by vCPUs
 * and by the fault thread.  Returns false if the service does not run: the
 * caller does what it did without it.
 */
bool postcopy_userfault_resume(MigrationIncomingState *mis);

/**
 * postcopy_userfault_no_userfaultfd: say what to do about it
 * @errp: set
 * @error: errno of the attempt to open a userfaultfd
 *
 * Postcopy needs userfaultfd for everybody who is not a vCPU.  One line, since
 * hints do not reach clients of QMP.
 */
void postcopy_userfault_no_userfaultfd(Error **errp, int error);

/**
 * postcopy_userfault_fill_info: add the statistics to query-migrate
 * @info: what is returned; unchanged if there never was a postcopy
 */
void postcopy_userfault_fill_info(MigrationInfo *info);

/**
 * postcopy_userfault_hmp_info: print the statistics for "info migrate"
 * @mon: the monitor
 * @info: as filled in
 */
void postcopy_userfault_hmp_info(Monitor *mon, const MigrationInfo *info);

#endif
