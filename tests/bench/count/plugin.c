/*
 * Count what a machine under TCG executes, by thread, function and lock
 *
 * A plugin for the emulator that the test host runs in.  It counts the
 * instructions of the test host, not of the guests in it, and writes one set of
 * figures for each window that a program inside asks for.
 *
 * Threads      one for each CPU of the test host; each has a Cpu of its own.  A
 *              Task belongs to the CPU that runs it.
 * Owns         a record for each address at which a block of code begins, for
 *              each block, and for each thread seen in the window (task.h).
 * Locks        table_lock: the tables of addresses and of threads.
 * Failure      what cannot be read counts for the task 0.
 *
 * How a program inside talks to it: by an instruction that does nothing, a long
 * nop with MAGIC as its displacement, with a command in rdi and arguments in rsi
 * and rdx.  How the plugin learns of threads and locks: the program hooks
 * functions of the kernel and of QEMU by their addresses (tests/bench/count/
 * symbols.py).  An acquiring function takes the lock when it returns, so that
 * waiting for it is no part of what runs under it; a releasing one releases it
 * where it begins.  An unlock that the compiler made a store of zero, or an
 * atomic subtraction, is recognised by its address.
 *
 * What is not exact: an instruction that faults lets the rest of its block count
 * twice.  A string instruction counts once, however long it is.  Code that is
 * mapped at several addresses, as a library is, goes by the one at which it was
 * translated.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <qemu-plugin.h>

#include "decode.h"
#include "task.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

#define MAX_CPUS        64
#define TASK_BYTES      0x1800          /* of task_struct that are looked at */
#define DIRECT_MAP      0xffff888000000000ull   /* without KASLR */
#define VMCB_EXIT_CODE  0x70
#define EXIT_INTR       0x60
#define EXIT_NMI        0x61
#define IRQ_DEPTH       8

enum command {
    COMMAND_HOOK = 1,           /* address, enum hook */
    COMMAND_CALIBRATE,          /* id of the thread that calls */
    COMMAND_START,
    COMMAND_STOP,               /* number of the window */
};

/* Mirrored in symbols.py */
enum hook {
    HOOK_NONE,
    HOOK_SWITCH,                /* (previous, next): the CPU changes threads */
    HOOK_IRQ_ENTER,
    HOOK_IRQ_EXIT,
    HOOK_TIMER,                 /* the interrupt that begins is the timer's */
    HOOK_RELEASE,
    HOOK_VMEXIT,                /* what follows VMRUN; found by the plugin */
    HOOK_ACQUIRE = 16,
};

/* Of an acquiring function: HOOK_ACQUIRE + type * 4 + condition */
enum condition {
    TAKEN_ALWAYS,
    TAKEN_IF_ZERO,              /* the function returned 0 */
    TAKEN_IF_NONZERO,
};

typedef struct Block {
    Pc *pc;
    unsigned instructions;
    bool begins_with_rep;
    bool vmrun;                 /* the last one */
    uint64_t rep_at_end;        /* address, or 0 */
} Block;

typedef struct Cpu {
    uint64_t task_address;
    Task *task;                 /* of the window @window, or NULL */
    unsigned window;
    uint64_t rep;               /* Block.rep_at_end of the last block */
    bool in_guest;
    uint64_t vmcb;
    bool timer_next;
    bool timer;                 /* the outermost interrupt is the timer's */
    unsigned irq_depth;
    uint64_t irq_return[IRQ_DEPTH];
    GByteArray *bytes;
} __attribute__((aligned(64))) Cpu;

static Cpu cpus[MAX_CPUS];
static struct qemu_plugin_register *reg_rax, *reg_rdi, *reg_rsi, *reg_rdx,
                                   *reg_rsp;
static char *output;
static volatile bool counting;
static unsigned window;

static GMutex table_lock;
static GHashTable *pcs;                 /* address -> Pc */
static GPtrArray *pc_list;
static GHashTable *tasks;               /* address -> Task, of this window */
static GPtrArray *task_list;            /* of this window, ended ones too */

/* Offset of the id of a thread in task_struct */
static uint8_t candidates[TASK_BYTES / 4];
static unsigned calibrations;
static unsigned pid_offset;

/* ------------------------------------------------------------------------- */
/* Reading the machine */

static uint64_t read_register(Cpu *cpu, struct qemu_plugin_register *reg)
{
    uint64_t value = 0;

    g_byte_array_set_size(cpu->bytes, 0);
    if (qemu_plugin_read_register(reg, cpu->bytes) >= 8) {
        memcpy(&value, cpu->bytes->data, 8);
    }
    return value;
}

