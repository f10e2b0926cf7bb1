/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of chores; see chore.h. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "chore.h"
#include "console.h"

static struct chore *registered;        /* all */
static struct chore *started[16];
static unsigned int nr_started;
static bool gone;                       /* the harness has said "go" */

void chore_register(struct chore *c)
{
    c->next = registered;
    registered = c;
}

void chore_done(struct chore *c)
{
    __atomic_store_n(&c->done, c->done + 1, __ATOMIC_RELAXED);
}

void chore_fail(struct chore *c, const char *what, uint64_t detail)
{
    if (!c->errors) {
        c->what = what;
        c->detail = detail;
    }
    /* Publishes the description; pairs with the acquire in chores_print(). */
    __atomic_store_n(&c->errors, c->errors + 1, __ATOMIC_RELEASE);
}

void chore_note(struct chore *c, const char *format, ...)
{
    unsigned int n = c->nr_notes;
    va_list args;

    if (n == CHORE_NOTES) {
        chore_fail(c, "notes", n);
        return;
    }
    va_start(args, format);
    vsnprintf(c->notes[n], CHORE_NOTE_BYTES, format, args);
    va_end(args);
    /* Publishes the text; pairs with the acquire in print_notes(). */
    __atomic_store_n(&c->nr_notes, n + 1, __ATOMIC_RELEASE);
}

void chore_wait_for_go(void)
{
    while (!__atomic_load_n(&gone, __ATOMIC_RELAXED)) {
        usleep(10000);
    }
}

void chores_go(void)
{
    __atomic_store_n(&gone, true, __ATOMIC_RELAXED);
}

static void *chore_thread(void *opaque)
{
    struct chore *c = opaque;

    c->run(c);
    return NULL;
}

static bool start(const char *name)
{
    pthread_t thread;
    struct chore *c;

    for (c = registered; c && strcmp(c->name, name); c = c->next) {
    }
    if (!c || nr_started == sizeof(started) / sizeof(started[0]) ||
        pthread_create(&thread, NULL, chore_thread, c)) {
        return false;
    }
    started[nr_started++] = c;
    return true;
}

const char *chores_start(char *names)
{
    char *save, *name;

    for (name = strtok_r(names, ",", &save); name;
         name = strtok_r(NULL, ",", &save)) {
        if (!start(name)) {
            return name;
        }
    }
    return NULL;
}

static void print_notes(struct chore *c)
{
    unsigned int n = __atomic_load_n(&c->nr_notes, __ATOMIC_ACQUIRE);

    for (; c->printed < n; c->printed++) {
        console_print("note name=%s %s", c->name, c->notes[c->printed]);
    }
}

void chores_print(void)
{
    for (unsigned int i = 0; i < nr_started; i++) {
        struct chore *c = started[i];
        uint64_t done = __atomic_load_n(&c->done, __ATOMIC_RELAXED);
        uint64_t errors = __atomic_load_n(&c->errors, __ATOMIC_ACQUIRE);

        print_notes(c);
        console_print("chore name=%s done=%" PRIu64 " errors=%" PRIu64
                      " what=%s detail=%#" PRIx64, c->name, done, errors,
                      errors ? c->what : "-", errors ? c->detail : 0);
    }
}
