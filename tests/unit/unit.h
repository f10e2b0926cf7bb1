/*
 * What the unit tests share: threads that start together, a deadline, chance
 *
 * A test that waits for something that never happens is killed by its
 * deadline; that is how a lost wake-up shows.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include "qemu/thread.h"

#if defined(__SANITIZE_THREAD__)
#define UNIT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNIT_TSAN 1
#endif
#endif
#ifndef UNIT_TSAN
#define UNIT_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define UNIT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNIT_ASAN 1
#endif
#endif
#ifndef UNIT_ASAN
#define UNIT_ASAN 0
#endif

/**
 * unit_init: call first in main()
 * @seconds: each test is killed when it takes longer
 */
void unit_init(int *argc, char ***argv, unsigned seconds);

/**
 * unit_add: a test named @path, with the deadline
 */
void unit_add(const char *path, void (*test)(void));

/**
 * unit_add_number: the same test for several numbers; "/" and the number are
 * added to the path
 */
void unit_add_number(const char *path, unsigned number,
                     void (*test)(gconstpointer number));

/**
 * unit_rounds: how often to repeat something
 * @n: without sanitizers; the slow ones do less
 */
unsigned unit_rounds(unsigned n);

/**
 * unit_random: next number of a sequence
 * @state: of the calling thread, not 0
 */
uint32_t unit_random(uint32_t *state);

/**
 * unit_threads: run a function in some threads at once
 * @n: how many
 * @fn: called with the thread's number and @opaque, not before all are there
 *
 * Returns when all have returned.
 */
void unit_threads(unsigned n, void (*fn)(unsigned number, void *opaque),
                  void *opaque);

/* A place where some threads meet again and again; zero it, set threads. */
typedef struct UnitMeeting {
    unsigned threads;
    unsigned arrived;
    unsigned turn;
} UnitMeeting;

/**
 * unit_meet: return when all threads of @m have come here
 */
void unit_meet(UnitMeeting *m);

/**
 * unit_allow_signal: let a signal through; threads start with all blocked
 */
void unit_allow_signal(int signo);

/**
 * unit_until_asleep: return when a thread sleeps in the kernel
 * @tid: as gettid() returns it
 */
void unit_until_asleep(pid_t tid);

#endif
