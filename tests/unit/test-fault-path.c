/*
 * Do all threads get their pages, each page asked for once, whatever races?
 *
 * vCPU threads fault at random on the pages of a block, loaders place what
 * was asked for and, in the background, everything else; signals break waits.
 * A device wants each page at the moment at which the first vCPU does; its
 * faults are the fault thread's, which is one of the loaders here.  Every
 * other vCPU asks for the pages after its page, too, so that the others meet
 * pages on their way.  The steps are those of migration/postcopy-userfault.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/lockable.h"
#include "postcopy-request.h"
#include "postcopy-wait.h"
#include "unit.h"

#define PAGE 4096ull
#define LOADERS 2
#define AHEAD 4

typedef struct Block {
    unsigned pages;
    unsigned long *present;
    PostcopyRequestMap map;
    /* Written by the one who places the page, read by all after PRESENT */
    unsigned *content;
} Block;

typedef struct Run {
    Block b;
    PostcopyWaitTable *waits;
    PostcopyRequestQueue *queue;
    UnitMeeting meeting;
    unsigned vcpus;
    bool background;
    bool kicks;
    bool ahead;
    bool gives;                 /* a page to a vCPU, for it to place */
    pthread_t *vcpu;
    unsigned running;
    unsigned told, heard;
    unsigned broken, given;
    /* A page that the device waits for, plus 1; the fault thread sets 0 */
    unsigned device_page;
    unsigned device_faults, device_met_vcpu;
    QemuMutex channel;
    /* Under channel: what the source was asked for */
    unsigned *asked;
    unsigned *stream;
    unsigned put, taken;
    uint32_t chance;
    /* Under place_lock, as the kernel places a page once */
    QemuMutex place_lock;
} Run;

static __thread QemuPark own_park;

static void on_signal(int signo)
{
    qemu_park_kick(&own_park);
}

static bool channel_lock(void *opaque, bool may_block)
{
    Run *r = opaque;

    if (may_block) {
        qemu_mutex_lock(&r->channel);
    } else if (qemu_mutex_trylock(&r->channel)) {
        return false;
    } else if (unit_random(&r->chance) % 8 == 0) {
        qemu_mutex_unlock(&r->channel);
        return false;
    }
    return true;
}

static bool channel_write(void *opaque, const PostcopyRequestList *list)
{
    Run *r = opaque;
    PostcopyRequest *req;

    QSLIST_FOREACH(req, list, next) {
        unsigned page = req->offset / PAGE;
        unsigned end = page + req->length / PAGE;

        g_assert_true(req->block == &r->b);
        g_assert_cmpuint(end, >, page);
        g_assert_cmpuint(end, <=, r->b.pages);
        g_assert_true(end == page + 1 || req->ahead);
        for (; page < end; page++) {
            g_assert_cmpuint(++r->asked[page], ==, 1);
            r->stream[r->put++] = page;
        }
    }
    return true;
}

static void channel_unlock(void *opaque)
{
    Run *r = opaque;

    qemu_mutex_unlock(&r->channel);
}

static const PostcopyRequestOps ops = {
    .lock = channel_lock, .write = channel_write, .unlock = channel_unlock,
};

static bool page_present(Block *b, unsigned page)
{
    return qatomic_load_acquire(&b->present[BIT_WORD(page)]) & BIT_MASK(page);
}

/* Returns whether something was queued: the run of pages after @page. */
static bool ask_ahead(Run *r, unsigned page)
{
    unsigned first = page + 1, end;

    if (!postcopy_request_reserve(r->queue, 1)) {
        return false;
    }
    for (end = first; end < MIN(first + AHEAD, r->b.pages); end++) {
        if (page_present(&r->b, end) ||
            !postcopy_request_claim_ahead(&r->b.map, end * PAGE)) {
            break;
        }
    }
    if (end == first) {
        postcopy_request_unreserve(r->queue, 1);
        return false;
    }
    postcopy_request_push_ahead(r->queue, &r->b, first * PAGE,
                                (end - first) * PAGE);
    return true;
}

static void place(Run *r, unsigned page, unsigned content)
{
    WITH_QEMU_LOCK_GUARD(&r->place_lock) {
        if (page_present(&r->b, page)) {
            return;
        }
        r->b.content[page] = content;
        set_bit_atomic(page, r->b.present);
    }
    postcopy_wait_wake(r->waits, page * PAGE);
}

/* A loader has read it. */
static void arrived(Run *r, unsigned page)
{
    unsigned content = page + 1;

    if (postcopy_wait_give(r->waits, page * PAGE, &content, sizeof(content))) {
        qatomic_inc(&r->given);
    } else {
        place(r, page, content);
    }
}

