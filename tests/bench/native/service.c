/*
 * The fault service of migration/postcopy-userfault.c on plain memory
 *
 * The requests, the table of waiters, the park words, the views of memslots
 * and the histograms are the real files.  What joins them is repeated here,
 * step by step and lock by lock, because the original needs all of QEMU: the
 * functions are named after those of postcopy-userfault.c, kvm-userfault.c
 * and QEMU's postcopy-ram.c.  Left out are RCU, traces, and all that does not
 * happen on the way of a fault: discarded pages, kicks, pause and resume.
 *
 * Threads      vCPUs, one fault thread, one loader.
 * Locks        as in postcopy-userfault.c.
 * Failure      none is expected: it ends the program.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/eventfd.h>
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/lockable.h"
#include "qemu/units.h"
#include "clock.h"
#include "service.h"
#include "source.h"

/* What a QEMUFile holds before it writes */
#define BUFFER_BYTES (32 * KiB)
/* Memslots on each side of the 4 GiB hole, and in the other address space */
#define VIEWS 4

/* ------------------------------------------------------------------------- */
/* Requests */

static bool page_present(const Block *b, uint64_t offset)
{
    return test_bit(offset / b->page_bytes, b->present);
}

static bool channel_lock(void *opaque, bool may_block)
{
    Service *s = opaque;
    struct pollfd pfd = { .fd = s->sock, .events = POLLOUT };

    if (may_block) {
        qemu_mutex_lock(&s->rp_mutex);
        return true;
    }
    if (qemu_mutex_trylock(&s->rp_mutex)) {
        return false;
    }
    if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT)) {
        qemu_mutex_unlock(&s->rp_mutex);
        return false;
    }
    return true;
}

static void channel_unlock(void *opaque)
{
    Service *s = opaque;

    qemu_mutex_unlock(&s->rp_mutex);
}

static void put_request(uint8_t *to, uint64_t offset, uint64_t bytes)
{
    stw_be_p(to, REQUEST_TYPE);
    stw_be_p(to + 2, REQUEST_BODY);
    stq_be_p(to + 4, offset);
    stl_be_p(to + 12, bytes);
}

static void send_buffer(Service *s, size_t bytes)
{
    size_t sent = 0;
    ssize_t ret;

    while (sent < bytes) {
        ret = write(s->sock, s->buffer + sent, bytes - sent);
        if (ret < 0) {
            g_error("requests: %s", g_strerror(errno));
        }
        sent += ret;
        s->writes++;
    }
    s->longest = MAX(s->longest, bytes / REQUEST_BYTES);
}

static bool channel_write(void *opaque, const PostcopyRequestList *list)
{
    Service *s = opaque;
    PostcopyRequest *req;
    size_t bytes = 0;

    QSLIST_FOREACH(req, list, next) {
        if (bytes + REQUEST_BYTES > BUFFER_BYTES) {
            send_buffer(s, bytes);
            bytes = 0;
        }
        put_request(s->buffer + bytes, req->offset, s->block.page_bytes);
        bytes += REQUEST_BYTES;
    }
    send_buffer(s, bytes);
    postcopy_count(&s->flushes, 1);
    return true;
}

static const PostcopyRequestOps request_ops = {
    .lock = channel_lock,
    .write = channel_write,
    .unlock = channel_unlock,
};

void service_flush(Service *s)
{
    PostcopySend sent = postcopy_request_flush(s->queue, true);

    g_assert(sent == POSTCOPY_SEND_DONE);
}

void service_request(Service *s, uint64_t offset, uint64_t length)
{
    void *host = s->block.host + offset;

    WITH_QEMU_LOCK_GUARD(&s->page_request_mutex) {
        if (page_present(&s->block, offset)) {
            return;
        }
        if (!g_tree_lookup(s->page_requested, host)) {
            g_tree_insert(s->page_requested, host,
                          (gpointer)(uintptr_t)clock_ns(CLOCK_MONOTONIC));
        }
    }
    WITH_QEMU_LOCK_GUARD(&s->rp_mutex) {
        put_request(s->buffer, offset, length);
        send_buffer(s, REQUEST_BYTES);
    }
}

