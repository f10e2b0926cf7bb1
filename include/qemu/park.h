/*
 * Park word: one thread sleeps on it, others end the sleep
 *
 * Owned by exactly one thread (the parker) for that thread's whole life.
 * The word is 0 while the parker may sleep.  Two things make it non-zero:
 *
 *   DONE    another thread: what the parker waits for has happened
 *   KICKED  the parker's own signal handler: leave, whatever you wait for
 *
 * There is no lost wake-up: futex(2) compares the word and goes to sleep in
 * one step, so a bit set after the parker's last look makes it return at
 * once.  That holds for the signal handler too, which runs on the parker's
 * thread between two of its instructions; a pipe or an eventfd would need a
 * read for every wait, a condition variable may not be used in a handler.
 *
 * A waker may touch the word after the parker has gone on to another wait.
 * A bit set that late would be a spurious wake-up of that next wait, so
 * wakers set DONE only while they hold the lock that the parker takes to
 * leave (see migration/postcopy-wait.c); the futex call itself may be late.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_PARK_H
#define QEMU_PARK_H

#include "qemu/atomic.h"
#include <linux/futex.h>
#include <sys/syscall.h>

#define QEMU_PARK_DONE   1u
#define QEMU_PARK_KICKED 2u

typedef struct QemuPark {
    uint32_t word;
} QemuPark;

/**
 * qemu_park_reset: get ready for the next wait
 * @park: the calling thread's own park word
 *
 * A kick that arrived earlier is forgotten; the caller must look at the
 * condition the kick stands for after this call and before the first
 * qemu_park_sleep().
 */
static inline void qemu_park_reset(QemuPark *park)
{
    qatomic_set(&park->word, 0);
    /* The caller's look must not move up; its handler is the partner. */
    signal_barrier();
}

/**
 * qemu_park_state: the QEMU_PARK_* bits set since the last reset
 * @park: the park word; any thread
 *
 * Acquire: what the waker did before qemu_park_done() is visible.
 */
static inline uint32_t qemu_park_state(QemuPark *park)
{
    return qatomic_load_acquire(&park->word);
}

/**
 * qemu_park_kick: end the wait without what was waited for
 * @park: the calling thread's own park word
 *
 * Async-signal-safe.  Runs on the parker's thread, in a signal handler, so
 * the system call it interrupts is restarted or fails with EINTR; either way
 * the word is compared again.  No futex call is needed.
 */
static inline void qemu_park_kick(QemuPark *park)
{
    qatomic_or(&park->word, QEMU_PARK_KICKED);
}

/**
 * qemu_park_done: announce to the parker that its wait is over
 * @park: the park word of another thread
 *
 * Does not wake: call qemu_park_wake() afterwards, which may be done without
 * the lock that protects the wait.
 */
static inline void qemu_park_done(QemuPark *park)
{
    qatomic_or(&park->word, QEMU_PARK_DONE);
}

/**
 * qemu_park_wake: run the parker if it sleeps
 * @park: the park word of another thread; may be stale (then nothing, or a
 *        spurious return of that thread's futex call, happens)
 */
static inline void qemu_park_wake(QemuPark *park)
{
    syscall(__NR_futex, &park->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/**
 * qemu_park_sleep: sleep until a bit is set in the word
 * @park: the calling thread's own park word
 *
 * Returns the bits, never 0.
 */
static inline uint32_t qemu_park_sleep(QemuPark *park)
{
    uint32_t bits;

    while (!(bits = qemu_park_state(park))) {
        syscall(__NR_futex, &park->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    }
    return bits;
}

#endif /* QEMU_PARK_H */