static bool end_wait(Run *r, unsigned page, PostcopyWaiter *waiter,
                     PostcopyHandover *handover)
{
    bool ended = postcopy_wait_end(r->waits, waiter);

    if (qatomic_read(&handover->given)) {
        g_assert_false(handover->zero);
        place(r, page, *(unsigned *)handover->page);
        qatomic_store_release(&handover->given, false);
    }
    return ended;
}

static bool fault(Run *r, unsigned number, unsigned page, uint32_t *chance)
{
    unsigned content = 0;
    PostcopyHandover handover = { .page = (uint8_t *)&content };
    PostcopyWaiter waiter;
    bool queued = false;

    qemu_park_reset(&own_park);
    postcopy_wait_begin(r->waits, &waiter, page * PAGE, &own_park,
                        r->gives ? &handover : NULL);
    if (page_present(&r->b, page)) {
        end_wait(r, page, &waiter, &handover);
        return true;
    }
    if (postcopy_request_claim(&r->b.map, page * PAGE)) {
        postcopy_request_push(r->queue, &r->b, page * PAGE, PAGE);
        queued = true;
    }
    if (r->ahead && number % 2 == 0) {
        queued |= ask_ahead(r, page);
    }
    if (queued && postcopy_request_flush(r->queue, false) ==
                  POSTCOPY_SEND_WOULD_BLOCK) {
        qatomic_inc(&r->told);
    }
    if (r->kicks && unit_random(chance) % 16 == 0) {
        raise(SIGUSR1);
    }
    qemu_park_sleep(&own_park);
    return end_wait(r, page, &waiter, &handover);
}

static void run_vcpu(Run *r, unsigned number)
{
    uint32_t chance = number + 1;
    unsigned i, page;

    for (i = 0; i < r->b.pages; i++) {
        page = unit_random(&chance) % r->b.pages;
        if (number == 0 && !page_present(&r->b, page)) {
            qatomic_store_release(&r->device_page, page + 1);
        }
        while (!page_present(&r->b, page)) {
            if (!fault(r, number, page, &chance)) {
                qatomic_inc(&r->broken);
            }
        }
        g_assert_cmpuint(r->b.content[page], ==, page + 1);
        while (number == 0 && qatomic_load_acquire(&r->device_page)) {
            sched_yield();
        }
    }
    qatomic_dec(&r->running);
}

/* The fault thread learns what the device waits for. */
static void serve_device(Run *r)
{
    unsigned page = qatomic_load_acquire(&r->device_page);

    if (!page--) {
        return;
    }
    r->device_faults++;
    if (!page_present(&r->b, page)) {
        if (postcopy_request_claim(&r->b.map, page * PAGE)) {
            postcopy_request_push(r->queue, &r->b, page * PAGE, PAGE);
            g_assert_cmpint(postcopy_request_flush(r->queue, true), ==,
                            POSTCOPY_SEND_DONE);
        } else {
            r->device_met_vcpu++;
        }
    }
    qatomic_store_release(&r->device_page, 0);
}

/* Also plays the fault thread, which sends what vCPUs could not. */
static void run_loader(Run *r, unsigned number)
{
    unsigned next = number, told;
    unsigned ahead = 0;
    int page;

    while (qatomic_read(&r->running)) {
        if (number == 0) {
            serve_device(r);
        }
        told = qatomic_load_acquire(&r->told);
        if (number == 0 && told != r->heard) {
            g_assert_cmpint(postcopy_request_flush(r->queue, true), ==,
                            POSTCOPY_SEND_DONE);
            r->heard = told;
        }
        page = -1;
        WITH_QEMU_LOCK_GUARD(&r->channel) {
            if (r->taken < r->put) {
                page = r->stream[r->taken++];
            }
            /* As fast as the pages that were asked for, not faster */
            ahead = 2 * r->taken + 16;
        }
        if (page >= 0) {
            arrived(r, page);
        } else if (r->background && next < MIN(ahead, r->b.pages)) {
            arrived(r, next);
            next += LOADERS;
        } else {
            sched_yield();
        }
    }
}

static void run_kicker(Run *r)
{
    unsigned i;

    while (qatomic_read(&r->running)) {
        for (i = 0; i < r->vcpus; i++) {
            pthread_kill(r->vcpu[i], SIGUSR1);
        }
        g_usleep(200);
    }
}

static void run_thread(unsigned number, void *opaque)
{
    Run *r = opaque;

    if (number < r->vcpus) {
        r->vcpu[number] = pthread_self();
        unit_allow_signal(SIGUSR1);
    }
    unit_meet(&r->meeting);
    if (number < r->vcpus) {
        run_vcpu(r, number);
    } else if (number < r->vcpus + LOADERS) {
        run_loader(r, number - r->vcpus);
    } else {
        run_kicker(r);
    }
    unit_meet(&r->meeting);
}

