// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM userfault: a bitmap in user memory decides which pages of a memslot a
 * vCPU may map.  A set bit makes the access leave KVM_RUN.
 *
 * Threads: kvm_userfault_test_page() runs in vCPU threads, in a page fault of
 * the guest, with kvm->srcu read-locked, no spinlock and preemption on: it may
 * sleep while user memory is paged in.  Everything else runs in the thread
 * that sets a memslot, under kvm->slots_lock.
 *
 * Ownership: the bitmap is userspace's.  KVM reads it from the moment a slot
 * with KVM_MEM_USERFAULT is published until the ioctl which replaces that slot
 * returns: slots are swapped with a grace period of kvm->srcu, so no vCPU can
 * look at the old slot's bitmap afterwards and userspace may free it.
 *
 * Locks: none of its own.  kvm->slots_lock is the outermost one; user memory is
 * never touched under kvm->mmu_lock, and so nothing that holds mmu_lock (the
 * prefetch of neighbouring PTEs) can decide about a page of such a slot.
 *
 * Orderings: userspace fills a page and then clears its bit with
 * store-release.  That pairs with smp_rmb() in kvm_userfault_test_page();
 * otherwise a vCPU could see the bit clear and map the page as it was before.
 * Setting bits is ordered with nothing: it concerns pages that are not mapped,
 * and switching the flag on drops the mappings after the new slot is visible.
 *
 * Failure: a bitmap which cannot be read is -EFAULT without exit information;
 * the guest's access is not done and KVM_RUN may be called again.
 */
#include <linux/bitops.h>
#include <linux/kvm_host.h>
#include <linux/kvm_userfault.h>
#include <linux/stddef.h>
#include <linux/uaccess.h>

/* The flag and the field live where other kernels have reserved space. */
static_assert(sizeof(struct kvm_userspace_memory_region2) == 160);
static_assert(offsetof(struct kvm_userspace_memory_region2,
		       userfault_bitmap) == 48);
static_assert(!(KVM_MEM_USERFAULT &
		(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY |
		 KVM_MEM_GUEST_MEMFD | KVM_MEMSLOT_INVALID)));
static_assert(KVM_USERFAULT_USER_FLAGS + 1 == KVM_MEMSLOT_INVALID);
static_assert(!(KVM_MEMORY_EXIT_FLAG_USERFAULT &
		KVM_MEMORY_EXIT_FLAG_PRIVATE));

/**
 * kvm_userfault_check_region - check the bitmap's address of a memslot request
 * @kvm: the VM
 * @mem: what userspace asked for; only the flags have been checked so far
 *
 * The address must be untagged and the whole bitmap must lie in the range of
 * user addresses.  Nothing has to be mapped there yet.  A request that deletes
 * a slot carries no bitmap.
 *
 * Context: kvm->slots_lock held.
 * Return: 0, or -EINVAL.
 */
int kvm_userfault_check_region(struct kvm *kvm,
			       const struct kvm_userspace_memory_region2 *mem)
{
	unsigned long bytes, addr;

	if (!(mem->flags & KVM_MEM_USERFAULT) || !mem->memory_size)
		return 0;

	kvm_userfault_break_pointer(kvm, mem);
	if (kvm_userfault_broken(KVM_USERFAULT_CHECKS_POINTER))
		return 0;

	if (mem->userfault_bitmap > ULONG_MAX)
		return -EINVAL;

	addr = mem->userfault_bitmap;
	bytes = BITS_TO_LONGS(mem->memory_size >> PAGE_SHIFT) * sizeof(long);

	if (mem->userfault_bitmap != untagged_addr(mem->userfault_bitmap) ||
	    !access_ok((void __user *)addr, bytes))
		return -EINVAL;

	return 0;
}

/**
 * kvm_userfault_may_update - may this request update a guest_memfd slot?
 * @old: the slot as it is
 * @mem: what userspace asked for
 *
 * Slots of guest_memfd cannot be changed otherwise.  Switching userfault on or
 * off is the exception, as is repeating the flags of a slot that has it on: it
 * changes nothing, as with any other slot.
 *
 * Context: kvm->slots_lock held.
 */
bool kvm_userfault_may_update(const struct kvm_memory_slot *old,
			      const struct kvm_userspace_memory_region2 *mem)
{
	if (mem->guest_phys_addr >> PAGE_SHIFT != old->base_gfn)
		return false;

	if ((mem->flags ^ old->flags) & KVM_USERFAULT_USER_FLAGS &
	    ~KVM_MEM_USERFAULT)
		return false;

	return (mem->flags | old->flags) & KVM_MEM_USERFAULT;
}

/**
 * kvm_userfault_init_slot - note the bitmap in a slot that is being made
 * @slot: the new slot, not yet published
 * @mem: the checked request it is made from
 *
 * Context: kvm->slots_lock held.
 */
void kvm_userfault_init_slot(struct kvm_memory_slot *slot,
			     const struct kvm_userspace_memory_region2 *mem)
{
	if (mem->flags & KVM_MEM_USERFAULT)
		slot->userfault.bitmap = u64_to_user_ptr(mem->userfault_bitmap);
}

/* The long that holds the bit of page @nr of the slot. */
static unsigned long __user *
kvm_userfault_word(const struct kvm_memory_slot *slot, unsigned long nr)
{
	if (kvm_userfault_broken(KVM_USERFAULT_BIT_OF_PAGE))
		return slot->userfault.bitmap;

	return slot->userfault.bitmap + BIT_WORD(nr);
}

/**
 * kvm_userfault_test_page - is the bit of a page set?
 * @vcpu: the vCPU that wants to map the page
 * @slot: the page's slot, with kvm_userfault_enabled()
 * @gfn: the page
 *
 * One load of a long, at whatever alignment userspace chose.
 *
 * Context: vCPU thread, kvm->srcu read-locked; may sleep.
 * Return: 1 if set, 0 if clear, -EFAULT if the bitmap cannot be read.
 */
int kvm_userfault_test_page(struct kvm_vcpu *vcpu,
			    const struct kvm_memory_slot *slot, gfn_t gfn)
{
	unsigned long nr = gfn - slot->base_gfn;
	unsigned long word;
	bool set;

	if (get_user(word, kvm_userfault_word(slot, nr)))
		return kvm_userfault_broken(KVM_USERFAULT_READS_BITMAP) ?
		       1 : -EFAULT;

	/*
	 * Pairs with userspace's store-release of the cleared bit: look up the
	 * page only after its bit.  Otherwise the guest gets a page which is
	 * not filled yet.
	 */
	smp_rmb();

	set = word & BIT_MASK(nr);

	return kvm_userfault_break_repeat(vcpu, slot, gfn, set);
}

/**
 * kvm_userfault_prepare_exit - say that a memory fault exit is by the bitmap
 * @vcpu: a vCPU with a prepared KVM_EXIT_MEMORY_FAULT
 *
 * Context: vCPU thread.
 */
void kvm_userfault_prepare_exit(struct kvm_vcpu *vcpu)
{
	vcpu->run->memory_fault.flags |= KVM_MEMORY_EXIT_FLAG_USERFAULT;

	if (kvm_userfault_broken(KVM_USERFAULT_PRIVATE))
		vcpu->run->memory_fault.flags &= ~KVM_MEMORY_EXIT_FLAG_PRIVATE;
}
