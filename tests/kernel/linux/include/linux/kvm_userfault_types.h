/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM userfault: what a memslot carries
 *
 * Apart from <linux/kvm_userfault.h> because struct kvm_memory_slot embeds it,
 * while the functions there look into struct kvm_memory_slot.
 */
#ifndef __LINUX_KVM_USERFAULT_TYPES_H
#define __LINUX_KVM_USERFAULT_TYPES_H

#include <linux/compiler.h>

struct kvm_userfault_slot {
#ifdef CONFIG_KVM_USERFAULT
	/*
	 * Set once, before the slot is published; KVM replaces a slot instead
	 * of changing it.  Valid while KVM_MEM_USERFAULT is set in the slot's
	 * flags.  Points into the address space of the VM (kvm->mm).
	 */
	unsigned long __user *bitmap;
#endif
};

#endif /* __LINUX_KVM_USERFAULT_TYPES_H */
