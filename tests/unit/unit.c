/*
 * What the unit tests share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/thread.h"
#include "unit.h"

/* Failing allocations are tested: they return NULL under sanitizers too. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:detect_stack_use_after_return=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1:halt_on_error=0:exitcode=66";
}

static unsigned deadline;

typedef struct Case {
    void (*test)(void);
    void (*test_number)(gconstpointer number);
    unsigned number;
} Case;

static void run_case(gconstpointer opaque)
{
    const Case *c = opaque;

    /* SIGALRM has its default action: the end, whatever the threads do. */
    alarm(deadline);
    if (c->test) {
        c->test();
    } else {
        c->test_number(GUINT_TO_POINTER(c->number));
    }
    alarm(0);
}

void unit_init(int *argc, char ***argv, unsigned seconds)
{
    const char *text = getenv("UNIT_DEADLINE");

    setvbuf(stdout, NULL, _IOLBF, 0);
    deadline = text ? atoi(text) : seconds;
    g_test_init(argc, argv, NULL);
}

void unit_add(const char *path, void (*test)(void))
{
    Case *c = g_new0(Case, 1);

    c->test = test;
    g_test_add_data_func_full(path, c, run_case, g_free);
}

void unit_add_number(const char *path, unsigned number,
                     void (*test)(gconstpointer number))
{
    g_autofree char *full = g_strdup_printf("%s/%u", path, number);
    Case *c = g_new0(Case, 1);

    c->test_number = test;
    c->number = number;
    g_test_add_data_func_full(full, c, run_case, g_free);
}

unsigned unit_rounds(unsigned n)
{
    return UNIT_TSAN ? MAX(n / 8, 1) : UNIT_ASAN ? MAX(n / 2, 1) : n;
}

uint32_t unit_random(uint32_t *state)
{
    uint32_t x = *state;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

void unit_meet(UnitMeeting *m)
{
    unsigned turn = qatomic_load_acquire(&m->turn);

    if (qatomic_inc_fetch(&m->arrived) == m->threads) {
        qatomic_set(&m->arrived, 0);
        qatomic_store_release(&m->turn, turn + 1);
        return;
    }
    for (unsigned i = 0; qatomic_load_acquire(&m->turn) == turn; i++) {
        if (i > 200) {
            sched_yield();
        }
    }
}

typedef struct Member {
    QemuThread thread;
    unsigned number;
    void (*fn)(unsigned number, void *opaque);
    void *opaque;
    UnitMeeting *start;
} Member;

static void *member_run(void *opaque)
{
    Member *m = opaque;

    unit_meet(m->start);
    m->fn(m->number, m->opaque);
    return NULL;
}

void unit_threads(unsigned n, void (*fn)(unsigned number, void *opaque),
                  void *opaque)
{
    g_autofree Member *member = g_new0(Member, n);
    UnitMeeting start = { .threads = n };
    unsigned i;

    for (i = 0; i < n; i++) {
        member[i] = (Member) {
            .number = i, .fn = fn, .opaque = opaque, .start = &start,
        };
        qemu_thread_create(&member[i].thread, "unit", member_run, &member[i],
                           QEMU_THREAD_JOINABLE);
    }
    for (i = 0; i < n; i++) {
        qemu_thread_join(&member[i].thread);
    }
}

void unit_allow_signal(int signo)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signo);
    g_assert_cmpint(pthread_sigmask(SIG_UNBLOCK, &set, NULL), ==, 0);
}

static char state_of(pid_t tid)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/stat", tid);
    g_autofree char *text = NULL;
    char *end;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    end = strrchr(text, ')');
    g_assert_true(end && end[1] == ' ');
    return end[2];
}

void unit_until_asleep(pid_t tid)
{
    while (state_of(tid) != 'S') {
        g_usleep(100);
    }
}
