/*
 * vCPUs: threads that touch pages, in step with the main thread
 *
 * Each thread does what a vCPU does: it looks at the bitmap of the memslot as
 * KVM would, brings the exit to kvm_userfault_handle_exit(), and touches the
 * page again.  The main thread goes on when all of them are at rest or sleep,
 * so an input always has the same effect, unless it has several run at once.
 *
 * A thread sleeps when it is in the futex call of qemu_park_sleep() and its
 * word is 0: nothing but another thread can end that.
 *
 * Threads      VCPUS of these, and the main thread.
 * Locks        turn: the state of all, and what they are to do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/futex.h>
#include <sys/syscall.h>
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "hw/core/cpu.h"
#include "system/kvm.h"
#include "kvm-userfault-abi.h"
#include "kvm-userfault.h"
#include "migration/postcopy-userfault-int.h"
#include "fuzz.h"
#include "vcpu.h"

#define KICK_SIGNAL (SIGRTMIN + 3)
/* Of vCPU 0; files that nobody has open */
#define VCPU_FD 100000
/* Touches of one page that lead to nothing */
#define PATIENCE 1000
#define SETTLE_MS 10000

typedef struct Vcpu {
    QemuThread thread;
    CPUState cpu;
    struct kvm_run run;
    /* Under turn; job, as and gpa are the vCPU's while it does not rest */
    VcpuState state;
    bool job;
    unsigned as;
    uint64_t gpa;
    const uint32_t *word;       /* on which it sleeps */
    /* Atomically */
    unsigned kicks;
} Vcpu;

static Vcpu vcpu[VCPUS];
static __thread Vcpu *self;
static QemuMutex turn;
static QemuCond changed;
static unsigned missed_exits;   /* atomically */

/* ------------------------------------------------------------------------- */
/* Sleeping */

static void set_state(Vcpu *v, VcpuState state, const uint32_t *word)
{
    QEMU_LOCK_GUARD(&turn);
    v->state = state;
    v->word = word;
    qemu_cond_broadcast(&changed);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
    long arg[6];
    va_list ap;
    bool sleeps;
    long ret;
    int i;

    va_start(ap, number);
    for (i = 0; i < 6; i++) {
        arg[i] = va_arg(ap, long);
    }
    va_end(ap);
    sleeps = self && number == __NR_futex && arg[1] == FUTEX_WAIT_PRIVATE;
    if (sleeps) {
        fuzz_check(!get_ptr_rcu_reader()->depth,
                   "a vCPU sleeps in an RCU critical section");
        set_state(self, VCPU_SLEEPS, (uint32_t *)arg[0]);
    }
    ret = __real_syscall(number, arg[0], arg[1], arg[2], arg[3], arg[4],
                         arg[5]);
    if (sleeps) {
        set_state(self, VCPU_RUNS, NULL);
    }
    return ret;
}

/* ------------------------------------------------------------------------- */
/* Touching */

static void exit_for_page(Vcpu *v, bool *broken)
{
    MemTxAttrs attrs = { .secure = v->as };
    int ret;

    v->run.memory_fault.flags = KVM_MEMORY_EXIT_FLAG_USERFAULT;
    v->run.memory_fault.gpa = v->gpa;
    v->run.memory_fault.size = PAGE_BYTES;
    fuzz_check(kvm_userfault_is_exit(&v->run), "an exit is not known as such");
    ret = kvm_userfault_handle_exit(&v->cpu, &v->run, attrs);
    *broken = ret == EXCP_INTERRUPT;
    fuzz_check(!ret || *broken, "an exit ends with %d", ret);
}

/* Whether KVM lets the vCPU have the page at @gpa, or takes it for a device */
static bool gets_page(const Vcpu *v, uint64_t gpa)
{
    const MachineSlot *slot = machine_slot_at(v->as, gpa);
    const RAMBlock *rb;
    unsigned page;

    if (!slot) {
        return true; /* MMIO */
    }
    page = (gpa - slot->gpa) >> PAGE_BITS;
    if (machine_slot_armed(slot, page)) {
        return false;
    }
    rb = &machine_block[slot->block];
    page += slot->first;
    if (page < machine_pages(rb) && !test_bit(page, rb->receivedmap)) {
        qatomic_inc(&missed_exits);
    }
    return true;
}

int vcpu_prefault(int fd, struct kvm_pre_fault_memory *range)
{
    uint64_t first = range->gpa;

    fuzz_check(self && fd == self->cpu.kvm_fd &&
               first == QEMU_ALIGN_DOWN(self->gpa, PAGE_BYTES) &&
               range->size && range->size % PAGE_BYTES == 0,
               "KVM is to map 0x%" PRIx64 " for vCPU %d, and not 0x%" PRIx64,
               first, fd - VCPU_FD, self ? self->gpa : 0);
    while (range->size && gets_page(self, range->gpa)) {
        range->gpa += PAGE_BYTES;
        range->size -= PAGE_BYTES;
    }
    if (range->gpa == first) {
        errno = EFAULT;
        return -1;
    }
    return 0;
}

