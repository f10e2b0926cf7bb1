/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVM userfault on slots of guest_memfd
 *
 * A part of guest_memfd.c, which alone knows struct kvm_gmem (struct gmem_file
 * in later versions).  The flags of a
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
 * looked at because the old one is freed only after the grace period, and the
 * new one is not freed any more once it is bound.
 *
 * Whoever punches a hole finds slots through the bindings and zaps their
 * mappings, so a slot is bound only when its arch part is complete.
 *
 * Threads: as above.
 * Locks: kvm->slots_lock, kvm->slots_arch_lock, then the invalidate lock of the
 * file's mapping.
 * Ownership: the binding owns nothing.
 * Orderings: xa_store_range() publishes the complete new slot.
 * Failure: a request that names another file or offset is refused before
 * anything has changed; after that nothing can fail.
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

/**
 * kvm_gmem_adopt - check and note the file of a slot that replaces another
 * @old: the active slot
 * @new: its replacement, same range, not yet active
 * @fd: guest_memfd of the request; must be the one @old is bound to
 * @offset: offset of the request in bytes; must be the one @old is bound at
 *
 * Context: kvm->slots_lock held.
 * Return: 0, -EBADF or -EINVAL.
 */
int kvm_gmem_adopt(const struct kvm_memory_slot *old,
		   struct kvm_memory_slot *new, unsigned int fd, u64 offset)
{
	struct file *file = fget(fd);
	int r = -EINVAL;

	if (!file)
		return -EBADF;

	if (file == old->gmem.file && offset >> PAGE_SHIFT == old->gmem.pgoff) {
		WRITE_ONCE(new->gmem.file, file);
		new->gmem.pgoff = old->gmem.pgoff;
		new->flags |= old->flags & ~KVM_USERFAULT_USER_FLAGS;
		r = 0;
	}

	fput(file);
	return r;
}

/**
 * kvm_gmem_rebind - let a slot take over the binding of the one it replaces
 * @new: the replacement: adopted, complete, about to become active
 *
 * The file cannot go away, closed or not: its release needs slots_lock.
 *
 * Context: kvm->slots_lock and kvm->slots_arch_lock held; sleeps.
 */
void kvm_gmem_rebind(struct kvm_memory_slot *new)
{
	struct file *file = new->gmem.file;
	struct kvm_gmem *gmem = file->private_data;
	pgoff_t start = new->gmem.pgoff;
	void *r;

	filemap_invalidate_lock(file->f_mapping);
	r = xa_store_range(&gmem->bindings, start, start + new->npages - 1, new,
			   GFP_KERNEL);
	filemap_invalidate_unlock(file->f_mapping);

	/* The same range was stored before, so there is nothing to allocate. */
	WARN_ON_ONCE(xa_is_err(r));
}
#else
static bool kvm_gmem_is_bound(struct kvm_gmem *gmem, pgoff_t index,
			      const struct kvm_memory_slot *slot)
{
	return xa_load(&gmem->bindings, index) == slot;
}
#endif /* CONFIG_KVM_USERFAULT */

#endif /* __KVM_USERFAULT_GMEM_H */