/* ------------------------------------------------------------------------- */
/* A vCPU's fault */

bool service_exits(Service *s, uint64_t offset)
{
    return userfault_view_test(userfault_map_find(s->views, 0, offset), offset);
}

static void place(Service *s, uint64_t offset, const uint8_t *from)
{
    s->place(s->opaque, offset, from);
    service_placed(s, offset);
}

static bool end_wait(Service *s, Vcpu *v, PostcopyWaiter *waiter)
{
    bool arrived = postcopy_wait_end(s->waits, waiter);

    if (qatomic_read(&v->handover.given)) {
        place(s, waiter->page - (uintptr_t)s->block.host, v->handover.page);
        qatomic_store_release(&v->handover.given, false);
    }
    return arrived;
}

bool service_wait_begin(Service *s, Vcpu *v, uint64_t offset,
                        PostcopyWaiter *waiter)
{
    postcopy_wait_begin(s->waits, waiter, (uintptr_t)s->block.host + offset,
                        &v->park, v->handover.page ? &v->handover : NULL);
    if (page_present(&s->block, offset) || !qatomic_read(&s->serving)) {
        end_wait(s, v, waiter);
        return false;
    }
    return true;
}

void service_ask(Service *s, Vcpu *v, uint64_t offset)
{
    uint64_t bytes = s->block.page_bytes;

    if (!postcopy_request_claim(&s->block.map, offset)) {
        return;
    }
    postcopy_count(&v->stats.requests, 1);
    postcopy_request_push(s->queue, &s->block, offset, bytes);
    if (postcopy_request_flush(s->queue, false) == POSTCOPY_SEND_WOULD_BLOCK) {
        qatomic_inc(&s->stats.handoffs);
        if (eventfd_write(s->event_fd, 1)) {
            g_error("eventfd: %s", g_strerror(errno));
        }
    }
}

bool service_wait_end(Service *s, Vcpu *v, PostcopyWaiter *waiter)
{
    postcopy_count(&v->stats.waits, 1);
    qemu_park_sleep(&v->park);
    return end_wait(s, v, waiter);
}

static void serve_fault(Service *s, Vcpu *v, uint64_t offset)
{
    PostcopyWaiter waiter;
    int64_t start;

    if (page_present(&s->block, offset)) {
        postcopy_count(&v->stats.already_present, 1);
        return;
    }
    start = clock_ns(CLOCK_MONOTONIC);
    if (service_wait_begin(s, v, offset, &waiter)) {
        service_ask(s, v, offset);
        if (!service_wait_end(s, v, &waiter)) {
            g_error("a wait ended and nobody had broken it");
        }
    }
    postcopy_latency_add(&v->stats.latency, clock_ns(CLOCK_MONOTONIC) - start);
}

void service_fault(Service *s, Vcpu *v, uint64_t gpa)
{
    UserfaultView *view;

    qemu_park_reset(&v->park);
    view = userfault_map_find(s->views, 0, gpa);
    g_assert(view);
    qatomic_set(&v->inside, true);
    smp_mb();
    if (qatomic_read(&s->serving)) {
        postcopy_count(&v->stats.exits, 1);
        serve_fault(s, v, view->block_offset + (gpa - view->gpa));
    }
    qatomic_store_release(&v->inside, false);
}

/* ------------------------------------------------------------------------- */
/* Pages that arrive */

/* What qemu_ufd_copy_ioctl() does after the ioctl */
static gpointer set_present(Service *s, uint64_t offset)
{
    void *host = s->block.host + offset;
    gpointer stamp;

    QEMU_LOCK_GUARD(&s->page_request_mutex);
    stamp = g_tree_lookup(s->page_requested, host);
    set_bit_atomic(offset / s->block.page_bytes, s->block.present);
    if (g_tree_lookup(s->page_requested, host)) {
        g_tree_remove(s->page_requested, host);
    }
    return stamp;
}

static void pages_present(Service *s, uint64_t offset)
{
    smp_mb();
    userfault_map_clear(s->views, &s->block, offset, s->block.page_bytes);
}

