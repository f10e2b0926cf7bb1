/*
 * Postcopy page faults of vCPUs, served through KVM userfault
 *
 * A vCPU that touches an absent page leaves KVM_RUN and comes here.  It asks
 * the source for the page, unless somebody did, and for those that it is about
 * to walk to (postcopy-along.c), and sleeps until the page is placed.
 * Everybody else who touches absent pages (device models, vhost, KVM
 * itself) still goes through userfaultfd and the fault thread.
 *
 * Threads      vCPUs, the fault thread, the loaders (listen and preempt
 *              thread), and whoever starts and stops incoming postcopy.
 * Owns         per block the set of pages asked for; the waiting vCPUs, and a
 *              page for each, which it may be given (postcopy-handover.c); the
 *              queue of requests; the statistics, which outlive the service.
 * Locks        vCPUs share none on the fault path, but for a bucket of the
 *              wait table (same page, or a collision) and trylocks.  Order:
 *                BQL, send_lock (postcopy-request.c), mis->rp_mutex
 *                discard_lock, mis->page_request_mutex
 *                stats_lock: leaf
 *
 * A host page of a block is MISSING, then REQUESTED, then PRESENT, and never
 * goes back while the service runs.  PRESENT is the block's received bitmap,
 * REQUESTED the block's PostcopyRequestMap.
 *
 * Orderings    a vCPU that waits against the loader that places:
 *
 *                vCPU                          loader
 *                enter the wait table          set PRESENT
 *                full barrier                  full barrier
 *                PRESENT?  no: sleep           waiters?  wake them
 *
 *              One sees the other (postcopy-wait.c).
 *
 *              A request against a resume after a broken channel:
 *
 *                vCPU                          resume
 *                set REQUESTED                 open the channel
 *                full barrier                  full barrier
 *                channel open?  send           all REQUESTED: send
 *
 *              At least one sends; at worst both do.
 *
 *              A vCPU that enters against the end of the service:
 *
 *                vCPU                          postcopy_userfault_stop()
 *                inside = true                 serving = false
 *                full barrier                  full barrier
 *                serving?  no: leave           inside?  wake, look again
 *
 *              Nothing is freed while a vCPU is inside.
 *
 * Failure      broken channel: requests are dropped, vCPUs go on waiting, and
 *              every wait can be broken by a kick, so that the monitor, stop
 *              and quit work.  No KVM userfault: userfaultfd serves all.
 *
 * Why UFFDIO_COPY still wakes: without waiters on the userfaultfd, which is
 * the rule here, its wake is two loads.  Leaving it out would need the fault
 * thread to wake late comers, and that thread is parked while the channel is
 * broken.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-events-migration.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/timer.h"
#include "exec/target_page.h"
#include "hw/boards.h"
#include "system/kvm.h"
#include "system/kvm-userfault.h"
#include "postcopy-along.h"
#include "postcopy-ram.h"
#include "postcopy-recover.h"
#include "postcopy-userfault-int.h"
#include "ram.h"
#include "trace.h"

PostcopyUserfault postcopy_userfault = {
    .policy = ON_OFF_AUTO_AUTO,
    .readahead = 32,
};

static void __attribute__((constructor)) postcopy_userfault_init(void)
{
    qemu_mutex_init(&postcopy_userfault.discard_lock);
    qemu_mutex_init(&postcopy_userfault.stats_lock);
}

/* ------------------------------------------------------------------------- */
/* Requests */

/* See that what a vCPU has queued gets sent. */
static void flush_from_vcpu(PostcopyUserfault *u, PostcopyRequestQueue *queue)
{
    if (postcopy_request_flush(queue, false) == POSTCOPY_SEND_WOULD_BLOCK) {
        qatomic_inc(&u->stats.handoffs);
        trace_postcopy_userfault_handoff();
        postcopy_fault_thread_notify(u->mis);
    }
}

bool postcopy_userfault_request(MigrationIncomingState *mis, RAMBlock *rb,
                                ram_addr_t start, int *ret)
{
    PostcopyUserfault *u = &postcopy_userfault;
    PostcopyBlock *b;

    if (!qatomic_read(&u->serving)) {
        return false;
    }
    b = g_hash_table_lookup(u->blocks, rb);
    assert(b);
    *ret = 0;
    if (!postcopy_request_claim(&b->map, start)) {
        if (!postcopy_along_left_out(b, start)) {
            return true;
        }
        postcopy_count(&u->stats.readahead_again, 1);
    }
    postcopy_request_push(postcopy_userfault_queue(u, start), b, start,
                          b->page_size);
    *ret = postcopy_userfault_flush(mis);
    return true;
}

