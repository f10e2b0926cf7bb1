/*
 * Do waits and wakes stay exact when threads enter, leave and wake at once?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "postcopy-wait.h"
#include "unit.h"

#define PAGE 4096ull
#define PAGES 8         /* the odd ones are never woken */
#define WAITERS 12
#define WAKERS 2

typedef struct Crowd {
    PostcopyWaitTable *table;
    UnitMeeting meeting;
    pthread_t waiter[WAITERS];
    unsigned rounds;
    unsigned running;
    unsigned woken[WAITERS];
    unsigned left_early[WAITERS];
} Crowd;

static __thread QemuPark own_park;

static void on_signal(int signo)
{
    qemu_park_kick(&own_park);
}

static void one_wait(Crowd *c, unsigned number, uint32_t *chance)
{
    unsigned page = unit_random(chance) % PAGES;
    PostcopyWaiter waiter;
    unsigned i, idle;
    bool woken;

    qemu_park_reset(&own_park);
    postcopy_wait_begin(c->table, &waiter, page * PAGE, &own_park, NULL);
    /* Leave at once, a little later, or when woken or kicked. */
    switch (unit_random(chance) % 4) {
    case 0:
        break;
    case 1:
        sched_yield();
        break;
    default:
        qemu_park_sleep(&own_park);
        break;
    }
    woken = postcopy_wait_end(c->table, &waiter);
    /* Whoever still touched it would find something else. */
    memset(&waiter, 0xa5, sizeof(waiter));

    g_assert_cmpint(!!(qemu_park_state(&own_park) & QEMU_PARK_DONE), ==,
                    woken);
    if (woken) {
        g_assert_cmpuint(page % 2, ==, 0);
        c->woken[number]++;
        return;
    }
    c->left_early[number]++;
    /* No DONE for this wait any more: it would end the next one. */
    idle = unit_random(chance) % 64;
    for (i = 0; i < idle; i++) {
        g_assert_cmphex(qemu_park_state(&own_park) & QEMU_PARK_DONE, ==, 0);
    }
}

static void crowd_wait(Crowd *c, unsigned number)
{
    uint32_t chance = number + 1;
    unsigned i;

    for (i = 0; i < c->rounds; i++) {
        one_wait(c, number, &chance);
    }
    qatomic_dec(&c->running);
}

static void crowd_wake(Crowd *c, unsigned number)
{
    uint32_t chance = 1000 + number;

    while (qatomic_read(&c->running)) {
        unsigned page = unit_random(&chance) % PAGES & ~1u;

        postcopy_wait_wake(c->table, page * PAGE);
        if (chance % 16 == 0) {
            sched_yield();
        }
    }
}

static void crowd_kick(Crowd *c)
{
    uint32_t chance = 99;
    unsigned i;

    while (qatomic_read(&c->running)) {
        for (i = 0; i < WAITERS; i++) {
            if (unit_random(&chance) % 2) {
                pthread_kill(c->waiter[i], SIGUSR1);
            }
        }
        g_usleep(100);
    }
}

static void crowd_thread(unsigned number, void *opaque)
{
    Crowd *c = opaque;

    if (number < WAITERS) {
        c->waiter[number] = pthread_self();
        unit_allow_signal(SIGUSR1);
    }
    unit_meet(&c->meeting);
    if (number < WAITERS) {
        crowd_wait(c, number);
    } else if (number < WAITERS + WAKERS) {
        crowd_wake(c, number);
    } else {
        crowd_kick(c);
    }
    /* Nobody is kicked after its end. */
    unit_meet(&c->meeting);
}

/* @threads: given to the table; 1 means few buckets */
static void test_crowd(gconstpointer threads)
{
    struct sigaction action = { .sa_handler = on_signal };
    Crowd c = {
        .meeting.threads = WAITERS + WAKERS + 1,
        .rounds = unit_rounds(4000),
        .running = WAITERS,
    };
    unsigned i;

    sigemptyset(&action.sa_mask);
    g_assert_cmpint(sigaction(SIGUSR1, &action, NULL), ==, 0);
    c.table = postcopy_wait_table_new(GPOINTER_TO_UINT(threads));
    unit_threads(c.meeting.threads, crowd_thread, &c);
    for (i = 0; i < WAITERS; i++) {
        g_assert_cmpuint(c.woken[i], >, 0);
        g_assert_cmpuint(c.left_early[i], >, 0);
        g_assert_cmpuint(c.woken[i] + c.left_early[i], ==, c.rounds);
    }
    g_assert_cmpuint(postcopy_wait_wake_all(c.table), ==, 0);
    postcopy_wait_table_free(c.table);
}

/* Threads enter while the service ends: seen by wake_all, or they see it. */
typedef struct End {
    PostcopyWaitTable *table;
    UnitMeeting meeting;
    unsigned rounds;
    bool serving;
} End;

static void end_thread(unsigned number, void *opaque)
{
    End *e = opaque;
    unsigned i;

    for (i = 0; i < e->rounds; i++) {
        if (number == 0) {
            qatomic_set(&e->serving, true);
        }
        unit_meet(&e->meeting);
        if (number == 0) {
            qatomic_set(&e->serving, false);
            postcopy_wait_wake_all(e->table);
        } else {
            PostcopyWaiter waiter;

            qemu_park_reset(&own_park);
            postcopy_wait_begin(e->table, &waiter, number * PAGE, &own_park,
                                NULL);
            if (qatomic_read(&e->serving)) {
                g_assert_cmphex(qemu_park_sleep(&own_park), ==,
                                QEMU_PARK_DONE);
                g_assert_true(postcopy_wait_end(e->table, &waiter));
            } else {
                postcopy_wait_end(e->table, &waiter);
            }
        }
        unit_meet(&e->meeting);
    }
}

static void test_end(void)
{
    End e = {
        .meeting.threads = 4, .rounds = unit_rounds(10000),
    };

    e.table = postcopy_wait_table_new(1);
    unit_threads(e.meeting.threads, end_thread, &e);
    postcopy_wait_table_free(e.table);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    unit_add_number("/wait-table/crowd-leaves-early/no-wake-up-leaks", 1,
                    test_crowd);
    unit_add_number("/wait-table/crowd-leaves-early/no-wake-up-leaks", 4096,
                    test_crowd);
    unit_add("/wait-table/end-of-service/nobody-sleeps-on", test_end);
    return g_test_run();
}
