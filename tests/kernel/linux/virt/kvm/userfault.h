/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM userfault: bindings of guest_memfd slots whose flags change
 *
 * See userfault_gmem.h.  Without KVM userfault no such slot changes, and the
 * wrappers are the functions they wrap.
 */
#ifndef __KVM_USERFAULT_H
#define __KVM_USERFAULT_H

#include <linux/kvm_userfault.h>
#include <linux/version.h>

#include "kvm_mm.h"

#if defined(CONFIG_KVM_USERFAULT) && \
	(defined(CONFIG_KVM_GUEST_MEMFD) || defined(CONFIG_KVM_PRIVATE_MEM))
int kvm_gmem_adopt(const struct kvm_memory_slot *old,
		   struct kvm_memory_slot *new, unsigned int fd, u64 offset);
void kvm_gmem_rebind(struct kvm_memory_slot *new);
#else
static inline int kvm_gmem_adopt(const struct kvm_memory_slot *old,
				 struct kvm_memory_slot *new, unsigned int fd,
				 u64 offset)
{
	return -EINVAL;
}

static inline void kvm_gmem_rebind(struct kvm_memory_slot *new)
{
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
/* kvm_gmem_bind(); a slot that replaces one with other flags is bound later. */
static inline int
kvm_userfault_gmem_bind(struct kvm *kvm, const struct kvm_memory_slot *old,
			struct kvm_memory_slot *new,
			const struct kvm_userspace_memory_region2 *mem,
			enum kvm_mr_change change)
{
	if (change == KVM_MR_FLAGS_ONLY)
		return kvm_gmem_adopt(old, new, mem->guest_memfd,
				      mem->guest_memfd_offset);

	return kvm_gmem_bind(kvm, new, mem->guest_memfd,
			     mem->guest_memfd_offset);
}

/* kvm_gmem_unbind() for a slot that did not become active. */
static inline void kvm_userfault_gmem_unbind(struct kvm_memory_slot *new,
					     enum kvm_mr_change change)
{
	if (change != KVM_MR_FLAGS_ONLY)
		kvm_gmem_unbind(new);
}
#else
/* Note the file of a slot that replaces one with other flags. */
static inline int
kvm_userfault_gmem_adopt(const struct kvm_memory_slot *old,
			 struct kvm_memory_slot *new,
			 const struct kvm_userspace_memory_region2 *mem,
			 enum kvm_mr_change change)
{
	if (change != KVM_MR_FLAGS_ONLY || !(mem->flags & KVM_MEM_GUEST_MEMFD))
		return 0;

	return kvm_gmem_adopt(old, new, mem->guest_memfd,
			      mem->guest_memfd_offset);
}
#endif

/* Bind a slot that replaces one with other flags, just before it is active. */
static inline void kvm_userfault_gmem_rebind(struct kvm_memory_slot *new)
{
	if (new->flags & KVM_MEM_GUEST_MEMFD)
		kvm_gmem_rebind(new);
}

#endif /* __KVM_USERFAULT_H */
