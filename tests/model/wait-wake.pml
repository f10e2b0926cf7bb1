/*
 * Does a vCPU ever sleep although its page is there, or after a kick?  Is a page
 * ever lost that was given to a vCPU?
 *
 * One bucket of the wait table; a vCPU with two faults in a row; two loaders,
 * each of which has a page, and gives or places it, with more to read or not; and
 * either another vCPU that wants one of these, or a kick, whose sender may wait
 * until it is noticed before pages come.
 *
 * Mirrors
 *   migration/postcopy-wait.c: postcopy_wait_begin unlink_locked
 *       postcopy_wait_end find_taker_locked postcopy_wait_give wake_batch
 *       wake_bucket postcopy_wait_wake
 *   migration/postcopy-handover.c: postcopy_userfault_arrived
 *       postcopy_userfault_place_given postcopy_userfault_placed
 *   migration/postcopy-userfault.c: end_wait wait_for_page serve_fault
 *   migration/postcopy-userfault-int.h: page_present
 *   accel/kvm/kvm-userfault.c: kvm_userfault_handle_exit kvm_userfault_kick
 *   include/qemu/park.h: qemu_park_reset qemu_park_state qemu_park_kick
 *       qemu_park_done qemu_park_wake qemu_park_sleep
 *
 * Left out
 *   Requests: request-flush.pml.  Bits of memslots: slots.pml.  The end of the
 *   service: stop.pml.  Other buckets: nothing in one is shared with another.
 *   What pauses a migration, and then waits for pages that were given.
 *   What futex(2) does inside: it compares and goes to sleep in one step.
 *   A signal handler runs on the vCPU's thread, so it is one step for it.
 *
 * Mutations
 *   BREAK_BEGIN_BARRIER      deadlock  no smp_mb() in postcopy_wait_begin()
 *   BREAK_WAKE_BARRIER       deadlock  no smp_mb() in postcopy_wait_wake()
 *   BREAK_LOOK_FIRST         deadlock  look for the page, then enter the table
 *   BREAK_WAKE_FIRST         deadlock  wake, then set PRESENT
 *   BREAK_UNCOUNTED          deadlock  nr is raised after the barrier
 *   BREAK_ONE_BATCH          deadlock  one turn of wake_batch() only
 *   BREAK_NO_FUTEX_WAKE      deadlock  DONE is set, but nobody is woken
 *   BREAK_SLEEP_UNCOMPARED   deadlock  look at the word, then sleep regardless
 *   BREAK_DONE_AFTER_UNLOCK  assert    DONE may reach the next wait
 *   BREAK_END_UNLOCKED       assert    leave early without the bucket's lock
 *   BREAK_END_ONE_LOOK       assert    leave early without looking at linked
 *   BREAK_LATE_RESET         deadlock  look for a kick, then reset the word
 *   BREAK_NO_KICK            deadlock  the handler does not touch the word
 *   BREAK_NO_RESET           assert    DONE of the wait before is still there
 *   BREAK_GIVEN_UNPLACED     assert    a kicked vCPU leaves with its page
 *   BREAK_GIVEN_UNWOKEN      deadlock  it places the page, and wakes nobody
 *   BREAK_GIVE_NO_WAKE       deadlock  the page is given, but nobody is woken
 *   BREAK_GIVE_UNLOCKED      assert    find who takes it, unlock, then give
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define NONE 255

/* Threads: vCPUs 0 and 1 */
#define LOADER(page) (2 + (page))
#define THREADS 4

/* Variables */
#define PRESENT(page) (page)
#define WORD(cpu) (2 + (cpu))
#define NR 4
#define LOCK 5
#define VARS 6

#define DONE 1
#define KICKED 2

#include "tso.h"

/* One on each vCPU's stack; under the lock of the bucket, but for "alive" */
typedef Waiter {
    bool alive;
    bool linked;
    byte page;
};

Waiter waiter[2];
bool given[2];                  /* PostcopyHandover.given */
bool asleep[2];                 /* in futex(2) */
bool kick_comes;                /* for vCPU 0 */
bool immediate_exit;            /* its */
bool kick_noticed;
bool gated;                     /* pages come only when it has noticed */

/* ------------------------------------------------------------------------- */
/* include/qemu/park.h */

inline qemu_park_reset()
{
#ifndef BREAK_NO_RESET
    write(WORD(me), 0);
#else
    skip;
#endif
}

