/*
 * Does a vCPU that has KVM map a page ahead wait for ever?
 *
 * Two vCPUs that have faults, and a thread that changes memslots.  KVM's ioctl
 * tries again as long as a memslot is being deleted, or the vCPU's page tables
 * were given up when one was; deleting waits for the ioctl to end, and only
 * KVM_RUN gets a vCPU other page tables.
 *
 * Mirrors
 *   accel/kvm/userfault-prefault.c: userfault_prefault userfault_prefault_pause
 *       userfault_prefault_resume
 *   accel/kvm/kvm-userfault.c: kvm_userfault_handle_exit change_slot
 *
 * Left out
 *   Kicks, with which each wait here would come to an end: nothing may rely on
 *   them.  Which page is in which memslot: all are taken to be in the one that
 *   is deleted.  accel_ioctl_inhibit_begin(), for which the ioctl does not wait.
 *
 * Mutations
 *   BREAK_BUSY_BARRIER   deadlock  no smp_mb() in userfault_prefault()
 *   BREAK_PAUSE_BARRIER  deadlock  nor in userfault_prefault_pause()
 *   BREAK_NO_WAIT        deadlock  do not wait for vCPUs that are at it
 *   BREAK_FIRST_VCPU     deadlock  wait for the first one only
 *   BREAK_ODD            deadlock  do not ask whether a change is going on
 *   BREAK_EARLIER        deadlock  ask for nothing else
 *   BREAK_LATE           deadlock  take the count down after KVM_RUN
 *   BREAK_RESUME_FIRST   deadlock  let vCPUs go on before the change
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/* Threads: vCPUs 0 and 1 */
#define CHANGER 2
#define THREADS 3

/* Variables */
#define BUSY(cpu) (cpu)
#define CHANGES 2
#define VARS 3

#define FAULTS 3
#define DELETIONS 2

#include "tso.h"

/* KVM's */
bool deleting;
bool given_up[2];               /* the page tables of a vCPU */
bool in_ioctl[2];

/* ------------------------------------------------------------------------- */
/* A vCPU */

inline pre_fault_memory()
{
    smp_mb();
    in_ioctl[me] = true;
    atomic { !deleting && !given_up[me] -> in_ioctl[me] = false; }
}

#if defined(BREAK_ODD)
#define may_prefault (changes == READ(CHANGES))
#elif defined(BREAK_EARLIER)
#define may_prefault (READ(CHANGES) % 2 == 0)
#else
#define may_prefault (changes % 2 == 0 && changes == READ(CHANGES))
#endif

inline userfault_prefault()
{
    write(BUSY(me), 1);
#ifndef BREAK_BUSY_BARRIER
    smp_mb();
#endif
    if
    :: may_prefault -> pre_fault_memory();
    :: else;
    fi;
    write(BUSY(me), 0);
#ifndef BREAK_LATE
    changes = READ(CHANGES);
#endif
}

proctype vcpu(byte me)
{
    byte changes, fault;

    for (fault : 1 .. FAULTS) {
        /* KVM_RUN, until the vCPU touches an absent page */
        atomic { smp_mb(); given_up[me] = false; }
#ifdef BREAK_LATE
        changes = READ(CHANGES);
#endif
        /* kvm_userfault_handle_exit(): the page has come */
        userfault_prefault();
    }
}

/* ------------------------------------------------------------------------- */
/* Who changes memslots */

#ifdef BREAK_FIRST_VCPU
#define nobody_busy (!READ(BUSY(0)))
#else
#define nobody_busy (!READ(BUSY(0)) && !READ(BUSY(1)))
#endif

inline userfault_prefault_pause()
{
    write(CHANGES, READ(CHANGES) + 1);
#ifndef BREAK_PAUSE_BARRIER
    smp_mb();
#endif
#ifndef BREAK_NO_WAIT
    nobody_busy;
#endif
}

inline userfault_prefault_resume()
{
    write(CHANGES, READ(CHANGES) + 1);
}

inline synchronize_srcu()
{
    !in_ioctl[0] && !in_ioctl[1];
}

inline set_user_memory_region()
{
    smp_mb();
    deleting = true;
    synchronize_srcu();
    atomic { given_up[0] = true; given_up[1] = true; }
    synchronize_srcu();
    deleting = false;
}

inline change_slot()
{
    userfault_prefault_pause();
#ifdef BREAK_RESUME_FIRST
    userfault_prefault_resume();
    set_user_memory_region();
#else
    set_user_memory_region();
    userfault_prefault_resume();
#endif
}

proctype changer(byte me)
{
    byte deletion;

    for (deletion : 1 .. DELETIONS) {
        change_slot();
    }
}

init {
    atomic {
        run vcpu(0);
        run vcpu(1);
        run changer(CHANGER);
    }
}
