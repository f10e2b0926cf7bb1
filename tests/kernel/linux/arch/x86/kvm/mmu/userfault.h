/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM userfault in the x86 MMU
 *
 * See userfault.c for threads, locks and failures.
 */
#ifndef __KVM_X86_MMU_USERFAULT_H
#define __KVM_X86_MMU_USERFAULT_H

#include <linux/kvm_userfault.h>
#include <linux/version.h>

#include "mmu_internal.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define kvm_mmu_recover_huge_pages kvm_mmu_zap_collapsible_sptes
#endif

#ifdef CONFIG_KVM_USERFAULT
int kvm_mmu_userfault(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
int kvm_mmu_userfault_max_level(const struct kvm_memory_slot *slot,
				int max_level);
bool kvm_mmu_userfault_apply_flags(struct kvm *kvm,
				   const struct kvm_memory_slot *old,
				   const struct kvm_memory_slot *new,
				   enum kvm_mr_change change);
#else
static inline int kvm_mmu_userfault(struct kvm_vcpu *vcpu,
				    struct kvm_page_fault *fault)
{
	return RET_PF_CONTINUE;
}

static inline int
kvm_mmu_userfault_max_level(const struct kvm_memory_slot *slot, int max_level)
{
	return max_level;
}

static inline bool
kvm_mmu_userfault_apply_flags(struct kvm *kvm,
			      const struct kvm_memory_slot *old,
			      const struct kvm_memory_slot *new,
			      enum kvm_mr_change change)
{
	return false;
}
#endif /* CONFIG_KVM_USERFAULT */

#endif /* __KVM_X86_MMU_USERFAULT_H */