static bool read_memory(Cpu *cpu, uint64_t address, void *to, size_t size)
{
    g_byte_array_set_size(cpu->bytes, size);
    if (!qemu_plugin_read_memory_vaddr(address, cpu->bytes, size)) {
        return false;
    }
    memcpy(to, cpu->bytes->data, size);
    return true;
}

static uint64_t return_address(Cpu *cpu)
{
    uint64_t value = 0;

    read_memory(cpu, read_register(cpu, reg_rsp), &value, 8);
    return value;
}

/* ------------------------------------------------------------------------- */
/* Addresses and threads */

static Pc *find_pc(uint64_t address)
{
    Pc *pc;

    g_mutex_lock(&table_lock);
    pc = g_hash_table_lookup(pcs, &address);
    if (!pc) {
        pc = g_new0(Pc, 1);
        pc->address = address;
        pc->id = pc_list->len;
        g_ptr_array_add(pc_list, pc);
        g_hash_table_insert(pcs, &pc->address, pc);
    }
    g_mutex_unlock(&table_lock);
    return pc;
}

/* The CPU's thread in this window */
static Task *find_task(Cpu *cpu)
{
    uint32_t pid = 0;
    Task *task;

    if (cpu->task && cpu->window == window) {
        return cpu->task;
    }
    if (cpu->task_address && pid_offset) {
        read_memory(cpu, cpu->task_address + pid_offset, &pid, 4);
    }
    g_mutex_lock(&table_lock);
    task = g_hash_table_lookup(tasks, &cpu->task_address);
    if (!task || task->pid != pid) {
        task = task_new(cpu->task_address, pid);
        g_hash_table_replace(tasks, &task->address, task);
        g_ptr_array_add(task_list, task);
    }
    g_mutex_unlock(&table_lock);
    cpu->task = task;
    cpu->window = window;
    return task;
}

/* ------------------------------------------------------------------------- */
/* Locks */

static void begin_acquire(Cpu *cpu, Task *task, unsigned hook)
{
    Pending *p;

    if (task->nr_pending == PENDING) {
        task->nr_pending = 0;           /* functions that never returned */
    }
    p = &task->pending[task->nr_pending++];
    p->hook = hook;
    p->lock = read_register(cpu, reg_rdi);
    p->site = return_address(cpu);
}

static void end_acquire(Cpu *cpu, Task *task)
{
    Pending *p = &task->pending[--task->nr_pending];
    unsigned condition = (p->hook - HOOK_ACQUIRE) % 4;
    uint32_t result = condition == TAKEN_ALWAYS ? 0
                                                : read_register(cpu, reg_rax);

    if (condition == TAKEN_ALWAYS || (condition == TAKEN_IF_ZERO) == !result) {
        task_acquire(task, p->lock, p->site, (p->hook - HOOK_ACQUIRE) / 4);
    }
}

/* ------------------------------------------------------------------------- */
/* What a program inside says */

static void calibrate(Cpu *cpu, uint32_t pid)
{
    uint32_t words[TASK_BYTES / 4];
    unsigned left = 0;

    if (!cpu->task_address ||
        !read_memory(cpu, cpu->task_address, words, sizeof(words))) {
        return;
    }
    for (unsigned i = 0; i < TASK_BYTES / 4; i++) {
        candidates[i] = (!calibrations || candidates[i]) && words[i] == pid;
        if (candidates[i]) {
            pid_offset = left ? pid_offset : i * 4;
            left++;
        }
    }
    calibrations++;
    fprintf(stderr, "count: thread %" PRIu32 ": %u offsets left, %#x\n", pid,
            left, pid_offset);
}

static void write_window(uint64_t number)
{
    char *path = g_strdup_printf("%s.%" PRIu64, output, number);
    FILE *out = fopen(path, "w");

    if (out) {
        g_mutex_lock(&table_lock);
        for (unsigned i = 0; i < task_list->len; i++) {
            task_write(out, task_list->pdata[i], pc_list);
        }
        g_mutex_unlock(&table_lock);
        fprintf(out, "end\n");
        fclose(out);
    } else {
        fprintf(stderr, "count: cannot write %s\n", path);
    }
    g_free(path);
}

static void start(void)
{
    g_mutex_lock(&table_lock);
    g_hash_table_remove_all(tasks);
    g_ptr_array_set_size(task_list, 0);
    window++;
    g_mutex_unlock(&table_lock);
    counting = true;
}