static void run(unsigned vcpus, bool background, bool kicks, bool ahead,
                bool gives)
{
    unsigned pages = MAX(unit_rounds(20000) / vcpus, 64), i, early = 0;
    Run r = {
        .b.pages = pages, .vcpus = vcpus, .running = vcpus,
        .background = background, .kicks = kicks, .ahead = ahead,
        .gives = gives, .chance = 1,
        .meeting.threads = vcpus + LOADERS + kicks,
    };

    qemu_mutex_init(&r.channel);
    qemu_mutex_init(&r.place_lock);
    r.b.present = bitmap_new(pages);
    r.b.content = g_new0(unsigned, pages);
    r.asked = g_new0(unsigned, pages);
    r.stream = g_new0(unsigned, pages);
    r.vcpu = g_new0(pthread_t, vcpus);
    g_assert_true(postcopy_request_map_init(&r.b.map, pages * PAGE, PAGE));
    r.waits = postcopy_wait_table_new(vcpus);
    r.queue = postcopy_request_queue_new(&ops, &r);

    unit_threads(r.meeting.threads, run_thread, &r);
    if (r.told != r.heard) {
        /* Handed over last, for a page that came by itself meanwhile. */
        postcopy_request_flush(r.queue, true);
    }
    while (r.taken < r.put) {
        /* Asked for ahead, and no vCPU has come to it. */
        arrived(&r, r.stream[r.taken++]);
    }

    for (i = 0; i < pages; i++) {
        bool claimed = postcopy_request_claimed(&r.b.map, i * PAGE);

        g_assert_cmpuint(r.asked[i], ==, claimed);
        if (claimed) {
            g_assert_true(page_present(&r.b, i));
        }
        early += postcopy_request_is_ahead(&r.b.map, i * PAGE);
    }
    g_assert_cmpuint(postcopy_wait_wake_all(r.waits), ==, 0);
    g_assert_cmpuint(r.put, >, 0);
    g_assert_cmpint(early > 0, ==, ahead);
    g_assert_cmpint(r.given > 0, ==, gives);
    if (kicks && r.put > 500) {
        g_assert_cmpuint(r.broken, >, 0);
    }
    if (vcpus == 1 && !background) {
        g_assert_cmpuint(r.device_met_vcpu, >, 0);
    }
    g_test_message("%u pages, %u asked for, %u given, %u waits broken, device: "
                   "%u faults, %u of them for a page a vCPU had asked for",
                   pages, r.put, r.given, r.broken, r.device_faults,
                   r.device_met_vcpu);
    postcopy_request_queue_free(r.queue);
    postcopy_wait_table_free(r.waits);
    postcopy_request_map_destroy(&r.b.map);
    g_free(r.vcpu);
    g_free(r.stream);
    g_free(r.asked);
    g_free(r.b.content);
    g_free(r.b.present);
    qemu_mutex_destroy(&r.place_lock);
    qemu_mutex_destroy(&r.channel);
}

static void test_on_demand(gconstpointer vcpus)
{
    run(GPOINTER_TO_UINT(vcpus), false, false, false, false);
}

static void test_given(gconstpointer vcpus)
{
    run(GPOINTER_TO_UINT(vcpus), false, false, false, true);
}

static void test_ahead(gconstpointer vcpus)
{
    run(GPOINTER_TO_UINT(vcpus), false, false, true, false);
}

static void test_ahead_kicked(gconstpointer vcpus)
{
    run(GPOINTER_TO_UINT(vcpus), true, true, true, true);
}

static void test_background(gconstpointer vcpus)
{
    run(GPOINTER_TO_UINT(vcpus), true, false, false, true);
}

static void test_kicked(gconstpointer vcpus)
{
    run(GPOINTER_TO_UINT(vcpus), true, true, false, true);
}

int main(int argc, char **argv)
{
    static const unsigned vcpus[] = { 1, 2, 8, 64 };
    struct sigaction action = { .sa_handler = on_signal };
    unsigned i;

    unit_init(&argc, &argv, 120);
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    for (i = 0; i < ARRAY_SIZE(vcpus); i++) {
        unit_add_number("/fault-path/on-demand/all-served-asked-once",
                        vcpus[i], test_on_demand);
        unit_add_number("/fault-path/given/all-served-asked-once",
                        vcpus[i], test_given);
        unit_add_number("/fault-path/background-too/all-served-asked-once",
                        vcpus[i], test_background);
        unit_add_number("/fault-path/waits-broken/all-served-asked-once",
                        vcpus[i], test_kicked);
        unit_add_number("/fault-path/some-ask-ahead/all-served-asked-once",
                        vcpus[i], test_ahead);
        unit_add_number("/fault-path/all-of-it/all-served-asked-once",
                        vcpus[i], test_ahead_kicked);
    }
    return g_test_run();
}