int postcopy_userfault_flush(MigrationIncomingState *mis)
{
    PostcopyUserfault *u = &postcopy_userfault;
    unsigned i, n = qatomic_read(&u->channels);

    if (!qatomic_read(&u->serving)) {
        return 0;
    }
    for (i = 0; i < n; i++) {
        if (postcopy_request_flush(u->channel[i].queue, true) ==
            POSTCOPY_SEND_FAILED) {
            return -EIO;
        }
    }
    return 0;
}

/* Call @fn for each page that was asked for and is not there. */
static uint64_t for_each_outstanding(PostcopyUserfault *u,
                                     void (*fn)(PostcopyUserfault *u,
                                                PostcopyBlock *b,
                                                uint64_t offset))
{
    GHashTableIter iter;
    PostcopyBlock *b;
    uint64_t offset, n = 0;

    g_hash_table_iter_init(&iter, u->blocks);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&b)) {
        for (offset = postcopy_request_next(&b->map, 0);
             offset != UINT64_MAX;
             offset = postcopy_request_next(&b->map, offset + b->page_size)) {
            if (!page_present(b, offset)) {
                fn(u, b, offset);
                n++;
            }
        }
    }
    return n;
}

static void ask_again(PostcopyUserfault *u, PostcopyBlock *b, uint64_t offset)
{
    postcopy_request_push(u->channel[0].queue, b, offset, b->page_size);
}

bool postcopy_userfault_resume(MigrationIncomingState *mis)
{
    PostcopyUserfault *u = &postcopy_userfault;
    unsigned i;
    uint64_t n;

    if (!qatomic_read(&u->serving)) {
        return false;
    }
    /* What is still queued is claimed, hence asked for below. */
    for (i = 0; i < u->max_channels; i++) {
        postcopy_request_drop(u->channel[i].queue);
    }
    WITH_QEMU_LOCK_GUARD(&mis->rp_mutex) {
        postcopy_userfault_channel_open_locked(u);
    }
    /* Pairs with the one in postcopy_request_claim(). */
    smp_mb();
    n = for_each_outstanding(u, ask_again);
    if (postcopy_request_flush(u->channel[0].queue, true) ==
        POSTCOPY_SEND_FAILED) {
        warn_report("postcopy: the channel broke again while %" PRIu64
                    " pages were asked for anew", n);
    }
    WITH_QEMU_LOCK_GUARD(&mis->rp_mutex) {
        postcopy_count(&u->stats.resent, n);
    }
    trace_postcopy_userfault_resume(n);
    return true;
}

/* In mis->page_requested: no time, since a vCPU asked for the page */
#define STAMP_OF_VCPU ((gpointer)1)

gpointer postcopy_userfault_stamp(void)
{
    return (gpointer)(uintptr_t)MAX(get_clock(), 2);
}

gpointer postcopy_userfault_stamp_of_locked(MigrationIncomingState *mis,
                                            void *host)
{
    gpointer stamp = g_tree_lookup(mis->page_requested, host);

    return stamp == STAMP_OF_VCPU ? NULL : stamp;
}

static void account_page(PostcopyUserfault *u, PostcopyBlock *b,
                         uint64_t offset)
{
    void *host = b->host + offset;

    if (!g_tree_lookup(u->mis->page_requested, host)) {
        g_tree_insert(u->mis->page_requested, host, STAMP_OF_VCPU);
        qatomic_inc(&u->mis->page_requested_count);
    }
}

void postcopy_userfault_account(MigrationIncomingState *mis)
{
    PostcopyUserfault *u = &postcopy_userfault;

    if (qatomic_read(&u->serving)) {
        /* Loaders set PRESENT under this mutex, so each page is seen once. */
        QEMU_LOCK_GUARD(&mis->page_request_mutex);
        trace_postcopy_userfault_account(for_each_outstanding(u, account_page));
    }
}

/* ------------------------------------------------------------------------- */
/* A vCPU's fault */

