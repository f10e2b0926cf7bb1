// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM userfault in the x86 MMU: faults, mapping size, flags of a live slot
 *
 * Threads: kvm_mmu_userfault() in a vCPU's page fault (kvm->srcu read-locked,
 * mmu_lock not held); kvm_mmu_userfault_apply_flags() in the thread that sets a
 * memslot (kvm->slots_lock held); kvm_mmu_userfault_max_level() in both.
 *
 * Ownership: second-stage mappings of the slot, which go when the flag comes.
 *
 * Locks: kvm->slots_lock, then kvm->mmu_lock.
 *
 * Orderings: the flag goes on while vCPUs run.  No vCPU can map a page behind
 * the zap, because the swap of the slots ended with a grace period:
 *
 *   thread of the ioctl                  vCPU thread
 *   -------------------                  -----------
 *                                        srcu_read_lock, finds the old slot
 *   new slot becomes active
 *   synchronize_srcu: waits              maps without looking at a bitmap
 *                                        srcu_read_unlock
 *   zaps all mappings of the slot
 *                                        finds the new slot, reads the bitmap
 *
 * Failure: a page with its bit set is -EFAULT with exit information, an
 * unreadable bitmap is -EFAULT without.
 */
#include <linux/kvm_host.h>
#include <linux/mm.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "userfault.h"

static void kvm_mmu_userfault_zap(struct kvm *kvm,
				  const struct kvm_memory_slot *slot)
{
	/* kvm_gfn_range has no const slot; zapping does not change it. */
	struct kvm_gfn_range range = {
		.slot = (struct kvm_memory_slot *)slot,
		.start = slot->base_gfn,
		.end = slot->base_gfn + slot->npages,
		.may_block = true,
	};

	/*
	 * The mappings of this slot only: the slot stays, so there is no need
	 * for the all-of-the-VM zap that the deletion of a slot does.
	 */
	write_lock(&kvm->mmu_lock);
	if (kvm_unmap_gfn_range(kvm, &range))
		kvm_flush_remote_tlbs_memslot(kvm, slot);
	write_unlock(&kvm->mmu_lock);
}

/*
 * Promise 12 broken: the asynchronous page fault comes first.  True if the
 * fault would be turned into one because the host has to look for the page.
 */
static bool kvm_mmu_userfault_async_first(struct kvm_vcpu *vcpu,
					  const struct kvm_page_fault *fault)
{
	struct page *page;

	if (!kvm_userfault_broken(KVM_USERFAULT_BEFORE_ASYNC) ||
	    fault->prefetch || !kvm_can_do_async_pf(vcpu))
		return false;

	if (!get_user_page_fast_only(gfn_to_hva_memslot(fault->slot, fault->gfn),
				     FOLL_WRITE, &page))
		return true;

	put_page(page);
	return false;
}

/* Promises 13 to 15 broken: some kinds of faults do not look at the bitmap. */
static bool kvm_mmu_userfault_overlooked(const struct kvm_page_fault *fault)
{
	return (fault->prefetch &&
		kvm_userfault_broken(KVM_USERFAULT_PREFAULT)) ||
	       (fault->slot->as_id &&
		kvm_userfault_broken(KVM_USERFAULT_ADDRESS_SPACES)) ||
	       (fault->slot->flags & KVM_MEM_READONLY && fault->write &&
		kvm_userfault_broken(KVM_USERFAULT_READ_ONLY));
}

/**
 * kvm_mmu_userfault - let the bitmap of the slot decide about a page fault
 * @vcpu: the faulting vCPU
 * @fault: the fault; has a valid slot
 *
 * To be called before the page is looked up in the host: the exit comes before
 * an asynchronous page fault, and a missing page is not populated for it.
 *
 * A prefetching fault (KVM_PRE_FAULT_MEMORY, the end of an asynchronous page
 * fault) is refused silently: kvm_run describes exits of KVM_RUN, and this is
 * not one.
 *
 * Context: vCPU thread, kvm->srcu read-locked; may sleep.
 * Return: RET_PF_CONTINUE, or -EFAULT.
 */
int kvm_mmu_userfault(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	int r;

	if (likely(!kvm_userfault_enabled(fault->slot)))
		return RET_PF_CONTINUE;

	if (kvm_mmu_userfault_async_first(vcpu, fault) ||
	    kvm_mmu_userfault_overlooked(fault))
		return RET_PF_CONTINUE;

	r = kvm_userfault_test_page(vcpu, fault->slot, fault->gfn);
	if (!r)
		return RET_PF_CONTINUE;
	if (r < 0 || fault->prefetch)
		return -EFAULT;

	if (kvm_userfault_broken(KVM_USERFAULT_MAPPED_STAYS))
		kvm_mmu_userfault_zap(vcpu->kvm, fault->slot);

	kvm_mmu_prepare_memory_fault_exit(vcpu, fault);
	kvm_userfault_prepare_exit(vcpu);

	return -EFAULT;
}

/**
 * kvm_mmu_userfault_max_level - the largest page that may be mapped in a slot
 * @slot: the memslot
 * @max_level: the largest level by everything else
 *
 * The bitmap speaks about small pages.
 *
 * Context: any.
 * Return: PG_LEVEL_4K with userfault on, else @max_level.
 */
int kvm_mmu_userfault_max_level(const struct kvm_memory_slot *slot,
				int max_level)
{
	if (!kvm_userfault_enabled(slot) ||
	    kvm_userfault_broken(KVM_USERFAULT_SMALL_PAGES))
		return max_level;

	return PG_LEVEL_4K;
}

/**
 * kvm_mmu_userfault_apply_flags - act on userfault going on or off
 * @kvm: the VM
 * @old: the slot before the change, NULL if it was created
 * @new: the slot now, active; NULL if it was deleted
 * @change: what happened to the slot
 *
 * On: drop every mapping, read-only slots included, so that the next access
 * looks at the bitmap.  Off: drop the small mappings that could be huge ones,
 * unless dirty logging wants them small; it does this itself when it goes off.
 *
 * Context: kvm->slots_lock held, grace period of kvm->srcu over.
 * Return: true if that was all of a flags-only change.
 */
bool kvm_mmu_userfault_apply_flags(struct kvm *kvm,
				   const struct kvm_memory_slot *old,
				   const struct kvm_memory_slot *new,
				   enum kvm_mr_change change)
{
	u32 changed;

	if (change != KVM_MR_FLAGS_ONLY)
		return false;

	changed = old->flags ^ new->flags;
	if (!(changed & KVM_MEM_USERFAULT))
		return false;

	if (!(new->flags & KVM_MEM_USERFAULT)) {
		if (!kvm_slot_dirty_track_enabled(new))
			kvm_mmu_recover_huge_pages(kvm, new);
	} else if (!kvm_userfault_broken(KVM_USERFAULT_DROPS_MAPPINGS)) {
		kvm_mmu_userfault_zap(kvm, new);
	}

	return !(changed & ~KVM_MEM_USERFAULT);
}
