/*
 * Does every reason to end a sleep end it, whenever it comes?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "unit.h"

/* park.h enters the kernel through this: a look into the last window. */
static __thread void (*before_futex)(void);
static __thread unsigned futex_calls;

static long hooked_syscall(long number, void *word, int op, unsigned value,
                           void *timeout, void *word2, unsigned value3)
{
    void (*hook)(void) = before_futex;

    futex_calls++;
    before_futex = NULL;
    if (hook) {
        hook();
    }
    return syscall(number, word, op, value, timeout, word2, value3);
}

#define syscall hooked_syscall
#include "qemu/park.h"
#undef syscall

static __thread QemuPark *own_park;

static void on_signal(int signo)
{
    qemu_park_kick(own_park);
}

static void handle_signal(int flags)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };

    sigemptyset(&action.sa_mask);
    g_assert_cmpint(sigaction(SIGUSR1, &action, NULL), ==, 0);
}

static void raise_signal(void)
{
    raise(SIGUSR1);
}

/* The thread sanitizer runs handlers at its next convenience only. */
static bool skip_late_handlers(void)
{
    if (UNIT_TSAN) {
        g_test_skip("the thread sanitizer delays signal handlers");
    }
    return UNIT_TSAN;
}

static void test_done_first(void)
{
    QemuPark park;

    qemu_park_reset(&park);
    g_assert_cmphex(qemu_park_state(&park), ==, 0);
    qemu_park_done(&park);
    futex_calls = 0;
    g_assert_cmphex(qemu_park_sleep(&park), ==, QEMU_PARK_DONE);
    g_assert_cmpuint(futex_calls, ==, 0);
}

static void test_both(void)
{
    QemuPark park;

    qemu_park_reset(&park);
    qemu_park_kick(&park);
    qemu_park_done(&park);
    g_assert_cmphex(qemu_park_sleep(&park), ==,
                    QEMU_PARK_DONE | QEMU_PARK_KICKED);
    g_assert_cmphex(qemu_park_state(&park), ==,
                    QEMU_PARK_DONE | QEMU_PARK_KICKED);
    qemu_park_reset(&park);
    g_assert_cmphex(qemu_park_state(&park), ==, 0);
    qemu_park_done(&park);
    qemu_park_kick(&park);
    g_assert_cmphex(qemu_park_sleep(&park), ==,
                    QEMU_PARK_DONE | QEMU_PARK_KICKED);
}

static void test_kick_before_sleep(void)
{
    QemuPark park;

    own_park = &park;
    handle_signal(0);
    qemu_park_reset(&park);
    raise(SIGUSR1);
    g_assert_cmphex(qemu_park_sleep(&park), ==, QEMU_PARK_KICKED);
}

static void test_kick_in_window(void)
{
    QemuPark park;

    own_park = &park;
    handle_signal(SA_RESTART);
    qemu_park_reset(&park);
    before_futex = raise_signal;
    futex_calls = 0;
    g_assert_cmphex(qemu_park_sleep(&park), ==, QEMU_PARK_KICKED);
    g_assert_cmpuint(futex_calls, ==, 1);
}

/* One thread that sleeps, seen from another */
typedef struct Sleeper {
    QemuThread thread;
    QemuPark park;
    pid_t tid;
    uint32_t bits;
    bool left;
} Sleeper;

static void *sleeper_run(void *opaque)
{
    Sleeper *s = opaque;

    own_park = &s->park;
    unit_allow_signal(SIGUSR1);
    qemu_park_reset(&s->park);
    qatomic_store_release(&s->tid, syscall(__NR_gettid));
    s->bits = qemu_park_sleep(&s->park);
    qatomic_store_release(&s->left, true);
    return NULL;
}

static void sleeper_start(Sleeper *s)
{
    pid_t tid;

    qemu_thread_create(&s->thread, "sleeper", sleeper_run, s,
                       QEMU_THREAD_JOINABLE);
    while (!(tid = qatomic_load_acquire(&s->tid))) {
        sched_yield();
    }
    unit_until_asleep(tid);
}

static void sleeper_end(Sleeper *s, uint32_t bits)
{
    qemu_thread_join(&s->thread);
    g_assert_cmphex(s->bits, ==, bits);
}

static void test_done_during_sleep(void)
{
    Sleeper s = { 0 };

    sleeper_start(&s);
    qemu_park_done(&s.park);
    qemu_park_wake(&s.park);
    sleeper_end(&s, QEMU_PARK_DONE);
}

/* What a late futex wake, meant for an earlier wait, does */
static void test_stale_wake(void)
{
    Sleeper s = { 0 };
    unsigned i;

    sleeper_start(&s);
    for (i = 0; i < 100; i++) {
        qemu_park_wake(&s.park);
    }
    unit_until_asleep(s.tid);
    g_assert_false(qatomic_load_acquire(&s.left));
    qemu_park_done(&s.park);
    qemu_park_wake(&s.park);
    sleeper_end(&s, QEMU_PARK_DONE);
}

static void kick_during_sleep(int flags)
{
    Sleeper s = { 0 };

    if (skip_late_handlers()) {
        return;
    }
    handle_signal(flags);
    sleeper_start(&s);
    g_assert_cmpint(pthread_kill(s.thread.thread, SIGUSR1), ==, 0);
    sleeper_end(&s, QEMU_PARK_KICKED);
}

static void test_kick_interrupts(void)
{
    kick_during_sleep(0);
}

