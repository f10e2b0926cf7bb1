/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chores: what the guest does beside verifying its hot region, when asked to
 * by payload.chores=NAME[,NAME...].  Each touches memory in a way of its own
 * (devices, firmware ranges, system management mode) and checks the outcome.
 *
 * Threads   one per chore, started before the heartbeat; the main thread
 *           reads the figures and prints them with each heartbeat.
 * Ordering  figures are relaxed atomics with a single writer.
 * Failure   chore_fail() counts an error and keeps its first description;
 *           the guest goes on, and whoever listens fails the test.
 *
 * A chore stands in a file of its own and registers itself:
 *
 *     static void run(struct chore *c) { for (;;) { ...; chore_done(c); } }
 *     CHORE(disk, run);
 */
#ifndef GUEST_CHORE_H
#define GUEST_CHORE_H

#include <stdint.h>

#define CHORE_NOTES 8u
#define CHORE_NOTE_BYTES 128u

struct chore {
    const char *name;
    void (*run)(struct chore *c);
    uint64_t done;              /* operations that went well */
    uint64_t errors;
    uint64_t detail;            /* of the first error */
    const char *what;           /* of the first error: one word, static */
    unsigned int nr_notes;
    unsigned int printed;       /* of these; main thread */
    char notes[CHORE_NOTES][CHORE_NOTE_BYTES];
    struct chore *next;
};

void chore_register(struct chore *c);

#define CHORE(name_, run_)                                              \
    static struct chore chore_##name_ = { .name = #name_, .run = run_ }; \
    static void __attribute__((constructor)) register_##name_(void)     \
    {                                                                   \
        chore_register(&chore_##name_);                                 \
    }                                                                   \
    _Static_assert(1, "takes the semicolon")

/* One more operation went well.  The chore's thread. */
void chore_done(struct chore *c);

/* An operation went wrong; @what is one static word.  The chore's thread. */
void chore_fail(struct chore *c, const char *what, uint64_t detail);

/*
 * Have @format, "key=value ...", printed once.  The chore's thread, up to
 * CHORE_NOTES times.
 */
void chore_note(struct chore *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Sleep until the harness says "go".  The chore's thread. */
void chore_wait_for_go(void);

/* The harness says "go".  Main thread. */
void chores_go(void);

/*
 * Start the chores named in @names, separated by commas.  Main thread.
 * Returns the name that is unknown or could not be started, or NULL.
 */
const char *chores_start(char *names);

/* Print what is new of each that was started, and its figures.  Main thread. */
void chores_print(void);

#endif
