// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM userfault with one of its promises broken, for testing the tests
 *
 * Threads: as in userfault.c; the parameter is written through sysfs at any
 * time.  Change it while no VM runs.
 * Ownership: one word of state, shared by all VMs; see last_exit.
 * Locks: none.
 * Orderings: none.  A stale last_exit only makes a broken KVM less broken.
 * Failure: breaking things is the purpose.  Not for production.
 */
#include <linux/hash.h>
#include <linux/kvm_host.h>
#include <linux/kvm_userfault.h>
#include <linux/moduleparam.h>
#include <linux/uaccess.h>

static unsigned int userfault_break;
module_param(userfault_break, uint, 0644);
MODULE_PARM_DESC(userfault_break,
		 "Number of the KVM userfault promise to break, 0 for none");

/* The vCPU, bitmap and page of the latest exit, mixed; 0 is none. */
static unsigned long last_exit;

bool kvm_userfault_broken(enum kvm_userfault_promise promise)
{
	return READ_ONCE(userfault_break) == promise;
}

/*
 * Promise 7 broken: having seen a bit set, KVM believes once more that it is.
 * Promise 11 broken: having exited for a page, KVM believes that userspace has
 * provided it and does not look again.
 */
bool kvm_userfault_break_repeat(struct kvm_vcpu *vcpu,
				const struct kvm_memory_slot *slot, gfn_t gfn,
				bool set)
{
	unsigned long key = hash_long((gfn << 12) | vcpu->vcpu_id, BITS_PER_LONG) ^
			    (unsigned long)slot->userfault.bitmap;
	bool again = READ_ONCE(last_exit) == key;

	if (again && ((!set && kvm_userfault_broken(KVM_USERFAULT_CLEAR_WORKS)) ||
		      (set && kvm_userfault_broken(KVM_USERFAULT_EXITS_AGAIN)))) {
		WRITE_ONCE(last_exit, 0);
		return !set;
	}

	if (set)
		WRITE_ONCE(last_exit, key);

	return set;
}

/* Promise 8 broken: the same flags with another pointer change the pointer. */
void kvm_userfault_break_pointer(struct kvm *kvm,
				 const struct kvm_userspace_memory_region2 *mem)
{
	struct kvm_memory_slot *slot;
	int as_id = mem->slot >> 16;

	if (!kvm_userfault_broken(KVM_USERFAULT_POINTER_STAYS) ||
	    as_id >= kvm_arch_nr_memslot_as_ids(kvm))
		return;

	slot = id_to_memslot(__kvm_memslots(kvm, as_id), (u16)mem->slot);
	if (slot && slot->flags == mem->flags)
		WRITE_ONCE(slot->userfault.bitmap,
			   u64_to_user_ptr(mem->userfault_bitmap));
}

/*
 * Promise 10 broken: KVM's own accesses look at the bitmap, too.  May be called
 * in atomic context.
 */
bool kvm_userfault_break_own_access(const struct kvm_memory_slot *slot,
				    gfn_t gfn)
{
	unsigned long nr, word;

	if (!kvm_userfault_broken(KVM_USERFAULT_OWN_ACCESS) ||
	    !kvm_userfault_enabled(slot))
		return false;

	nr = gfn - slot->base_gfn;
	if (copy_from_user_nofault(&word, slot->userfault.bitmap + BIT_WORD(nr),
				   sizeof(word)))
		return false;

	return word & BIT_MASK(nr);
}
