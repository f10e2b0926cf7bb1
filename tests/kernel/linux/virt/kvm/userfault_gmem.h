/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM userfault on slots of guest_memfd
 *
 * A part of guest_memfd.c, which alone knows struct kvm_gmem.  The flags of a
 * live slot change by replacing the slot, but a guest_memfd file knows the slot
 * that is bound to it: the binding must follow, with vCPUs running.
 *
 *   thread of the ioctl                  vCPU thread
 *   -------------------                  -----------
 *                                        finds the old slot
 *   binding: old -> new
 *                                        binding is new, slot is old   (*)
 *   new slot becomes active
 *   grace period of kvm->srcu
 *   frees the old slot
 *
 * (*) is no error: both slots describe the same pages of the same file.  It is
 * what kvm_gmem_is_bound() adds to a plain comparison.  The bound slot may be
 * looked at because whoever replaces it waits for the grace period before it
 * frees it, on success as on failure.
 *
 * Threads, locks: as above; kvm->slots_lock, then the invalidate lock of the
 * file's mapping.
 * Ownership: the binding owns nothing.
 * Orderings: xa_store_range() publishes the complete new slot.
 * Failure: the old binding stays.
 */
#ifndef __KVM_USERFAULT_GMEM_H
#define __KVM_USERFAULT_GMEM_H

#include "userfault.h"

#ifdef CONFIG_KVM_USERFAULT
static bool kvm_gmem_is_bound(struct kvm_gmem *gmem, pgoff_t index,
			      const struct kvm_memory_slot *slot)
{
	const struct kvm_memory_slot *bound = xa_load(&gmem->bindings, index);

	if (likely(bound == slot))
		return true;

	return bound && bound->id == slot->id && bound->as_id == slot->as_id &&
	       bound->base_gfn == slot->base_gfn &&
	       bound->npages == slot->npages &&
	       bound->gmem.pgoff == slot->gmem.pgoff;
}

static int kvm_gmem_store_binding(struct file *file,
				  struct kvm_memory_slot *slot)
{
	struct kvm_gmem *gmem = file->private_data;
	pgoff_t start = slot->gmem.pgoff;
	int r;

	filemap_invalidate_lock(file->f_mapping);
	r = xa_err(xa_store_range(&gmem->bindings, start,
				  start + slot->npages - 1, slot, GFP_KERNEL));
	filemap_invalidate_unlock(file->f_mapping);

	return r;
}

/**
 * kvm_gmem_rebind_undo - give the binding back after a failed replacement
 * @kvm: the VM
 * @old: the slot that stays active
 * @new: the slot that took over its binding and is about to be freed
 *
 * Context: kvm->slots_lock held; sleeps.
 */
void kvm_gmem_rebind_undo(struct kvm *kvm, struct kvm_memory_slot *old,
			  struct kvm_memory_slot *new)
{
	/*
	 * The slot's entries exist, storing to them allocates nothing.  The
	 * file cannot go away: its release needs slots_lock.
	 */
	if (new->gmem.file)
		kvm_gmem_store_binding(new->gmem.file, old);

	/* kvm_gmem_is_bound() may be looking at @new. */
	synchronize_srcu_expedited(&kvm->srcu);
}

/**
 * kvm_gmem_rebind - let a slot take over the binding of the one it replaces
 * @kvm: the VM
 * @old: the active slot
 * @new: its replacement, same range, not yet active
 * @fd: guest_memfd of the request; must be the one @old is bound to
 * @offset: offset of the request in bytes; must be the one @old is bound at
 *
 * Context: kvm->slots_lock held; sleeps.
 * Return: 0, -EBADF, -EINVAL or -ENOMEM.
 */
int kvm_gmem_rebind(struct kvm *kvm, struct kvm_memory_slot *old,
		    struct kvm_memory_slot *new, unsigned int fd, u64 offset)
{
	struct file *file = fget(fd);
	int r = -EINVAL;

	if (!file)
		return -EBADF;

	if (file == old->gmem.file && offset >> PAGE_SHIFT == old->gmem.pgoff) {
		WRITE_ONCE(new->gmem.file, file);
		new->gmem.pgoff = old->gmem.pgoff;
		r = kvm_gmem_store_binding(file, new);
		if (r)
			kvm_gmem_rebind_undo(kvm, old, new);
	}

	fput(file);
	return r;
}
#else
static bool kvm_gmem_is_bound(struct kvm_gmem *gmem, pgoff_t index,
			      const struct kvm_memory_slot *slot)
{
	return xa_load(&gmem->bindings, index) == slot;
}
#endif /* CONFIG_KVM_USERFAULT */

#endif /* __KVM_USERFAULT_GMEM_H */
