/*
 * What a thread of the test host has done in a window
 *
 * Threads      a Task belongs to the CPU that runs it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_COUNT_TASK_H
#define BENCH_COUNT_TASK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CHUNK           1024
#define CHUNKS          1024
#define PENDING         8

/* Mirrored in symbols.py */
enum lock_type {
    LOCK_SPIN,
    LOCK_RW_READ,
    LOCK_RW_WRITE,
    LOCK_MUTEX,
    LOCK_SEM_READ,
    LOCK_SEM_WRITE,
    LOCK_USER,
};

/* Mirrored in counts.py */
enum place {
    PLACE_USER,
    PLACE_KERNEL,
    PLACE_GUEST,                /* in a guest of the test host */
    PLACE_TIMER,                /* the timer's interrupt */
    PLACE_IRQ,                  /* another interrupt */
    PLACE_INTERRUPTED,          /* between a VM exit by an interrupt and VMRUN */
    PLACES,
};

/* An address at which a block begins; @hook may come later than the block. */
typedef struct Pc {
    uint64_t address;
    unsigned id;
    unsigned hook;
} Pc;

/* What a thread holds: the path from a node to the root, the last one first */
typedef struct Held Held;
struct Held {
    Held *parent, *children, *sibling;
    uint64_t lock;
    uint64_t site;              /* where the acquiring function returned to */
    unsigned type;
    uint64_t instructions;
    uint64_t times;             /* it was acquired */
};

typedef struct Count {
    uint64_t instructions;
    uint32_t executions;
} Count;

typedef struct Pending {
    uint64_t lock, site;
    unsigned hook;
} Pending;

typedef struct Atomic {
    uint64_t line;
    uint32_t pc;
    uint32_t times;
} Atomic;

typedef struct Task {
    uint64_t address;
    uint32_t pid;
    uint64_t place[PLACES];
    uint64_t vm_exits, vm_exits_interrupted, switches;
    bool interrupted;           /* see PLACE_INTERRUPTED */
    Held root;
    Held *held;
    Pending pending[PENDING];
    unsigned nr_pending;
    Count *count[CHUNKS];
    Atomic *atomics;
    unsigned nr_atomics, atomics_size;  /* a power of two */
} Task;

Task *task_new(uint64_t address, uint32_t pid);
void task_free(gpointer task);

/**
 * task_acquire: a lock is taken
 * @site: where the acquiring function returned to
 */
void task_acquire(Task *task, uint64_t lock, uint64_t site, unsigned type);

/* What the thread knows of a lock that it holds, or NULL */
Held *task_find_held(Task *task, uint64_t lock);

/* A lock is given back, in any order; nothing if it is not held. */
void task_release(Task *task, uint64_t lock);

/* A run queue's lock is taken by one thread and released by the next. */
void task_hand_over(Task *from, Task *to);

/* A block of code that begins at @pc runs, under what is held. */
void task_count(Task *task, const Pc *pc, unsigned instructions);

/**
 * task_count_atomic: an atomic operation
 * @line: address of the line of memory, in lines
 * @pc: number of the block's address
 */
void task_count_atomic(Task *task, uint64_t line, unsigned pc);

/* Write all figures, as counts.py reads them; @pcs: Pc by their numbers. */
void task_write(FILE *out, const Task *task, const GPtrArray *pcs);

#endif