/* Begin of the fault, or of the first of its waits if some were broken */
static int64_t fault_start(PostcopyVcpu *v, uintptr_t page)
{
    int64_t now = get_clock();

    return v->broken_page == page ? v->broken_start : now;
}

static void fault_broken(PostcopyVcpu *v, uintptr_t page, int64_t start)
{
    v->broken_page = page;
    v->broken_start = start;
    postcopy_count(&v->stats.waits_broken, 1);
}

static void fault_served(PostcopyVcpu *v, int64_t ns)
{
    v->broken_page = 0;
    postcopy_latency_add(&v->stats.latency, ns);
}

/*
 * For the capability postcopy-blocktime: the vCPU begins to wait.  Before it
 * asks, since the answer may be faster than it gets the mutex.
 */
static void blocktime_begin(PostcopyUserfault *u, PostcopyBlock *b,
                            uint64_t offset)
{
    /* Loaders set PRESENT, then end what began, under this mutex. */
    QEMU_LOCK_GUARD(&u->mis->page_request_mutex);

    if (!page_present(b, offset)) {
        mark_postcopy_blocktime_begin((uintptr_t)b->host + offset,
                                      qemu_get_thread_id(), b->rb);
    }
}

/* Leave the table, kicked or not; true: the page has come. */
static bool end_wait(PostcopyUserfault *u, PostcopyVcpu *v,
                     const PostcopyBlock *b, uint64_t offset,
                     PostcopyWaiter *waiter)
{
    bool arrived = postcopy_wait_end(u->waits, waiter);

    if (qatomic_read(&v->handover.given)) {
        postcopy_userfault_place_given(u, v, b, offset);
    }
    return arrived;
}

/* Sleep until the page is there (true) or the vCPU is kicked (false). */
static bool wait_for_page(PostcopyUserfault *u, PostcopyVcpu *v,
                          PostcopyBlock *b, uint64_t offset, QemuPark *park)
{
    uintptr_t page = (uintptr_t)b->host + offset;
    PostcopyRequestQueue *queue;
    PostcopyWaiter waiter;
    bool ask = false;

    postcopy_wait_begin(u->waits, &waiter, page, park,
                        postcopy_userfault_takes(u, v, b));
    if (page_present(b, offset) || !qatomic_read(&u->serving)) {
        end_wait(u, v, b, offset, &waiter);
        return true;
    }
    if (u->mis->blocktime_ctx && v->broken_page != page) {
        blocktime_begin(u, b, offset);
    }
    if (postcopy_request_claim(&b->map, offset)) {
        postcopy_count(&v->stats.requests, 1);
        ask = true;
    } else if (postcopy_along_left_out(b, offset) && v->broken_page != page) {
        postcopy_count(&v->stats.readahead_requests, 1);
        ask = true;
    }
    /* After the claim, which is a full barrier (see postcopy-urgent-in.c). */
    queue = postcopy_userfault_queue(u, offset);
    if (ask) {
        postcopy_request_push(queue, b, offset, b->page_size);
    }
    if (postcopy_along_ask(queue, v, b, offset) || ask) {
        flush_from_vcpu(u, queue);
    }
    postcopy_count(&v->stats.waits, 1);
    qemu_park_sleep(park);
    return end_wait(u, v, b, offset, &waiter);
}

static KVMUserfaultResult serve_fault(PostcopyUserfault *u, PostcopyVcpu *v,
                                      PostcopyBlock *b, uint64_t offset,
                                      QemuPark *park, uint64_t *ahead)
{
    uintptr_t page;
    int64_t start, ns;
    bool arrived;

    offset = QEMU_ALIGN_DOWN(offset, b->page_size);
    page = (uintptr_t)b->host + offset;
    if (page_present(b, offset)) {
        /* Placed since the vCPU looked at its bit. */
        v->broken_page = 0;
        postcopy_count(&v->stats.already_present, 1);
        kvm_userfault_pages_present(b->rb, offset, b->page_size);
        return KVM_USERFAULT_PRESENT;
    }
    if (unlikely(ramblock_page_is_discarded(b->rb, offset))) {
        postcopy_count(&v->stats.discarded, 1);
        if (!postcopy_userfault_place_discarded(u->mis, b->rb, (void *)page)) {
            return KVM_USERFAULT_RETRY;
        }
    }

    v->ahead = 0;
    start = fault_start(v, page);
    arrived = wait_for_page(u, v, b, offset, park);
    ns = get_clock() - start;
    if (arrived) {
        fault_served(v, ns);
        *ahead = postcopy_along_present(v, b, offset);
    } else {
        fault_broken(v, page, start);
    }
    trace_postcopy_userfault_vcpu(b->rb->idstr, offset, arrived, ns);
    return arrived ? KVM_USERFAULT_PRESENT : KVM_USERFAULT_INTERRUPTED;
}