static void test_kick_restarts(void)
{
    kick_during_sleep(SA_RESTART);
}

/*
 * A parker, a waker and a storm of signals.  As in the wait table, the waker
 * sets DONE under the lock that the parker takes to leave early.
 */
typedef struct Storm {
    UnitMeeting meeting;
    QemuPark park;
    pthread_t parker;
    unsigned rounds;
    bool over;
    QemuMutex lock;
    /* Under lock */
    unsigned asked;
    unsigned answered;
    /* The parker's */
    unsigned kicks;
    /* Written by the waker before DONE, read by the parker after it */
    unsigned payload;
} Storm;

static void storm_park(Storm *s)
{
    unsigned turn = 0;

    while (turn < s->rounds) {
        uint32_t bits;
        bool answered;

        qemu_park_reset(&s->park);
        WITH_QEMU_LOCK_GUARD(&s->lock) {
            s->asked = turn + 1;
        }
        bits = qemu_park_sleep(&s->park);
        WITH_QEMU_LOCK_GUARD(&s->lock) {
            answered = s->answered == turn + 1;
            s->asked = 0;
        }
        if (bits & QEMU_PARK_DONE) {
            g_assert_true(answered);
            g_assert_cmpuint(s->payload, ==, turn + 1);
        }
        s->kicks += !!(bits & QEMU_PARK_KICKED);
        turn += answered;
    }
    qatomic_set(&s->over, true);
}

static void storm_wake(Storm *s)
{
    while (!qatomic_read(&s->over)) {
        bool wake = false;

        WITH_QEMU_LOCK_GUARD(&s->lock) {
            if (s->asked && s->asked != s->answered) {
                s->payload = s->asked;
                s->answered = s->asked;
                qemu_park_done(&s->park);
                wake = true;
            }
        }
        if (wake) {
            qemu_park_wake(&s->park);
        } else {
            sched_yield();
        }
    }
}

static void storm_thread(unsigned number, void *opaque)
{
    Storm *s = opaque;

    if (number == 0) {
        own_park = &s->park;
        s->parker = pthread_self();
        unit_allow_signal(SIGUSR1);
    }
    unit_meet(&s->meeting);
    if (number == 0) {
        storm_park(s);
    } else if (number == 1) {
        storm_wake(s);
    } else {
        while (!qatomic_read(&s->over)) {
            pthread_kill(s->parker, SIGUSR1);
            g_usleep(30);
        }
    }
    /* The storm ends before its target does. */
    unit_meet(&s->meeting);
}

static void test_storm(void)
{
    Storm s = { .meeting.threads = 3, .rounds = 100000 };

    handle_signal(0);
    qemu_mutex_init(&s.lock);
    unit_threads(3, storm_thread, &s);
    qemu_mutex_destroy(&s.lock);
    g_assert_cmpuint(s.answered, ==, s.rounds);
    g_assert_cmpuint(s.kicks, >, 10);
}

/* Exactly one kick for each sleep, at any point of it */
typedef struct Single {
    UnitMeeting meeting;
    QemuPark park;
    pthread_t parker;
    unsigned rounds;
    unsigned turn;
    unsigned left;
} Single;

static void single_thread(unsigned number, void *opaque)
{
    Single *s = opaque;
    uint32_t chance = 1;

    if (number == 0) {
        own_park = &s->park;
        s->parker = pthread_self();
        unit_allow_signal(SIGUSR1);
    }
    unit_meet(&s->meeting);
    for (unsigned i = 1; i <= s->rounds; i++) {
        if (number == 0) {
            qemu_park_reset(&s->park);
            qatomic_store_release(&s->turn, i);
            g_assert_cmphex(qemu_park_sleep(&s->park), ==, QEMU_PARK_KICKED);
            qatomic_store_release(&s->left, i);
        } else {
            unsigned delay = unit_random(&chance) % 256;

            while (qatomic_load_acquire(&s->turn) != i) {
                sched_yield();
            }
            while (delay--) {
                cpu_relax();
            }
            pthread_kill(s->parker, SIGUSR1);
            while (qatomic_load_acquire(&s->left) != i) {
                sched_yield();
            }
        }
    }
    unit_meet(&s->meeting);
}

static void test_single_kicks(void)
{
    Single s = { .meeting.threads = 2, .rounds = unit_rounds(20000) };

    if (skip_late_handlers()) {
        return;
    }
    handle_signal(SA_RESTART);
    unit_threads(2, single_thread, &s);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    unit_add("/park/done-before-sleep/returns-at-once", test_done_first);
    unit_add("/park/done-and-kick/both-visible-until-reset", test_both);
    unit_add("/park/kick-before-sleep/returns-at-once",
             test_kick_before_sleep);
    unit_add("/park/kick-after-the-last-look/ends-the-sleep",
             test_kick_in_window);
    unit_add("/park/done-during-sleep/ends-the-sleep", test_done_during_sleep);
    unit_add("/park/stale-wake/sleeps-on", test_stale_wake);
    unit_add("/park/kick-during-sleep/interrupting-handler-ends-the-sleep",
             test_kick_interrupts);
    unit_add("/park/kick-during-sleep/restarting-handler-ends-the-sleep",
             test_kick_restarts);
    unit_add("/park/single-kicks/none-lost", test_single_kicks);
    unit_add("/park/waker-and-signal-storm/no-wake-up-lost", test_storm);
    return g_test_run();
}