#define qemu_park_state() READ(WORD(me))

inline qemu_park_done(who)
{
    if
    :: who != NONE -> mem[WORD(who)] = mem[WORD(who)] | DONE;
    :: else;
    fi
}

inline qemu_park_wake(who)
{
    if
#ifndef BREAK_NO_FUTEX_WAKE
    :: who != NONE -> asleep[who] = false;
#endif
    :: else;
    fi
}

inline qemu_park_sleep()
{
    do
    :: qemu_park_state() != 0 -> break;
    :: else ->
        /* FUTEX_WAIT */
        smp_mb();
#ifdef BREAK_SLEEP_UNCOMPARED
        asleep[me] = true;
        !asleep[me];
#else
        if
        :: atomic { mem[WORD(me)] == 0 -> asleep[me] = true; }
            !asleep[me];
        :: mem[WORD(me)] != 0;
        fi
#endif
    od
}

/* ------------------------------------------------------------------------- */
/* migration/postcopy-wait.c */

inline unlink_locked(who)
{
    assert(waiter[who].alive && waiter[who].linked);
    waiter[who].linked = false;
    write(NR, READ(NR) - 1);
}

inline postcopy_wait_begin()
{
    atomic {
        qemu_mutex_lock(LOCK);
        waiter[me].alive = true;
        waiter[me].page = page;
        waiter[me].linked = true;
#ifndef BREAK_UNCOUNTED
        write(NR, READ(NR) + 1);
#endif
        qemu_mutex_unlock(LOCK);
    }
#ifndef BREAK_BEGIN_BARRIER
    smp_mb();
#endif
#ifdef BREAK_UNCOUNTED
    write(NR, mem[NR] + 1);
#endif
}

inline postcopy_wait_end()
{
    if
    :: qemu_park_state() & DONE -> arrived = true;
    :: else ->
#ifdef BREAK_END_UNLOCKED
        arrived = !waiter[me].linked;
        if
        :: arrived;
        :: else -> unlink_locked(me);
        fi
#else
        atomic {
            qemu_mutex_lock(LOCK);
#ifdef BREAK_END_ONE_LOOK
            arrived = false;
#else
            arrived = !waiter[me].linked;
#endif
            if
            :: arrived;
            :: else -> unlink_locked(me);
            fi;
            qemu_mutex_unlock(LOCK);
        }
#endif
    fi;
    waiter[me].alive = false;   /* its function returns */
}

#define waits(who, wanted) (waiter[who].linked && waiter[who].page == wanted)

/* Sets which: the only one that waits, or NONE */
inline find_taker_locked(wanted)
{
    if
    :: waits(0, wanted) && !waits(1, wanted) -> which = 0;
    :: waits(1, wanted) && !waits(0, wanted) -> which = 1;
    :: else -> which = NONE;
    fi
}

/* Sets which: who was given the page, or NONE */
inline postcopy_wait_give(wanted)
{
    if
    :: READ(NR) == 0;
    :: else ->
#ifdef BREAK_GIVE_UNLOCKED
        atomic {
            qemu_mutex_lock(LOCK);
            find_taker_locked(wanted);
            qemu_mutex_unlock(LOCK);
        }
        qemu_mutex_lock(LOCK);
#else
        qemu_mutex_lock(LOCK);
        find_taker_locked(wanted);
#endif
        if
        :: which != NONE -> given[which] = true; unlink_locked(which);
        :: else;
        fi;
        qemu_park_done(which);
        qemu_mutex_unlock(LOCK);
#ifndef BREAK_GIVE_NO_WAKE
        qemu_park_wake(which);
#endif
    fi
}

/* Sets which: who was woken, or NONE; WAKE_BATCH is 1 */
inline wake_batch(wanted)
{
    atomic {
        qemu_mutex_lock(LOCK);
        if
        :: waits(0, wanted) -> which = 0;
        :: !waits(0, wanted) && waits(1, wanted) -> which = 1;
        :: else -> which = NONE;
        fi;
        if
        :: which != NONE -> unlink_locked(which);
        :: else;
        fi
    }
#ifdef BREAK_DONE_AFTER_UNLOCK
    qemu_mutex_unlock(LOCK);
    qemu_park_done(which);
#else
    qemu_park_done(which);
    qemu_mutex_unlock(LOCK);
#endif
    qemu_park_wake(which);
}