/* KVMUserfaultOps.fault() */
static KVMUserfaultResult vcpu_fault(void *opaque, int cpu_index, void *cookie,
                                     uint64_t offset, QemuPark *park,
                                     uint64_t *ahead)
{
    PostcopyUserfault *u = opaque;
    KVMUserfaultResult result = KVM_USERFAULT_RETRY;
    PostcopyVcpu *v;

    assert(cpu_index >= 0 && cpu_index < u->nr_vcpus);
    v = &u->vcpu[cpu_index];
    qatomic_set(&v->inside, true);
    /* Pairs with the one in wait_until_outside(). */
    smp_mb();
    if (qatomic_read(&u->serving)) {
        postcopy_count(&v->stats.exits, 1);
        if (cookie) {
            result = serve_fault(u, v, cookie, offset, park, ahead);
        } else {
            postcopy_count(&v->stats.spurious, 1);
        }
    }
    qatomic_store_release(&v->inside, false);
    return result;
}

/* KVMUserfaultOps.block() */
static bool vcpu_block(void *opaque, RAMBlock *rb, KVMUserfaultBlock *info)
{
    PostcopyUserfault *u = opaque;
    PostcopyBlock *b = g_hash_table_lookup(u->blocks, rb);

    if (!b) {
        return false;
    }
    info->cookie = b;
    info->length = rb->postcopy_length;
    info->present = rb->receivedmap;
    return true;
}

static const KVMUserfaultOps userfault_ops = {
    .block = vcpu_block,
    .fault = vcpu_fault,
};

/* ------------------------------------------------------------------------- */
/* Start and stop */

static OnOffAuto effective_policy(const PostcopyUserfault *u)
{
    return u->policy == ON_OFF_AUTO_AUTO ? kvm_userfault_policy() : u->policy;
}

static void block_free(gpointer data)
{
    PostcopyBlock *b = data;

    postcopy_request_map_destroy(&b->map);
    g_free(b);
}

static int block_add(RAMBlock *rb, void *opaque)
{
    PostcopyUserfault *u = opaque;
    PostcopyBlock *b = g_new0(PostcopyBlock, 1);

    b->rb = rb;
    b->host = rb->host;
    b->page_size = qemu_ram_pagesize(rb);
    b->readahead = u->readahead * qemu_target_page_size() / b->page_size;
    g_hash_table_insert(u->blocks, rb, b);
    return postcopy_request_map_init(&b->map, rb->postcopy_length,
                                     b->page_size) ? 0 : -ENOMEM;
}

static bool start_serving(PostcopyUserfault *u, Error **errp)
{
    if (!kvm_userfault_supported(errp)) {
        return false;
    }
    if (qemu_target_page_size() != qemu_real_host_page_size()) {
        error_setg(errp, "the guest's and the host's page size differ");
        return false;
    }
    if (foreach_not_ignored_block(block_add, u)) {
        error_setg(errp, "no memory for the bitmaps of requested pages");
        return false;
    }
    postcopy_userfault_channels_init(u);
    WITH_QEMU_LOCK_GUARD(&u->mis->rp_mutex) {
        postcopy_userfault_channel_open_locked(u);
    }
    return kvm_userfault_start(&userfault_ops, u, errp);
}

/* All vCPUs have left, or none has come. */
static void free_requests(PostcopyUserfault *u)
{
    postcopy_userfault_channels_free(u);
    g_clear_pointer(&u->blocks, g_hash_table_unref);
    g_clear_pointer(&u->handover_pages, qemu_vfree);
}