void service_arrived(Service *s, uint64_t offset, const uint8_t *from,
                     bool more)
{
    if (!qatomic_read(&s->serving) || !more ||
        !postcopy_wait_give(s->waits, (uintptr_t)s->block.host + offset, from,
                            s->block.page_bytes)) {
        place(s, offset, from);
    }
}

void service_placed(Service *s, uint64_t offset)
{
    gpointer stamp = set_present(s, offset);
    bool for_vcpu = false;

    if (qatomic_read(&s->serving)) {
        Block *b = g_hash_table_lookup(s->blocks, &s->block);

        pages_present(s, offset);
        for_vcpu = postcopy_wait_wake(s->waits,
                                      (uintptr_t)b->host + offset) ||
                   (!stamp && postcopy_request_claimed(&b->map, offset));
    }

    QEMU_LOCK_GUARD(&s->stats_lock);
    if (stamp) {
        postcopy_latency_add(&s->stats.uffd_latency,
                             clock_ns(CLOCK_MONOTONIC) - (int64_t)(uintptr_t)stamp);
    }
    postcopy_count(for_vcpu ? &s->stats.pages_vcpu :
                   stamp ? &s->stats.pages_userfaultfd :
                   &s->stats.pages_background, 1);
}

/* ------------------------------------------------------------------------- */
/* Start and stop */

static gint compare_address(gconstpointer a, gconstpointer b)
{
    return (a > b) - (a < b);
}

static void add_views(Service *s)
{
    uint64_t half = s->block.bytes / PAGE_BYTES / 2 * PAGE_BYTES;
    unsigned i;

    for (i = 0; i < VIEWS; i++) {
        uint64_t start = i % 2 ? half : 0;
        uint64_t size = i % 2 ? s->block.bytes - half : half;
        UserfaultMap *old = s->views;

        if (size) {
            s->views = userfault_map_add(old, userfault_view_new(
                (i / 2) << 16 | i, start, size, &s->block, start, &s->block,
                PAGE_BYTES));
            g_free(old);
        }
    }
}

void service_init(Service *s, uint8_t *host, uint64_t bytes, unsigned vcpus,
                  int sock, bool serving)
{
    service_init_pages(s, host, bytes, PAGE_BYTES, vcpus, sock, serving);
}

void service_init_pages(Service *s, uint8_t *host, uint64_t bytes,
                        uint64_t page_bytes, unsigned vcpus, int sock,
                        bool serving)
{
    qemu_mutex_init(&s->rp_mutex);
    qemu_mutex_init(&s->page_request_mutex);
    qemu_mutex_init(&s->stats_lock);
    s->block.host = host;
    s->block.bytes = bytes;
    s->block.page_bytes = page_bytes;
    s->block.present = bitmap_new(bytes / page_bytes);
    if (!postcopy_request_map_init(&s->block.map, bytes, page_bytes)) {
        g_error("no memory for the map of requests");
    }
    s->serving = serving;
    s->sock = sock;
    s->event_fd = eventfd(0, EFD_CLOEXEC);
    g_assert(s->event_fd >= 0);
    s->buffer = g_malloc(BUFFER_BYTES);
    s->page_requested = g_tree_new(compare_address);
    s->blocks = g_hash_table_new(NULL, NULL);
    g_hash_table_insert(s->blocks, &s->block, &s->block);
    add_views(s);
    s->waits = postcopy_wait_table_new(vcpus);
    s->queue = postcopy_request_queue_new(&request_ops, s);
}

void service_destroy(Service *s)
{
    unsigned i;

    postcopy_request_queue_free(s->queue);
    postcopy_wait_table_free(s->waits);
    for (i = 0; i < s->views->nr; i++) {
        userfault_view_free(s->views->view[i]);
    }
    g_free(s->views);
    g_hash_table_unref(s->blocks);
    g_tree_destroy(s->page_requested);
    g_free(s->buffer);
    close(s->event_fd);
    postcopy_request_map_destroy(&s->block.map);
    g_free(s->block.present);
    qemu_mutex_destroy(&s->stats_lock);
    qemu_mutex_destroy(&s->page_request_mutex);
    qemu_mutex_destroy(&s->rp_mutex);
}
