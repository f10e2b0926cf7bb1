/*
 * The kernel's interface for KVM userfault
 *
 * Not in any released kernel's headers, hence defined here.  The values are
 * those of the kernel series "KVM: Introduce KVM Userfault", version 3.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_USERFAULT_ABI_H
#define ACCEL_KVM_KVM_USERFAULT_ABI_H

#include <linux/kvm.h>

#ifndef KVM_MEM_USERFAULT
#define KVM_MEM_USERFAULT (1UL << 3)
#endif

#ifndef KVM_MEMORY_EXIT_FLAG_USERFAULT
#define KVM_MEMORY_EXIT_FLAG_USERFAULT (1ULL << 4)
#endif

/*
 * struct kvm_userspace_memory_region2 as it is with the series: the bitmap's
 * address takes the first of the reserved words, and the size stays.
 */
typedef struct KVMUserfaultRegion {
    uint32_t slot;
    uint32_t flags;
    uint64_t guest_phys_addr;
    uint64_t memory_size;
    uint64_t userspace_addr;
    uint64_t guest_memfd_offset;
    uint32_t guest_memfd;
    uint32_t pad1;
    uint64_t userfault_bitmap;
    uint64_t pad2[13];
} KVMUserfaultRegion;

QEMU_BUILD_BUG_ON(sizeof(KVMUserfaultRegion) !=
                  sizeof(struct kvm_userspace_memory_region2));
QEMU_BUILD_BUG_ON(sizeof(KVMUserfaultRegion) != 160);
QEMU_BUILD_BUG_ON(offsetof(KVMUserfaultRegion, userfault_bitmap) != 48);
QEMU_BUILD_BUG_ON(offsetof(KVMUserfaultRegion, guest_memfd_offset) !=
                  offsetof(struct kvm_userspace_memory_region2,
                           guest_memfd_offset));
QEMU_BUILD_BUG_ON(offsetof(KVMUserfaultRegion, guest_memfd) !=
                  offsetof(struct kvm_userspace_memory_region2, guest_memfd));

#endif
