/*
 * Does the end of the service leave a vCPU asleep, wait for ever, or free what
 * a vCPU uses?
 *
 * Two vCPUs with faults on pages that do not come any more, and the thread that
 * stops the service.
 *
 * Mirrors
 *   migration/postcopy-userfault.c: postcopy_userfault_stop wait_until_outside
 *       free_requests vcpu_fault serve_fault wait_for_page
 *   migration/postcopy-wait.c: postcopy_wait_begin postcopy_wait_end
 *       unlink_locked wake_bucket postcopy_wait_wake_all
 *   accel/kvm/kvm-userfault.c: kvm_userfault_stop kvm_userfault_handle_exit
 *
 * Left out
 *   Loaders and the fault thread: both have been joined when the service is
 *   stopped.  Kicks: wait-wake.pml.  Bitmaps and maps, which RCU keeps until a
 *   vCPU has looked up its page: slots.pml.  The next start, which frees the
 *   wait table and the vCPUs' state: a process starts postcopy again only if
 *   its vCPUs have not run yet.
 *
 * Mutations
 *   BREAK_INSIDE_BARRIER  assert    no smp_mb() in vcpu_fault()
 *   BREAK_STOP_BARRIER    assert    no smp_mb() in wait_until_outside()
 *   BREAK_FREE_FIRST      assert    free, then wait until vCPUs are outside
 *   BREAK_STILL_SERVING   assert    serving stays true
 *   BREAK_UNASKED         assert    do not ask whether the service runs
 *   BREAK_OUTSIDE_EARLY   assert    inside = false before the last use
 *   BREAK_NO_WAKE         livelock  look only, wake nobody
 *   BREAK_FIRST_VCPU      assert    look at the first vCPU only
 *   BREAK_ARMED           livelock  memslots keep their flag
 *   BREAK_WAKE_ONCE+BREAK_ONE_LOOK  livelock  neither of the next two
 *   BREAK_WAKE_ONCE       holds     wake once, then only look
 *   BREAK_ONE_LOOK        holds     no look at serving in wait_for_page()
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/* Threads: vCPUs 0 and 1 */
#define STOPPER 2
#define THREADS 3

/* Variables */
#define INSIDE(cpu) (cpu)
#define SERVING 2
#define NR 3
#define LOCK 4
#define VARS 5

#include "tso.h"

bool armed = true;              /* KVM looks at the bitmaps */
bool freed;                     /* blocks and queue */
bool linked[2];                 /* under LOCK */
bool done[2], asleep[2];        /* park word, futex(2) */
bool wants_lock[2];

/* ------------------------------------------------------------------------- */
/* migration/postcopy-wait.c; in wait-wake.pml step by step */

inline postcopy_wait_begin()
{
    wants_lock[me] = true;
    atomic {
        qemu_mutex_lock(LOCK);
        wants_lock[me] = false;
        linked[me] = true;
        write(NR, READ(NR) + 1);
        qemu_mutex_unlock(LOCK);
    }
    smp_mb();
}

inline unlink_locked(who)
{
    linked[who] = false;
    write(NR, READ(NR) - 1);
}

inline postcopy_wait_end()
{
    wants_lock[me] = true;
    atomic {
        qemu_mutex_lock(LOCK);
        wants_lock[me] = false;
        if
        :: linked[me] -> unlink_locked(me);
        :: else;
        fi;
        qemu_mutex_unlock(LOCK);
    }
}

inline wake(who)
{
    if
    :: linked[who] -> linked[who] = false; done[who] = true; n++;
    :: else;
    fi
}

inline postcopy_wait_wake_all()
{
    smp_mb();
    /* wake_bucket() */
    atomic {
        qemu_mutex_lock(LOCK);
        wake(0);
        wake(1);
        write(NR, READ(NR) - n);
        n = 0;
        qemu_mutex_unlock(LOCK);
    }
    atomic {
        asleep[0] = asleep[0] && !done[0];
        asleep[1] = asleep[1] && !done[1];
    }
}

inline qemu_park_sleep()
{
    if
    :: atomic { !done[me] -> asleep[me] = true; }
        !asleep[me];
    :: done[me];
    fi
}

/* ------------------------------------------------------------------------- */
/* A vCPU */

inline wait_for_page()
{
    postcopy_wait_begin();
    if
#ifndef BREAK_ONE_LOOK
    :: !READ(SERVING);
#endif
    :: else ->
        assert(!freed);         /* claims, queues, sends */
        qemu_park_sleep();
    fi;
    postcopy_wait_end();
}

inline serve_fault()
{
    assert(!freed);             /* the block */
    wait_for_page();
#ifdef BREAK_OUTSIDE_EARLY
    write(INSIDE(me), 0);
#endif
    assert(!freed);             /* the trace has its name */
}

inline vcpu_fault()
{
    write(INSIDE(me), 1);
#ifndef BREAK_INSIDE_BARRIER
    smp_mb();
#endif
    if
#ifdef BREAK_UNASKED
    :: serve_fault();
#else
    :: READ(SERVING) -> serve_fault();
#endif
    :: else;
    fi;
    write(INSIDE(me), 0);
}

proctype vcpu(byte me)
{
    do
    :: armed ->
        /* kvm_userfault_handle_exit() */
        done[me] = false;
        vcpu_fault();
    :: !armed -> break;
    od
}

/* ------------------------------------------------------------------------- */
/* migration/postcopy-userfault.c */

#ifdef BREAK_FIRST_VCPU
#define anybody_inside READ(INSIDE(0))
#else
#define anybody_inside (READ(INSIDE(0)) || READ(INSIDE(1)))
#endif

inline wait_until_outside()
{
#ifndef BREAK_STOP_BARRIER
    smp_mb();
#endif
    do
    :: anybody_inside ->
#ifdef BREAK_NO_WAKE
        skip;
#else
#ifdef BREAK_WAKE_ONCE
        if
        :: !woken -> woken = true; postcopy_wait_wake_all();
        :: else;
        fi
#else
        postcopy_wait_wake_all();
#endif
#endif
        /* g_usleep(): who waits for the lock meanwhile gets it. */
        !wants_lock[0] && !wants_lock[1];
    :: !anybody_inside -> break;
    od
}

inline free_requests()
{
    assert(!freed);
    freed = true;
}

proctype postcopy_userfault_stop(byte me)
{
    byte n;
#ifdef BREAK_WAKE_ONCE
    bool woken;
#endif

#ifndef BREAK_ARMED
    armed = false;              /* kvm_userfault_stop() */
#endif
#ifndef BREAK_STILL_SERVING
    write(SERVING, 0);
#endif
#ifdef BREAK_FREE_FIRST
    free_requests();
    wait_until_outside();
#else
    wait_until_outside();
    free_requests();
#endif
}

init {
    atomic {
        mem[SERVING] = 1;
        run vcpu(0);
        run vcpu(1);
        run postcopy_userfault_stop(STOPPER);
    }
}
