/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See task.h. */
#include <inttypes.h>

#include "task.h"

Task *task_new(uint64_t address, uint32_t pid)
{
    Task *task = g_new0(Task, 1);

    task->address = address;
    task->pid = pid;
    task->held = &task->root;
    return task;
}

static void free_held(Held *held)
{
    while (held) {
        Held *next = held->sibling;

        free_held(held->children);
        g_free(held);
        held = next;
    }
}

void task_free(gpointer data)
{
    Task *task = data;

    for (unsigned i = 0; i < CHUNKS; i++) {
        g_free(task->count[i]);
    }
    free_held(task->root.children);
    g_free(task->atomics);
    g_free(task);
}

/* ------------------------------------------------------------------------- */
/* Locks */

void task_acquire(Task *task, uint64_t lock, uint64_t site, unsigned type)
{
    Held *held;

    for (held = task->held->children; held; held = held->sibling) {
        if (held->lock == lock && held->site == site) {
            break;
        }
    }
    if (!held) {
        held = g_new0(Held, 1);
        held->lock = lock;
        held->site = site;
        held->type = type;
        held->parent = task->held;
        held->sibling = task->held->children;
        task->held->children = held;
    }
    held->times++;
    task->held = held;
}

Held *task_find_held(Task *task, uint64_t lock)
{
    for (Held *held = task->held; held->parent; held = held->parent) {
        if (held->lock == lock) {
            return held;
        }
    }
    return NULL;
}

/* Take again, over what @held stood on, what was taken after it. */
static void rebuild(Task *task, Held *last, Held *held)
{
    if (last == held) {
        task->held = held->parent;
        return;
    }
    rebuild(task, last->parent, held);
    task_acquire(task, last->lock, last->site, last->type);
    task->held->times--;
}

void task_release(Task *task, uint64_t lock)
{
    Held *held = task_find_held(task, lock);

    if (held) {
        rebuild(task, task->held, held);
    }
}

void task_hand_over(Task *from, Task *to)
{
    for (Held *held = from->held; held->parent; held = from->held) {
        if (held->type != LOCK_SPIN) {
            return;
        }
        task_acquire(to, held->lock, held->site, held->type);
        task_release(from, held->lock);
    }
}

/* ------------------------------------------------------------------------- */
/* Instructions and atomic operations */

void task_count(Task *task, const Pc *pc, unsigned instructions)
{
    Count **chunk = &task->count[pc->id / CHUNK % CHUNKS];

    if (!*chunk) {
        *chunk = g_new0(Count, CHUNK);
    }
    (*chunk)[pc->id % CHUNK].instructions += instructions;
    (*chunk)[pc->id % CHUNK].executions++;
    task->held->instructions += instructions;
}

static Atomic *find_atomic(Task *task, uint64_t line, unsigned pc)
{
    unsigned mask = task->atomics_size - 1;
    unsigned i = ((line * 0x9e3779b97f4a7c15ull) >> 32 ^ pc * 2654435761u) & mask;

    while (task->atomics[i].times &&
           (task->atomics[i].line != line || task->atomics[i].pc != pc)) {
        i = (i + 1) & mask;
    }
    return &task->atomics[i];
}

static void grow_atomics(Task *task)
{
    Atomic *old = task->atomics;
    unsigned size = task->atomics_size;

    task->atomics_size = size ? size * 2 : 1024;
    task->atomics = g_new0(Atomic, task->atomics_size);
    for (unsigned i = 0; i < size; i++) {
        if (old[i].times) {
            *find_atomic(task, old[i].line, old[i].pc) = old[i];
        }
    }
    g_free(old);
}

void task_count_atomic(Task *task, uint64_t line, unsigned pc)
{
    Atomic *a;

    if (task->nr_atomics * 2 >= task->atomics_size) {
        grow_atomics(task);
    }
    a = find_atomic(task, line, pc);
    if (!a->times++) {
        a->line = line;
        a->pc = pc;
        task->nr_atomics++;
    }
}

/* ------------------------------------------------------------------------- */
/* Writing */

static void write_held(FILE *out, const Held *held, int parent, int *number)
{
    for (const Held *h = held->children; h; h = h->sibling) {
        int mine = (*number)++;

        fprintf(out, "lock %d %d %" PRIx64 " %" PRIx64 " %u %" PRIu64 " %"
                PRIu64 "\n", mine, parent, h->lock, h->site, h->type,
                h->instructions, h->times);
        write_held(out, h, mine, number);
    }
}

void task_write(FILE *out, const Task *task, const GPtrArray *pcs)
{
    int number = 0;

    fprintf(out, "task %" PRIx64 " %" PRIu32, task->address, task->pid);
    for (unsigned i = 0; i < PLACES; i++) {
        fprintf(out, " %" PRIu64, task->place[i]);
    }
    fprintf(out, " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", task->vm_exits,
            task->vm_exits_interrupted, task->switches);
    for (unsigned i = 0; i < pcs->len && i / CHUNK < CHUNKS; i++) {
        const Count *chunk = task->count[i / CHUNK];
        const Pc *pc = pcs->pdata[i];

        if (chunk && chunk[i % CHUNK].executions) {
            fprintf(out, "pc %" PRIx64 " %" PRIu64 " %u\n", pc->address,
                    chunk[i % CHUNK].instructions, chunk[i % CHUNK].executions);
        }
    }
    write_held(out, &task->root, -1, &number);
    for (unsigned i = 0; i < task->atomics_size; i++) {
        const Atomic *a = &task->atomics[i];

        if (a->times) {
            fprintf(out, "atomic %" PRIx64 " %" PRIx64 " %u\n", a->line << 6,
                    ((Pc *)pcs->pdata[a->pc])->address, a->times);
        }
    }
}