static void reset_service(PostcopyUserfault *u, MigrationIncomingState *mis)
{
    unsigned threads = MACHINE(qdev_get_machine())->smp.max_cpus;
    size_t page = qemu_real_host_page_size();
    unsigned i;

    free_requests(u);
    postcopy_wait_table_free(u->waits);
    qemu_vfree(u->vcpu);
    g_clear_pointer(&u->reason, g_free);
    memset(&u->stats, 0, sizeof(u->stats));

    u->mis = mis;
    u->max_channels = 0;
    u->channels = u->most_channels = 1;
    u->nr_vcpus = threads;
    u->vcpu = qemu_memalign(64, sizeof(*u->vcpu) * threads);
    memset(u->vcpu, 0, sizeof(*u->vcpu) * threads);
    /* Those of vCPUs that never wait stay untouched, and cost nothing. */
    u->handover_pages = qemu_memalign(page, page * threads);
    for (i = 0; i < threads; i++) {
        u->vcpu[i].handover.page = u->handover_pages + i * page;
    }
    u->waits = postcopy_wait_table_new(threads);
    u->blocks = g_hash_table_new_full(NULL, NULL, NULL, block_free);
    u->ever = true;
}

static void fall_back(PostcopyUserfault *u, Error *err)
{
    u->status = POSTCOPY_USERFAULT_STATUS_FALLBACK;
    u->reason = g_strdup(error_get_pretty(err));
    free_requests(u);
    if (kvm_enabled()) {
        warn_report("postcopy: KVM userfault is not used, userfaultfd serves "
                    "the vCPUs: %s", u->reason);
    }
    error_free(err);
}

void postcopy_userfault_start(MigrationIncomingState *mis)
{
    PostcopyUserfault *u = &postcopy_userfault;
    Error *err = NULL;

    assert(bql_locked() && !u->running);
    postcopy_recover_reset();
    reset_service(u, mis);
    u->running = true;
    if (effective_policy(u) == ON_OFF_AUTO_OFF) {
        u->status = POSTCOPY_USERFAULT_STATUS_OFF;
    } else if (start_serving(u, &err)) {
        u->status = POSTCOPY_USERFAULT_STATUS_ACTIVE;
        qatomic_set(&u->serving, true);
    } else {
        fall_back(u, err);
    }
    trace_postcopy_userfault_start(PostcopyUserfaultStatus_str(u->status),
                                   u->reason ?: "");
    qapi_event_send_postcopy_userfault(u->status, u->reason);
}

/* Get every vCPU out of vcpu_fault().  New ones leave at once. */
static void wait_until_outside(PostcopyUserfault *u)
{
    unsigned i;

    /* Pairs with the one in vcpu_fault(). */
    smp_mb();
    for (i = 0; i < u->nr_vcpus; i++) {
        while (qatomic_load_acquire(&u->vcpu[i].inside)) {
            postcopy_wait_wake_all(u->waits);
            g_usleep(20);
        }
    }
}

/*
 * Whether pages are missing for good that somebody may wait for inside KVM or
 * with the BQL: changing memslots would wait for him.  As a rule the process
 * is about to exit.  Setting up, in contrast, fails with the BQL held and
 * before vCPUs run.
 */
static bool gave_up(MigrationIncomingState *mis)
{
    return mis->state == MIGRATION_STATUS_FAILED &&
           (!bql_locked() || postcopy_state_get() >= POSTCOPY_INCOMING_RUNNING);
}

void postcopy_userfault_stop(MigrationIncomingState *mis)
{
    PostcopyUserfault *u = &postcopy_userfault;

    if (!u->running) {
        return;
    }
    /* The caller may close the channel, failed or not, while vCPUs wait. */
    WITH_QEMU_LOCK_GUARD(&mis->rp_mutex) {
        u->channel[0].open = false;
    }
    postcopy_urgent_close();
    if (gave_up(mis)) {
        return;
    }
    if (u->serving) {
        {
            BQL_LOCK_GUARD();
            kvm_userfault_stop();
        }
        qatomic_set(&u->serving, false);
        wait_until_outside(u);
        /* Without the BQL: query-migrate may be reading it. */
        qatomic_set(&u->status, POSTCOPY_USERFAULT_STATUS_FINISHED);
        free_requests(u);
        qapi_event_send_postcopy_userfault(u->status, NULL);
    }
    u->running = false;
    trace_postcopy_userfault_stop(PostcopyUserfaultStatus_str(u->status));
}
