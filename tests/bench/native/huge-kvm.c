/*
 * Does KVM itself wait for a page that KVM's bitmap says is absent?
 *
 * It does not look at the bitmap for its own accesses; they go through the
 * memslot's userspace_addr.  Here KVM writes the guest's clock to a piece of a
 * huge page that has not come, with the memslot on the alias and then on the
 * guarded mapping (see huge-bench.c).  Any KVM will do: no bitmap is needed to
 * see which way these accesses go.
 *
 * Prints, for each, whether KVM has written, and whether it waits in
 * userfaultfd: {"alias": "written", "guarded": "waits"}
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "qemu/atomic.h"
#include "qemu/units.h"
#include "huge-memory.h"

#define HOST_PAGE (2 * MiB)
#define CODE 0x1000             /* guest addresses */
#define CLOCK 0x3000
#define CLOCK_BYTES 32
#define CLOCK_MSR 0x4b564d01    /* MSR_KVM_SYSTEM_TIME_NEW */
#define HLT 0xf4

static int kvm;

static void must(int ret, const char *what)
{
    if (ret < 0) {
        fprintf(stderr, "%s: %s\n", what, g_strerror(errno));
        exit(1);
    }
}

static int make_vcpu(uint8_t *memory)
{
    struct kvm_userspace_memory_region slot = {
        .memory_size = HOST_PAGE, .userspace_addr = (uintptr_t)memory,
    };
    struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
    struct kvm_sregs sregs;
    int vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu;

    must(vm, "KVM_CREATE_VM");
    ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
    must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "memslot");
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    must(vcpu, "KVM_CREATE_VCPU");
    must(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    must(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    must(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
    return vcpu;
}

/* The clock's MSR, then KVM_RUN: KVM writes the clock before it enters. */
static void *run_vcpu(void *opaque)
{
    int vcpu = *(int *)opaque;
    struct kvm_msrs *msrs = g_malloc0(sizeof(*msrs) + sizeof(msrs->entries[0]));

    msrs->nmsrs = 1;
    msrs->entries[0].index = CLOCK_MSR;
    msrs->entries[0].data = CLOCK | 1;
    must(ioctl(vcpu, KVM_SET_MSRS, msrs) == 1 ? 0 : -1, "the clock's MSR");
    must(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    g_free(msrs);
    return NULL;
}

static const char *try(bool through_alias)
{
    int fd = huge_memfd(HOST_PAGE, HOST_PAGE), vcpu, i;
    uint8_t *guarded = huge_map(fd, HOST_PAGE);
    uint8_t *alias = huge_map(fd, HOST_PAGE);
    int uffd = huge_guard(guarded, HOST_PAGE, true);
    struct pollfd pfd = { .fd = uffd, .events = POLLIN };
    struct uffdio_continue opened = {
        .range = { (uintptr_t)guarded, HOST_PAGE },
    };
    bool waits, written = false;
    pthread_t thread;

    alias[CODE] = HLT;
    vcpu = make_vcpu(through_alias ? alias : guarded);
    pthread_create(&thread, NULL, run_vcpu, &vcpu);
    waits = poll(&pfd, 1, 500) == 1;
    for (i = 0; i < CLOCK_BYTES; i++) {
        written |= qatomic_read(&alias[CLOCK + i]) != 0;
    }
    must(ioctl(uffd, UFFDIO_CONTINUE, &opened), "UFFDIO_CONTINUE");
    pthread_join(thread, NULL);
    return written ? "written" : waits ? "waits" : "nothing";
}

int main(void)
{
    kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    must(kvm, "/dev/kvm");
    alarm(20);
    printf("{\"alias\": \"%s\"", try(true));
    printf(", \"guarded\": \"%s\"}\n", try(false));
    return 0;
}
