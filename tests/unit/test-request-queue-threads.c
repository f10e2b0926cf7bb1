/*
 * Is every request sent, and once, when threads that may not wait send them?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "postcopy-request.h"
#include "unit.h"

/*
 * Pushers play vCPUs: they never wait and leave what they cannot send to the
 * fault thread, which sends when it was told to, and only then.
 */
typedef struct Stress {
    PostcopyRequestQueue *queue;
    UnitMeeting meeting;        /* pushers only */
    unsigned pushers;
    unsigned rounds;
    unsigned refuse_percent;
    bool over;
    unsigned told;              /* by pushers, atomically */
    unsigned heard;             /* by the fault thread */
    unsigned handoffs;
    QemuMutex channel;
    /* Under channel */
    uint32_t chance;
    uint64_t *last;             /* of each pusher: the number last sent */
    unsigned writes;
    uint64_t sent;
} Stress;

static bool stress_lock(void *opaque, bool may_block)
{
    Stress *s = opaque;

    if (may_block) {
        qemu_mutex_lock(&s->channel);
        return true;
    }
    if (qemu_mutex_trylock(&s->channel)) {
        return false;
    }
    if (unit_random(&s->chance) % 100 < s->refuse_percent) {
        qemu_mutex_unlock(&s->channel);
        return false;
    }
    return true;
}

static bool stress_write(void *opaque, const PostcopyRequestList *list)
{
    Stress *s = opaque;
    PostcopyRequest *req;

    QSLIST_FOREACH(req, list, next) {
        uint64_t *last = req->block;

        /* Each pusher counts: no number twice, none out of order. */
        g_assert_cmpuint(req->offset, ==, *last + 1);
        *last = req->offset;
        qatomic_set(&s->sent, s->sent + 1);
    }
    s->writes++;
    return true;
}

static void stress_unlock(void *opaque)
{
    Stress *s = opaque;

    qemu_mutex_unlock(&s->channel);
}

static const PostcopyRequestOps ops = {
    .lock = stress_lock, .write = stress_write, .unlock = stress_unlock,
};

static void fault_thread(Stress *s)
{
    while (!qatomic_read(&s->over)) {
        unsigned told = qatomic_load_acquire(&s->told);

        if (told == qatomic_read(&s->heard)) {
            sched_yield();
            continue;
        }
        g_assert_cmpint(postcopy_request_flush(s->queue, true), ==,
                        POSTCOPY_SEND_DONE);
        qatomic_store_release(&s->heard, told);
    }
}

static void push_one(Stress *s, unsigned number, uint64_t value)
{
    postcopy_request_push(s->queue, &s->last[number], value, 1);
    switch (postcopy_request_flush(s->queue, false)) {
    case POSTCOPY_SEND_WOULD_BLOCK:
        qatomic_inc(&s->handoffs);
        qatomic_inc(&s->told);
        break;
    case POSTCOPY_SEND_FAILED:
        g_assert_not_reached();
    default:
        break;
    }
}

static void pusher(Stress *s, unsigned number)
{
    uint32_t chance = number + 1;
    uint64_t value = 0;

    for (unsigned round = 1; round <= s->rounds; round++) {
        unsigned delay = unit_random(&chance) % 64;

        unit_meet(&s->meeting);
        while (delay--) {
            cpu_relax();
        }
        push_one(s, number, ++value);
        unit_meet(&s->meeting);
        /* All have pushed and flushed.  Nothing may be left in the queue. */
        if (number == 0) {
            while (qatomic_load_acquire(&s->heard) !=
                   qatomic_read(&s->told)) {
                sched_yield();
            }
            g_assert_cmpuint(qatomic_read(&s->sent), ==,
                             (uint64_t)round * s->pushers);
        }
    }
    unit_meet(&s->meeting);
    qatomic_set(&s->over, true);
}

static void stress_thread(unsigned number, void *opaque)
{
    Stress *s = opaque;

    if (number < s->pushers) {
        pusher(s, number);
    } else {
        fault_thread(s);
    }
}

static void run_stress(unsigned pushers, unsigned rounds, unsigned refuse)
{
    Stress s = {
        .meeting.threads = pushers, .pushers = pushers,
        .rounds = unit_rounds(rounds), .refuse_percent = refuse, .chance = 1,
    };

    qemu_mutex_init(&s.channel);
    s.last = g_new0(uint64_t, pushers);
    s.queue = postcopy_request_queue_new(&ops, &s);
    unit_threads(pushers + 1, stress_thread, &s);
    g_assert_cmpuint(s.writes, <=, s.sent);
    if (refuse) {
        g_assert_cmpuint(s.handoffs, >, 0);
    }
    g_test_message("%u rounds of %u, %u writes, %u handed over", s.rounds,
                   pushers, s.writes, s.handoffs);
    postcopy_request_queue_free(s.queue);
    qemu_mutex_destroy(&s.channel);
    g_free(s.last);
}

static void test_free_channel(gconstpointer pushers)
{
    unsigned n = GPOINTER_TO_UINT(pushers);

    run_stress(n, n > 2 ? 2000 : 20000, 0);
}

static void test_busy_channel(gconstpointer pushers)
{
    unsigned n = GPOINTER_TO_UINT(pushers);

    run_stress(n, n > 2 ? 2000 : 20000, 30);
}

/* Nobody sends: all pushes meet at the head of the list. */
static void push_thread(unsigned number, void *opaque)
{
    Stress *s = opaque;

    for (unsigned i = 1; i <= s->rounds; i++) {
        postcopy_request_push(s->queue, &s->last[number], i, 1);
    }
}

static void test_pushes(gconstpointer pushers)
{
    Stress s = {
        .pushers = GPOINTER_TO_UINT(pushers), .rounds = unit_rounds(40000),
    };

    qemu_mutex_init(&s.channel);
    s.last = g_new0(uint64_t, s.pushers);
    s.queue = postcopy_request_queue_new(&ops, &s);
    unit_threads(s.pushers, push_thread, &s);
    g_assert_cmpint(postcopy_request_flush(s.queue, true), ==,
                    POSTCOPY_SEND_DONE);
    g_assert_cmpuint(s.sent, ==, (uint64_t)s.pushers * s.rounds);
    g_assert_cmpuint(s.writes, ==, 1);
    postcopy_request_queue_free(s.queue);
    qemu_mutex_destroy(&s.channel);
    g_free(s.last);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    unit_add_number("/request-queue/pushes-only/none-lost", 2, test_pushes);
    unit_add_number("/request-queue/pushes-only/none-lost", 8, test_pushes);
    unit_add_number("/request-queue/pushers-at-once/none-stranded", 2,
                    test_free_channel);
    unit_add_number("/request-queue/pushers-at-once/none-stranded", 8,
                    test_free_channel);
    unit_add_number("/request-queue/channel-often-full/none-stranded", 2,
                    test_busy_channel);
    unit_add_number("/request-queue/channel-often-full/none-stranded", 8,
                    test_busy_channel);
    return g_test_run();
}
