/*
 * KVM userfault: does this kernel have it?
 *
 * Only behaviour tells.  The feature has no stable capability number, and a
 * memslot flag that is accepted may mean something else one day.  So a virtual
 * machine of one page is made; its vCPU, fresh from reset, fetches its first
 * instruction from that page.  With the page's bit set KVM_RUN must leave with
 * a userfault exit; with the bit clear it must execute the instruction there.
 *
 * Threads      the caller's.
 * Owns         a VM, a vCPU and two mappings, all released before returning.
 * Failure      any surprise means "not supported", with the reason.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "qapi/error.h"
#include "qemu/atomic.h"
#include "kvm-userfault-abi.h"
#include "kvm-userfault.h"

#if defined(__x86_64__)

/* A reset vCPU starts 16 bytes below 4 GiB. */
#define RESET_PAGE    0xfffff000ull
#define RESET_OFFSET  0xff0
#define INSN_HLT      0xf4
/* Where Intel's real-mode helper pages may be; unused by the guest. */
#define TSS_PAGES     0xfffb0000ul

typedef struct Probe {
    int vm;
    int vcpu;
    uint8_t *page;
    struct kvm_run *run;
    size_t run_size;
    unsigned long bitmap;
} Probe;

static void probe_close(Probe *p)
{
    if (p->run) {
        munmap(p->run, p->run_size);
    }
    if (p->vcpu >= 0) {
        close(p->vcpu);
    }
    if (p->vm >= 0) {
        close(p->vm);
    }
    if (p->page) {
        munmap(p->page, qemu_real_host_page_size());
    }
}

static bool probe_make_vm(Probe *p, int kvm_fd, Error **errp)
{
    size_t page_size = qemu_real_host_page_size();
    void *page;

    p->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
    if (p->vm < 0) {
        error_setg_errno(errp, errno, "cannot create a VM to try it with");
        return false;
    }
    /* Only Intel needs it, and only some; others refuse or ignore it. */
    ioctl(p->vm, KVM_SET_TSS_ADDR, TSS_PAGES);

    page = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        error_setg_errno(errp, errno, "no memory to try it with");
        return false;
    }
    p->page = page;
    p->page[RESET_OFFSET] = INSN_HLT;
    return true;
}

static bool probe_make_slot(Probe *p, Error **errp)
{
    KVMUserfaultRegion region = {
        .flags = KVM_MEM_USERFAULT,
        .guest_phys_addr = RESET_PAGE,
        .memory_size = qemu_real_host_page_size(),
        .userspace_addr = (uintptr_t)p->page,
        .userfault_bitmap = (uintptr_t)&p->bitmap,
    };

    if (ioctl(p->vm, KVM_SET_USER_MEMORY_REGION2, &region)) {
        error_setg(errp, "the host kernel does not know KVM_MEM_USERFAULT (%s)",
                   strerror(errno));
        return false;
    }
    return true;
}

static bool probe_make_vcpu(Probe *p, int kvm_fd, Error **errp)
{
    int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *run;

    p->vcpu = ioctl(p->vm, KVM_CREATE_VCPU, 0);
    if (p->vcpu < 0 || size < 0) {
        error_setg_errno(errp, errno, "cannot create a vCPU to try it with");
        return false;
    }
    run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
    if (run == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot map a vCPU to try it with");
        return false;
    }
    p->run = run;
    p->run_size = size;
    return true;
}

static int probe_run(Probe *p)
{
    return RETRY_ON_EINTR(ioctl(p->vcpu, KVM_RUN, 0)) ? -errno : 0;
}

static bool probe_behaviour(Probe *p, Error **errp)
{
    int ret = probe_run(p);

    if (ret != -EFAULT || p->run->exit_reason != KVM_EXIT_MEMORY_FAULT ||
        !(p->run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_USERFAULT) ||
        p->run->memory_fault.gpa != RESET_PAGE) {
        error_setg(errp, "the host kernel accepts KVM_MEM_USERFAULT, but an "
                   "access to an absent page does not exit (KVM_RUN: %s, exit "
                   "reason %u)", strerror(-ret), p->run->exit_reason);
        return false;
    }

    qatomic_store_release(&p->bitmap, 0);
    ret = probe_run(p);
    if (ret || p->run->exit_reason != KVM_EXIT_HLT) {
        error_setg(errp, "the host kernel accepts KVM_MEM_USERFAULT, but a "
                   "page does not become accessible (KVM_RUN: %s, exit reason "
                   "%u)", strerror(-ret), p->run->exit_reason);
        return false;
    }
    return true;
}

bool kvm_userfault_probe(int kvm_fd, Error **errp)
{
    Probe p = { .vm = -1, .vcpu = -1, .bitmap = 1 };
    bool ok;

    if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) <= 0) {
        error_setg(errp, "the host kernel has no KVM_CAP_IMMEDIATE_EXIT");
        return false;
    }
    ok = probe_make_vm(&p, kvm_fd, errp) &&
         probe_make_slot(&p, errp) &&
         probe_make_vcpu(&p, kvm_fd, errp) &&
         probe_behaviour(&p, errp);
    probe_close(&p);
    return ok;
}

#else

bool kvm_userfault_probe(int kvm_fd, Error **errp)
{
    error_setg(errp, "KVM userfault is not implemented for this host CPU");
    return false;
}

#endif