static void marked(unsigned index, void *opaque)
{
    Cpu *cpu = &cpus[index];
    uint64_t first = read_register(cpu, reg_rsi);

    switch (read_register(cpu, reg_rdi)) {
    case COMMAND_HOOK:
        find_pc(first)->hook = read_register(cpu, reg_rdx);
        break;
    case COMMAND_CALIBRATE:
        calibrate(cpu, first);
        break;
    case COMMAND_START:
        start();
        break;
    case COMMAND_STOP:
        counting = false;
        /* What others are in the middle of is not worth waiting for. */
        g_usleep(10000);
        write_window(first);
        break;
    }
}

/* ------------------------------------------------------------------------- */
/* What runs */

static enum place place_of(const Cpu *cpu, const Task *task, uint64_t address)
{
    if (cpu->in_guest) {
        return PLACE_GUEST;
    }
    if (cpu->irq_depth) {
        return cpu->timer ? PLACE_TIMER : PLACE_IRQ;
    }
    if (task->interrupted) {
        return PLACE_INTERRUPTED;
    }
    return address >> 63 ? PLACE_KERNEL : PLACE_USER;
}

static void switch_tasks(Cpu *cpu)
{
    Task *from = counting ? find_task(cpu) : NULL;

    cpu->task_address = read_register(cpu, reg_rsi);
    cpu->task = NULL;
    if (from) {
        Task *to = find_task(cpu);

        from->switches++;
        task_hand_over(from, to);
    }
}

static void vm_exit(Cpu *cpu)
{
    uint64_t code = 0;

    cpu->in_guest = false;
    if (counting) {
        Task *task = find_task(cpu);

        read_memory(cpu, DIRECT_MAP + cpu->vmcb + VMCB_EXIT_CODE, &code, 8);
        task->interrupted = code == EXIT_INTR || code == EXIT_NMI;
        task->vm_exits++;
        task->vm_exits_interrupted += task->interrupted;
    }
}

static void irq_enter(Cpu *cpu)
{
    if (!cpu->irq_depth) {
        cpu->timer = cpu->timer_next;
    }
    cpu->timer_next = false;
    if (cpu->irq_depth < IRQ_DEPTH) {
        cpu->irq_return[cpu->irq_depth++] = 0;
    }
}

static void hooked(Cpu *cpu, unsigned hook)
{
    switch (hook) {
    case HOOK_SWITCH:
        switch_tasks(cpu);
        return;
    case HOOK_IRQ_ENTER:
        irq_enter(cpu);
        return;
    case HOOK_IRQ_EXIT:
        if (cpu->irq_depth) {
            cpu->irq_return[cpu->irq_depth - 1] = return_address(cpu);
        }
        return;
    case HOOK_TIMER:
        cpu->timer_next = true;
        return;
    case HOOK_VMEXIT:
        vm_exit(cpu);
        return;
    }
    if (!counting || cpu->irq_depth) {
        return;
    }
    if (hook == HOOK_RELEASE) {
        task_release(find_task(cpu), read_register(cpu, reg_rdi));
    } else {
        begin_acquire(cpu, find_task(cpu), hook);
    }
}

static void block_runs(unsigned index, void *opaque)
{
    const Block *block = opaque;
    const Pc *pc = block->pc;
    Cpu *cpu = &cpus[index];
    unsigned instructions = block->instructions;
    enum place place;
    Task *task;

    if (cpu->in_guest && pc->hook != HOOK_VMEXIT) {
        if (counting) {
            find_task(cpu)->place[PLACE_GUEST] += instructions;
        }
        return;
    }
    if (cpu->irq_depth && cpu->irq_return[cpu->irq_depth - 1] == pc->address) {
        cpu->irq_depth--;
    }
    if (counting) {
        task = find_task(cpu);
        if (task->nr_pending && !cpu->irq_depth &&
            task->pending[task->nr_pending - 1].site == pc->address) {
            end_acquire(cpu, task);
        }
    }
    if (pc->hook) {
        hooked(cpu, pc->hook);
    }
    if (counting) {
        task = find_task(cpu);
        if (block->begins_with_rep && cpu->rep == pc->address) {
            instructions--;             /* the same one goes on */
        }
        place = place_of(cpu, task, pc->address);
        task->place[place] += instructions;
        if (place == PLACE_USER || place == PLACE_KERNEL) {
            task_count(task, pc, instructions);
        }
        if (block->vmrun) {
            task->interrupted = false;
        }
    }
    cpu->rep = block->rep_at_end;
}

