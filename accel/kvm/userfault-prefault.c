/*
 * KVM maps a page that has come, before the vCPU enters the guest again
 *
 * Without it the vCPU touches the page, exits, and has KVM map it then.
 *
 * KVM_PRE_FAULT_MEMORY of Linux 6.12 tries again until it succeeds or a signal
 * comes.  There are two cases in which it would not succeed: a memslot that is
 * being deleted, as the deletion waits for the vCPU to leave the ioctl; and page
 * tables that were given up when one was deleted, as only KVM_RUN gets others.
 * So no vCPU calls it while memslots change, nor before it has been in the guest
 * after that.
 *
 * Threads      vCPUs, and the one that changes memslots.
 * Owns         a record for each vCPU, and the count of changes.
 * Locks        none; changes are made with the BQL held.
 * Orderings    a vCPU against a change:
 *
 *                userfault_prefault()           userfault_prefault_pause()
 *                busy = true                    changes becomes odd
 *                full barrier                   full barrier
 *                changes as last time?  ioctl   busy?  wait
 *
 *              One sees the other.
 *
 *              A vCPU takes down the count before it enters the guest.  As long
 *              as it stays the same no page tables have been given up since.
 * Failure      where KVM cannot do it (shadow paging, a nested guest, a signal)
 *              the vCPU comes to the page by itself.  One that hangs in it
 *              nevertheless is got out by any kick.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "trace.h"
#include "kvm-userfault.h"
#include "userfault-prefault.h"

typedef struct PrefaultVcpu {
    /* Written by the vCPU, read by the one that changes memslots */
    bool busy;
    /* The vCPU's: the count when it was here last */
    unsigned changes;
} QEMU_ALIGNED(64) PrefaultVcpu;

static struct {
    /* Set once, under the BQL and before vCPUs come here */
    PrefaultVcpu *vcpu;
    unsigned nr_vcpus;
    /* Odd: memslots are being changed.  Written under the BQL, read by all */
    unsigned changes;
} prefault;

void userfault_prefault_init(KVMState *s)
{
    unsigned nr = MACHINE(qdev_get_machine())->smp.max_cpus;
    size_t size = nr * sizeof(*prefault.vcpu);

    if (!prefault.vcpu &&
        kvm_vm_check_extension(s, KVM_CAP_PRE_FAULT_MEMORY) > 0) {
        prefault.nr_vcpus = nr;
        prefault.vcpu = qemu_memalign(64, size);
        memset(prefault.vcpu, 0, size);
    }
}

void userfault_prefault(CPUState *cpu, uint64_t gpa, uint64_t length)
{
    uint64_t page_size = qemu_real_host_page_size();
    uint64_t start = QEMU_ALIGN_DOWN(gpa, page_size);
    struct kvm_pre_fault_memory range = {
        .gpa = start,
        .size = QEMU_ALIGN_UP(gpa + length, page_size) - start,
    };
    int ret = -EBUSY;
    PrefaultVcpu *v;

    if (!prefault.vcpu) {
        return;
    }
    v = &prefault.vcpu[cpu->cpu_index];
    qatomic_set(&v->busy, true);
    /* Pairs with the one in userfault_prefault_pause(). */
    smp_mb();
    if (!(v->changes & 1) && v->changes == qatomic_read(&prefault.changes)) {
        /*
         * Not kvm_vcpu_ioctl(): it waits for accel_ioctl_inhibit_end(), and who
         * is to call that may be in userfault_prefault_pause().
         */
        ret = ioctl(cpu->kvm_fd, KVM_PRE_FAULT_MEMORY, &range) ? -errno : 0;
    }
    qatomic_store_release(&v->busy, false);
    /* Pairs with the one in userfault_prefault_resume(). */
    v->changes = qatomic_load_acquire(&prefault.changes);
    trace_kvm_userfault_prefault(cpu->cpu_index, start, range.gpa - start, ret);
}

/* How often a vCPU is looked at, 20 us apart, before it is kicked */
#define PATIENCE 50

void userfault_prefault_pause(void)
{
    unsigned i, looks;

    assert(bql_locked());
    qatomic_set(&prefault.changes, prefault.changes + 1);
    /* Pairs with the one in userfault_prefault(). */
    smp_mb();
    for (i = 0; i < prefault.nr_vcpus; i++) {
        looks = 0;
        while (qatomic_load_acquire(&prefault.vcpu[i].busy)) {
            if (++looks % PATIENCE == 0) {
                /* Not qemu_cpu_kick(), which kicks once until it is heeded. */
                pthread_kill(qemu_get_cpu(i)->thread->thread, SIG_IPI);
            }
            g_usleep(20);
        }
    }
}

void userfault_prefault_resume(void)
{
    qatomic_store_release(&prefault.changes, prefault.changes + 1);
}