inline wake_bucket(wanted)
{
    do
    :: wake_batch(wanted);
        if
#ifndef BREAK_ONE_BATCH
        :: which != NONE -> which = NONE;       /* a full batch: more? */
#endif
        :: else -> break;
        fi
    od;
    which = NONE;
}

inline postcopy_wait_wake(wanted)
{
#ifndef BREAK_WAKE_BARRIER
    smp_mb();
#endif
    if
    :: READ(NR) == 0;
    :: else -> wake_bucket(wanted);
    fi
}

/* ------------------------------------------------------------------------- */
/* Threads */

inline kvm_userfault_kick()
{
#ifndef BREAK_NO_KICK
    mem[WORD(0)] = mem[WORD(0)] | KICKED;       /* qemu_park_kick() */
    asleep[0] = false;
#else
    skip;
#endif
}

#define page_present() READ(PRESENT(page))

inline postcopy_userfault_placed(wanted)
{
    write(PRESENT(wanted), 1);
#ifdef BREAK_GIVEN_UNWOKEN
    if
    :: me < 2;
    :: else -> postcopy_wait_wake(wanted);
    fi
#else
    postcopy_wait_wake(wanted);
#endif
}

inline postcopy_userfault_place_given()
{
    postcopy_userfault_placed(page);
    given[me] = false;
}

inline end_wait()
{
    postcopy_wait_end();
    if
#ifdef BREAK_GIVEN_UNPLACED
    :: given[me] && !(READ(WORD(me)) & KICKED) ->
#else
    :: given[me] ->
#endif
        postcopy_userfault_place_given();
    :: else;
    fi
}

/* Sets @arrived: the page is there; otherwise the vCPU was kicked. */
inline wait_for_page()
{
#ifdef BREAK_LOOK_FIRST
    there = page_present();
    postcopy_wait_begin();
#else
    postcopy_wait_begin();
    there = page_present();
#endif
    if
    :: there ->
        end_wait();
        arrived = true;
    :: else ->
        qemu_park_sleep();
        end_wait();
    fi;
    there = false;
    assert(!arrived || page_present());
}

inline serve_fault()
{
    if
    :: page_present() -> arrived = true;
    :: else -> wait_for_page();
    fi
}

#define kicked() (me == 0 && immediate_exit)

inline kvm_userfault_handle_exit()
{
    arrived = false;
#ifdef BREAK_LATE_RESET
    if
    :: kicked();
    :: else ->
        qemu_park_reset();
        serve_fault();
    fi
#else
    qemu_park_reset();
    if
    :: kicked();
    :: else -> serve_fault();
    fi
#endif
}

/* KVM_RUN until a page can be touched */
inline touch(wanted)
{
    page = wanted;
    do
    :: kicked() -> immediate_exit = false; kick_noticed = true;
    :: !kicked() && page_present() -> break;
    :: !kicked() && !page_present() ->
        kvm_userfault_handle_exit();
        arrived = false;
    od
}

proctype vcpu(byte me)
{
    byte page, which = NONE;
    bool arrived, there;

    touch(0);
    if
    :: me == 0 ->
        touch(1);
        /* A kick that comes later is noticed in KVM_RUN. */
        do
        :: kick_noticed || !kick_comes -> break;
        :: immediate_exit -> immediate_exit = false; kick_noticed = true;
        od
    :: else;
    fi
}

inline postcopy_userfault_arrived()
{
    if
    :: postcopy_wait_give(page);
    :: skip;        /* there is nothing more to read */
    fi
    if
    :: which != NONE -> which = NONE;
    :: else ->
#ifdef BREAK_WAKE_FIRST
        postcopy_wait_wake(page);
        write(PRESENT(page), 1);
#else
        postcopy_userfault_placed(page);
#endif
    fi
}

proctype loader(byte me; byte page)
{
    byte which = NONE;

    !gated || kick_noticed;
    postcopy_userfault_arrived();
}

/* The handler runs on vCPU 0's thread, in one step for that thread. */
proctype kick()
{
    atomic {
        buffer[0].fill == 0;
        immediate_exit = true;
        kvm_userfault_kick();
    }
}

init {
    atomic {
        run vcpu(0);
        run loader(LOADER(0), 0);
        run loader(LOADER(1), 1);
        if
        :: run vcpu(1);
        :: kick_comes = true; run kick();
        :: kick_comes = true; gated = true; run kick();
        fi
    }
}
