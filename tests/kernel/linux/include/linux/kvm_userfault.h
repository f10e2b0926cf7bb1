/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM userfault: vCPU accesses to chosen pages leave KVM_RUN
 *
 * See virt/kvm/userfault.c for threads, locks, orderings and failures.
 */
#ifndef __LINUX_KVM_USERFAULT_H
#define __LINUX_KVM_USERFAULT_H

#include <linux/kvm_host.h>

/*
 * What CONFIG_KVM_USERFAULT_BREAK can break, one promise at a time.  The
 * number is the promise's in Documentation/virt/kvm/userfault.rst; writing it
 * to the module parameter userfault_break breaks that promise and no other.
 * The last one makes KVM one that has never heard of userfault.
 */
enum kvm_userfault_promise {
	KVM_USERFAULT_BIT_OF_PAGE	= 1,
	KVM_USERFAULT_READS_BITMAP	= 2,
	KVM_USERFAULT_CHECKS_POINTER	= 3,
	KVM_USERFAULT_DROPS_MAPPINGS	= 4,
	KVM_USERFAULT_SMALL_PAGES	= 5,
	KVM_USERFAULT_MAPPED_STAYS	= 6,
	KVM_USERFAULT_CLEAR_WORKS	= 7,
	KVM_USERFAULT_POINTER_STAYS	= 8,
	KVM_USERFAULT_DIRTY_LOGGING	= 9,
	KVM_USERFAULT_OWN_ACCESS	= 10,
	KVM_USERFAULT_EXITS_AGAIN	= 11,
	KVM_USERFAULT_BEFORE_ASYNC	= 12,
	KVM_USERFAULT_PREFAULT		= 13,
	KVM_USERFAULT_ADDRESS_SPACES	= 14,
	KVM_USERFAULT_READ_ONLY		= 15,
	KVM_USERFAULT_PRIVATE		= 16,
	KVM_USERFAULT_KNOWN		= 255,
};

/* Flags that userspace gives a memslot; above them are KVM's own. */
#define KVM_USERFAULT_USER_FLAGS	0xffffu

#ifdef CONFIG_KVM_USERFAULT_BREAK
bool kvm_userfault_broken(enum kvm_userfault_promise promise);
bool kvm_userfault_break_repeat(struct kvm_vcpu *vcpu,
				const struct kvm_memory_slot *slot, gfn_t gfn,
				bool set);
void kvm_userfault_break_pointer(struct kvm *kvm,
				 const struct kvm_userspace_memory_region2 *mem);
bool kvm_userfault_break_own_access(const struct kvm_memory_slot *slot,
				    gfn_t gfn);
#else
static inline bool kvm_userfault_broken(enum kvm_userfault_promise promise)
{
	return false;
}

static inline bool
kvm_userfault_break_repeat(struct kvm_vcpu *vcpu,
			   const struct kvm_memory_slot *slot, gfn_t gfn,
			   bool set)
{
	return set;
}

static inline void
kvm_userfault_break_pointer(struct kvm *kvm,
			    const struct kvm_userspace_memory_region2 *mem)
{
}

static inline bool
kvm_userfault_break_own_access(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	return false;
}
#endif /* CONFIG_KVM_USERFAULT_BREAK */

#ifdef CONFIG_KVM_USERFAULT
/**
 * kvm_userfault_enabled - does a slot have vCPU faults filtered by a bitmap?
 * @slot: the memslot, as seen under kvm->srcu or kvm->slots_lock
 *
 * Any context.
 */
static inline bool kvm_userfault_enabled(const struct kvm_memory_slot *slot)
{
	if (kvm_userfault_broken(KVM_USERFAULT_DIRTY_LOGGING) &&
	    kvm_slot_dirty_track_enabled(slot))
		return false;

	return slot->flags & KVM_MEM_USERFAULT;
}

static inline u32 kvm_userfault_valid_flags(void)
{
	return kvm_userfault_broken(KVM_USERFAULT_KNOWN) ? 0 : KVM_MEM_USERFAULT;
}

/* Is this the number of a capability that KVM userfault provides? */
static inline bool kvm_userfault_provides(long cap)
{
	return cap == KVM_CAP_USERFAULT &&
	       !kvm_userfault_broken(KVM_USERFAULT_KNOWN);
}

int kvm_userfault_check_region(struct kvm *kvm,
			       const struct kvm_userspace_memory_region2 *mem);
bool kvm_userfault_may_update(const struct kvm_memory_slot *old,
			      const struct kvm_userspace_memory_region2 *mem);
void kvm_userfault_init_slot(struct kvm_memory_slot *slot,
			     const struct kvm_userspace_memory_region2 *mem);
int kvm_userfault_test_page(struct kvm_vcpu *vcpu,
			    const struct kvm_memory_slot *slot, gfn_t gfn);
void kvm_userfault_prepare_exit(struct kvm_vcpu *vcpu);
#else
static inline bool kvm_userfault_enabled(const struct kvm_memory_slot *slot)
{
	return false;
}

static inline u32 kvm_userfault_valid_flags(void)
{
	return 0;
}

static inline bool kvm_userfault_provides(long cap)
{
	return false;
}

static inline int
kvm_userfault_check_region(struct kvm *kvm,
			   const struct kvm_userspace_memory_region2 *mem)
{
	return 0;
}

static inline bool
kvm_userfault_may_update(const struct kvm_memory_slot *old,
			 const struct kvm_userspace_memory_region2 *mem)
{
	return false;
}

static inline void
kvm_userfault_init_slot(struct kvm_memory_slot *slot,
			const struct kvm_userspace_memory_region2 *mem)
{
}
#endif /* CONFIG_KVM_USERFAULT */

#endif /* __LINUX_KVM_USERFAULT_H */