static void touch(Vcpu *v)
{
    unsigned turns;
    bool broken;

    for (turns = 0; turns < PATIENCE; turns++) {
        if (gets_page(v, v->gpa)) {
            return;
        }
        exit_for_page(v, &broken);
        if (broken) {
            qatomic_set(&v->run.immediate_exit, 0);
            return;
        }
    }
    fuzz_fail("vCPU %d exits at 0x%" PRIx64 " for ever", v->cpu.cpu_index,
              v->gpa);
}

static void on_kick(int signo)
{
    qatomic_set(&self->run.immediate_exit, 1);
    kvm_userfault_kick();
    qatomic_inc(&self->kicks);
}

static void *vcpu_main(void *opaque)
{
    sigset_t set;

    self = opaque;
    rcu_register_thread();
    sigemptyset(&set);
    sigaddset(&set, KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    while (true) {
        WITH_QEMU_LOCK_GUARD(&turn) {
            while (!self->job) {
                qemu_cond_wait(&changed, &turn);
            }
            self->job = false;
        }
        touch(self);
        set_state(self, VCPU_IDLE, NULL);
    }
    return NULL;
}

/* ------------------------------------------------------------------------- */
/* What the main thread calls */

void vcpus_init(void)
{
    struct sigaction action = { .sa_handler = on_kick };
    unsigned i;

    qemu_mutex_init(&turn);
    qemu_cond_init(&changed);
    sigaction(KICK_SIGNAL, &action, NULL);
    for (i = 0; i < VCPUS; i++) {
        vcpu[i].cpu.cpu_index = i;
        vcpu[i].cpu.kvm_fd = VCPU_FD + i;
        qemu_thread_create(&vcpu[i].thread, "vcpu", vcpu_main, &vcpu[i],
                           QEMU_THREAD_DETACHED);
    }
}

bool vcpu_touch(unsigned number, unsigned as, uint64_t gpa)
{
    Vcpu *v = &vcpu[number];

    QEMU_LOCK_GUARD(&turn);
    if (v->state != VCPU_IDLE) {
        return false;
    }
    v->state = VCPU_RUNS;
    v->as = as;
    v->gpa = gpa;
    v->job = true;
    qemu_cond_broadcast(&changed);
    return true;
}

void vcpu_kick(unsigned number)
{
    Vcpu *v = &vcpu[number];
    unsigned before = qatomic_read(&v->kicks);

    pthread_kill(v->thread.thread, KICK_SIGNAL);
    while (qatomic_read(&v->kicks) == before) {
        sched_yield();
    }
}

static bool is_settled(const Vcpu *v)
{
    return v->state == VCPU_IDLE ||
           (v->state == VCPU_SLEEPS && !qatomic_read(v->word));
}

void vcpus_settle(void)
{
    unsigned i;

    QEMU_LOCK_GUARD(&turn);
    for (i = 0; i < VCPUS; i++) {
        while (!is_settled(&vcpu[i])) {
            if (!qemu_cond_timedwait(&changed, &turn, SETTLE_MS) &&
                !is_settled(&vcpu[i])) {
                fuzz_fail("vCPU %u %s", i, vcpu[i].state == VCPU_SLEEPS ?
                          "sleeps on, although it was woken" :
                          "waits where it may not");
            }
        }
    }
}

RAMBlock *vcpu_page(unsigned number, uint64_t *offset)
{
    const Vcpu *v = &vcpu[number];
    const MachineSlot *slot;
    unsigned i;

    if (v->state != VCPU_SLEEPS) {
        return NULL;
    }
    /* The memslot may have been taken away meanwhile. */
    for (i = 0; i < MACHINE_SLOTS; i++) {
        slot = &machine_slot[i];
        if (slot->as == v->as &&
            v->gpa - slot->gpa < slot->pages * PAGE_BYTES) {
            *offset = slot->first * PAGE_BYTES + (v->gpa - slot->gpa);
            return &machine_block[slot->block];
        }
    }
    fuzz_fail("vCPU %u sleeps outside of RAM", number);
}

unsigned vcpus_asleep(void)
{
    unsigned i, n = 0;

    for (i = 0; i < VCPUS; i++) {
        n += vcpu[i].state == VCPU_SLEEPS;
    }
    return n;
}

bool vcpu_has_page(void)
{
    return self &&
           postcopy_userfault.vcpu[self->cpu.cpu_index].handover.given;
}

unsigned vcpu_missed_exits(void)
{
    return qatomic_xchg(&missed_exits, 0);
}
