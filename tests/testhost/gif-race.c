// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Does an emulated SVM CPU lose a STGI while other CPUs load FPU state?
 *
 * Run inside the test host.  Threads: one vCPU thread pinned to CPU 0, one
 * loader pinned to each other CPU, and main, which only watches.  The vCPU
 * thread lets a guest halt, which is CLGI, VMRUN, STGI on CPU 0, and then
 * sleeps, so that CPU 0 idles with the global interrupt flag the STGI left.
 * The loaders execute FLDENV, after which the emulator clears IGNNE in the
 * flags of CPU 0 (and FXRSTOR, XRSTOR likewise).  If that overwrites the STGI,
 * CPU 0 takes no timer interrupt any more and the sleep never ends.
 *
 * Exit: 0 no hang within the time, 1 hang, 2 cannot run.
 * Usage: gif-race SECONDS
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
/* No progress of the vCPU thread for this long is a hang. */
#define HANG_SECONDS 20
#define SLEEP_NS 20000

static atomic_ulong entries;        /* vCPU thread writes, main reads */
static atomic_bool stop;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        die("sched_setaffinity");
    }
}

static void *load_fpu_state(void *cpu)
{
    unsigned int env[7];

    pin((int)(long)cpu);
    __asm__ volatile("fnstenv %0" : "=m"(env));
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        for (int i = 0; i < 1000; i++) {
            __asm__ volatile("fldenv %0" : : "m"(env));
        }
    }
    return NULL;
}

/* A vCPU in real mode whose memory is "hlt; jmp back". */
static int make_vcpu(void)
{
    static const unsigned char code[] = { 0xf4, 0xeb, 0xfd };
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    void *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = {
        .memory_size = PAGE, .guest_phys_addr = PAGE,
        .userspace_addr = (unsigned long)memory,
    };
    struct kvm_regs regs = { .rip = PAGE, .rflags = 2 };
    struct kvm_sregs sregs;
    int vcpu;

    if (vm < 0 || memory == MAP_FAILED) {
        die("/dev/kvm");
    }
    memcpy(memory, code, sizeof(code));
    vcpu = ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) ? -1
         : ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0 || ioctl(vcpu, KVM_GET_SREGS, &sregs)) {
        die("KVM_CREATE_VCPU");
    }
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) || ioctl(vcpu, KVM_SET_REGS, &regs)) {
        die("KVM_SET_REGS");
    }
    return vcpu;
}

static void *enter_guest(void *unused)
{
    const struct timespec nap = { .tv_nsec = SLEEP_NS };
    int vcpu = make_vcpu();

    pin(0);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        if (ioctl(vcpu, KVM_RUN, 0)) {
            die("KVM_RUN");
        }
        atomic_fetch_add_explicit(&entries, 1, memory_order_relaxed);
        nanosleep(&nap, NULL);
    }
    return unused;
}

/* Seconds without hang, up to the limit; *hung tells which it was. */
static int watch(int limit, bool *hung)
{
    unsigned long last = 0;
    int still = 0;

    *hung = false;
    for (int second = 1; second <= limit; second++) {
        unsigned long now;

        sleep(1);
        now = atomic_load_explicit(&entries, memory_order_relaxed);
        still = now == last ? still + 1 : 0;
        last = now;
        if (still == HANG_SECONDS) {
            *hung = true;
            return second - still;
        }
    }
    return limit;
}

int main(int argc, char **argv)
{
    int seconds = argc == 2 ? atoi(argv[1]) : 0;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t thread;
    bool hung;

    if (seconds <= 0 || cpus < 2) {
        fprintf(stderr, "usage: gif-race SECONDS, with at least 2 CPUs\n");
        return 2;
    }
    /* Main must not depend on CPU 0. */
    pin((int)cpus - 1);
    if (pthread_create(&thread, NULL, enter_guest, NULL)) {
        die("pthread_create");
    }
    for (long cpu = 1; cpu < cpus; cpu++) {
        if (pthread_create(&thread, NULL, load_fpu_state, (void *)cpu)) {
            die("pthread_create");
        }
    }
    seconds = watch(seconds, &hung);
    printf("gif-race: %lu guest entries, %s after %d s\n",
           atomic_load(&entries), hung ? "CPU 0 HUNG" : "no hang", seconds);
    fflush(stdout);
    /* A hung thread cannot be joined, and cannot be waited for by exit(). */
    _exit(hung);
}