static void vmrun(unsigned index, void *opaque)
{
    cpus[index].vmcb = read_register(&cpus[index], reg_rax);
    cpus[index].in_guest = true;
}

/* The CPU's thread, or NULL if what runs is not its own doing or not counted */
static Task *counted_task(Cpu *cpu)
{
    return counting && !cpu->in_guest && !cpu->irq_depth ? find_task(cpu) : NULL;
}

static void atomic_runs(unsigned index, qemu_plugin_meminfo_t info,
                        uint64_t address, void *opaque)
{
    const Pc *pc = opaque;
    Cpu *cpu = &cpus[index];
    Task *task;
    Held *held;

    task = counted_task(cpu);
    if (!task || task->interrupted) {
        return;
    }
    task_count_atomic(task, address >> 6, pc->id);
    held = task_find_held(task, address);
    if (held && held->type == LOCK_RW_READ) {
        task_release(task, address);
    }
}

static void zero_stored(unsigned index, qemu_plugin_meminfo_t info,
                        uint64_t address, void *opaque)
{
    Cpu *cpu = &cpus[index];
    Held *held;
    Task *task;

    task = counted_task(cpu);
    if (!task) {
        return;
    }
    held = task_find_held(task, address);
    if (held && (held->type == LOCK_SPIN || held->type == LOCK_RW_WRITE)) {
        task_release(task, address);
    }
}

/* ------------------------------------------------------------------------- */
/* What is translated */

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    Block *block = g_new0(Block, 1);

    block->pc = find_pc(qemu_plugin_tb_vaddr(tb));
    block->instructions = qemu_plugin_tb_n_insns(tb);
    for (unsigned i = 0; i < block->instructions; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        uint8_t code[16];
        size_t size = qemu_plugin_insn_data(insn, code, sizeof(code));
        Decoded d = decode(code, size);

        block->begins_with_rep |= d.rep && !i;
        block->rep_at_end = d.rep ? address : 0;
        if (d.lock) {
            qemu_plugin_register_vcpu_mem_cb(insn, atomic_runs,
                                             QEMU_PLUGIN_CB_NO_REGS,
                                             QEMU_PLUGIN_MEM_W, block->pc);
        }
        if (d.zero_byte && address >> 63) {
            qemu_plugin_register_vcpu_mem_cb(insn, zero_stored,
                                             QEMU_PLUGIN_CB_NO_REGS,
                                             QEMU_PLUGIN_MEM_W, NULL);
        }
        if (d.vmrun) {
            block->vmrun = true;
            find_pc(address + size)->hook = HOOK_VMEXIT;
            qemu_plugin_register_vcpu_insn_exec_cb(insn, vmrun,
                                                   QEMU_PLUGIN_CB_R_REGS, NULL);
        }
        if (d.mark) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, marked,
                                                   QEMU_PLUGIN_CB_R_REGS, NULL);
        }
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, block_runs, QEMU_PLUGIN_CB_R_REGS,
                                         block);
}

static void cpu_begins(qemu_plugin_id_t id, unsigned index)
{
    GArray *registers = qemu_plugin_get_registers();

    g_assert(index < MAX_CPUS);
    cpus[index].bytes = g_byte_array_new();
    for (unsigned i = 0; i < registers->len; i++) {
        qemu_plugin_reg_descriptor *r =
            &g_array_index(registers, qemu_plugin_reg_descriptor, i);

        reg_rax = strcmp(r->name, "rax") ? reg_rax : r->handle;
        reg_rdi = strcmp(r->name, "rdi") ? reg_rdi : r->handle;
        reg_rsi = strcmp(r->name, "rsi") ? reg_rsi : r->handle;
        reg_rdx = strcmp(r->name, "rdx") ? reg_rdx : r->handle;
        reg_rsp = strcmp(r->name, "rsp") ? reg_rsp : r->handle;
    }
    g_array_free(registers, TRUE);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
                                           const qemu_info_t *info, int argc,
                                           char **argv)
{
    if (argc != 1 || !g_str_has_prefix(argv[0], "out=") ||
        strcmp(info->target_name, "x86_64")) {
        fprintf(stderr, "count: for x86_64, with out=FILE\n");
        return -1;
    }
    output = g_strdup(argv[0] + strlen("out="));
    pcs = g_hash_table_new(g_int64_hash, g_int64_equal);
    pc_list = g_ptr_array_new();
    find_pc(0);
    tasks = g_hash_table_new(g_int64_hash, g_int64_equal);
    task_list = g_ptr_array_new_with_free_func(task_free);
    qemu_plugin_register_vcpu_init_cb(id, cpu_begins);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
