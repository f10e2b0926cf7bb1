/*
 * Pages that arrive: who places them, and who learns of it
 *
 * All pages come by one or two connections, whose loaders are passed by all
 * faults.  So a loader that has more to read does not place a page for which one
 * vCPU waits: that vCPU has to run anyhow before the page is of use, and places
 * it.  What is left to the loader is to read it, to copy it and to wake the
 * vCPU.  A loader that would have to wait for its next page holds up nobody by
 * placing this one, which saves the copy: with one vCPU a third more pages a
 * second ("giving" of tests/bench/native is the other way).
 *
 * Threads      loaders give or place, vCPUs place, the listen thread waits for
 *              them; the fault thread and vCPUs fill pages that are never sent.
 * Owns         nothing; the pages in between are the service's.
 * Locks        discard_lock, while such a page is filled; stats_lock.
 * Orderings    a loader gives, then halts; postcopy_pause_incoming() waits
 *              until it has, then for each vCPU that was given a page.  So the
 *              bitmap of received pages, which the source goes by in a
 *              recovery, has all of them, and none is placed while the source
 *              sends it again.
 *              At the end, wait_until_outside() in postcopy-userfault.c waits.
 * Failure      a vCPU that cannot place its page has the migration paused, as a
 *              loader would, and waits anew: the page is sent again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/lockable.h"
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "system/kvm-userfault.h"
#include "postcopy-ram.h"
#include "postcopy-recover.h"
#include "postcopy-userfault-int.h"
#include "qemu-file.h"
#include "ram.h"
#include "trace.h"

/* How often to look whether a vCPU has placed its page, in microseconds */
#define LOOK_US 100

/* The calling thread was given the page that it places. */
static __thread bool places_given;

static int place(MigrationIncomingState *mis, void *host, void *from,
                 RAMBlock *rb)
{
    return from ? postcopy_place_page(mis, host, from, rb)
                : postcopy_place_page_zero(mis, host, rb);
}

int postcopy_userfault_arrived(MigrationIncomingState *mis, QEMUFile *f,
                               void *host, void *from, RAMBlock *rb)
{
    PostcopyUserfault *u = &postcopy_userfault;

    if (qatomic_read(&u->serving) && qemu_file_buffered(f) &&
        postcopy_wait_give(u->waits, (uintptr_t)host, from,
                           qemu_ram_pagesize(rb))) {
        return 0;
    }
    return place(mis, host, from, rb);
}

PostcopyHandover *postcopy_userfault_takes(PostcopyUserfault *u,
                                           PostcopyVcpu *v,
                                           const PostcopyBlock *b)
{
    /* QEMU's own sums of blocked time are those of one thread at a time. */
    return b->page_size == qemu_real_host_page_size() &&
           !u->mis->blocktime_ctx ? &v->handover : NULL;
}

void postcopy_userfault_place_given(PostcopyUserfault *u, PostcopyVcpu *v,
                                    const PostcopyBlock *b, uint64_t offset)
{
    PostcopyHandover *h = &v->handover;
    uint8_t *host = b->host + offset;
    int ret;

    places_given = true;
    ret = place(u->mis, host, h->zero ? NULL : h->page, b->rb);
    places_given = false;
    trace_postcopy_userfault_place_given(host, ret);
    if (ret) {
        postcopy_recover_break(u->mis);
    }
    qatomic_store_release(&h->given, false);
}

/* Ends: postcopy_place() gives up after two seconds, and no vCPU sleeps here. */
void postcopy_userfault_settle(void)
{
    PostcopyUserfault *u = &postcopy_userfault;
    unsigned i;

    for (i = 0; qatomic_read(&u->serving) && i < u->nr_vcpus; i++) {
        while (qatomic_load_acquire(&u->vcpu[i].handover.given)) {
            g_usleep(LOOK_US);
        }
    }
}

void postcopy_userfault_placed(MigrationIncomingState *mis, RAMBlock *rb,
                               void *host, gpointer stamp)
{
    PostcopyUserfault *u = &postcopy_userfault;
    uint64_t offset = (uint8_t *)host - rb->host;
    bool ahead = false, for_vcpu = false;

    if (qatomic_read(&u->serving)) {
        PostcopyBlock *b = g_hash_table_lookup(u->blocks, rb);

        kvm_userfault_pages_present(rb, offset, b->page_size);
        ahead = postcopy_request_is_ahead(&b->map, offset);
        for_vcpu = postcopy_wait_wake(u->waits, (uintptr_t)host) ||
                   places_given ||
                   (!stamp && postcopy_request_claimed(&b->map, offset));
    }

    QEMU_LOCK_GUARD(&u->stats_lock);
    if (stamp) {
        postcopy_latency_add(&u->stats.uffd_latency,
                             get_clock() - (int64_t)(uintptr_t)stamp);
    }
    postcopy_count(ahead ? &u->stats.pages_readahead :
                   for_vcpu ? &u->stats.pages_vcpu :
                   stamp ? &u->stats.pages_userfaultfd :
                   &u->stats.pages_background, 1);
}

int postcopy_userfault_place_discarded(MigrationIncomingState *mis,
                                       RAMBlock *rb, void *host)
{
    QEMU_LOCK_GUARD(&postcopy_userfault.discard_lock);

    if (ramblock_recv_bitmap_test(rb, host)) {
        return 0;
    }
    return postcopy_place_page_zero(mis, host, rb);
}
