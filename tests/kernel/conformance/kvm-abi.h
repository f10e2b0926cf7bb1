/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel interface under test, stated once
 *
 * The system's <linux/kvm.h> may be older than the kernel that is tested, or
 * know nothing about KVM userfault: what the programs need and a header may
 * lack is defined here, and the layout is asserted.
 */
#ifndef CONFORMANCE_KVM_ABI_H
#define CONFORMANCE_KVM_ABI_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#ifndef KVM_MEM_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#endif
#ifndef KVM_MEM_USERFAULT
#define KVM_MEM_USERFAULT (1UL << 3)
#endif
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif
#ifndef KVM_MEMORY_EXIT_FLAG_PRIVATE
#define KVM_MEMORY_EXIT_FLAG_PRIVATE (1ULL << 3)
#endif
#ifndef KVM_MEMORY_EXIT_FLAG_USERFAULT
#define KVM_MEMORY_EXIT_FLAG_USERFAULT (1ULL << 4)
#endif
#ifndef KVM_CAP_MULTI_ADDRESS_SPACE
#define KVM_CAP_MULTI_ADDRESS_SPACE 118
#endif
#ifndef KVM_CAP_VM_TYPES
#define KVM_CAP_VM_TYPES 235
#endif
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#define KVM_CAP_PRE_FAULT_MEMORY 236
#endif
#ifndef KVM_X86_SW_PROTECTED_VM
#define KVM_X86_SW_PROTECTED_VM 1
#endif

/* struct kvm_userspace_memory_region2, under a name no header has. */
struct region2 {
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
};
_Static_assert(sizeof(struct region2) == 160, "size of the region");
_Static_assert(offsetof(struct region2, userspace_addr) == 24, "v1 part");
_Static_assert(offsetof(struct region2, guest_memfd) == 40, "guest_memfd");
_Static_assert(offsetof(struct region2, userfault_bitmap) == 48, "bitmap");

#define REGION2_IOCTL _IOW(KVMIO, 0x49, struct region2)

/* The part of struct kvm_run that describes a memory fault exit. */
struct memory_fault {
    uint64_t flags;
    uint64_t gpa;
    uint64_t size;
};
_Static_assert(offsetof(struct kvm_run, hw) == 32, "union of struct kvm_run");

struct memory_attributes {
    uint64_t address;
    uint64_t size;
    uint64_t attributes;
    uint64_t flags;
};
#define MEMORY_ATTRIBUTE_PRIVATE (1ULL << 3)
#define MEMORY_ATTRIBUTES_IOCTL _IOW(KVMIO, 0xd2, struct memory_attributes)

struct create_guest_memfd {
    uint64_t size;
    uint64_t flags;
    uint64_t reserved[6];
};
#define GUEST_MEMFD_IOCTL _IOWR(KVMIO, 0xd4, struct create_guest_memfd)

struct pre_fault_memory {
    uint64_t gpa;
    uint64_t size;
    uint64_t flags;
    uint64_t padding[5];
};
#define PRE_FAULT_IOCTL _IOWR(KVMIO, 0xd5, struct pre_fault_memory)

/* Model-specific registers of the paravirtual clock and of steal time. */
#define MSR_PV_CLOCK 0x4b564d01
#define MSR_PV_STEAL 0x4b564d03

#endif /* CONFORMANCE_KVM_ABI_H */
