// SPDX-License-Identifier: GPL-2.0-or-later
// Purpose: memslots with KVM userfault: which flags are valid, what is checked,
// what a slot remembers.  Logic: virt/kvm/userfault.c.

//# rule include places 1 -- the calls below
@@
@@
#include "kvm_mm.h"
+#include "userfault.h"

//# rule valid_flags places 1 -- KVM_MEM_USERFAULT is valid for every kind of slot
@@
identifier valid_flags;
@@
check_memory_region_flags(...)
{
	...
	u32 valid_flags = KVM_MEM_LOG_DIRTY_PAGES;
+
+	valid_flags |= kvm_userfault_valid_flags();
	...
}

//# rule check_region places 1 -- the address of the bitmap is checked when the slot is set
@@
identifier fn, kvm, mem, r;
@@
fn(struct kvm *kvm, const struct kvm_userspace_memory_region2 *mem)
{
	...
	r = check_memory_region_flags(kvm, mem);
	if (r)
		return r;
+
+	r = kvm_userfault_check_region(kvm, mem);
+	if (r)
+		return r;
	...
}

//# rule may_update places 1 -- userfault may be switched on a live guest_memfd slot
@@
identifier mem;
@@
-	if (mem->flags & KVM_MEM_GUEST_MEMFD)
+	if (mem->flags & KVM_MEM_GUEST_MEMFD && !kvm_userfault_may_update(old, mem))
		return -EINVAL;

//# rule same_flags places 1 0[6.12] -- a flag of KVM's own is no change; a live guest_memfd slot may have one
@@
identifier mem;
@@
-	mem->flags != old->flags
+	mem->flags != (old->flags & KVM_USERFAULT_USER_FLAGS)

//# rule init_slot places 1 -- a new slot gets the bitmap with the flags
@@
identifier new, mem;
@@
	new->flags = mem->flags;
	new->userspace_addr = mem->userspace_addr;
+	kvm_userfault_init_slot(new, mem);

//# rule copy_slot places 1 -- a copy of a slot has the bitmap, too
@@
identifier dest, src;
@@
	dest->flags = src->flags;
+	dest->userfault = src->userfault;
	dest->id = src->id;

//# rule gmem_bind places 0 1[6.12] 1[7.2] -- a slot that replaces one with other flags must keep its file
@@
identifier mem;
expression kvm, new;
@@
-	kvm_gmem_bind(kvm, new, mem->guest_memfd, mem->guest_memfd_offset)
+	kvm_userfault_gmem_bind(kvm, old, new, mem, change)

//# rule gmem_unbind places 0 1[6.12] 1[7.2] -- and has no binding of its own to lose
@@
symbol new;
@@
-	kvm_gmem_unbind(new)
+	kvm_userfault_gmem_unbind(new, change)

//# rule gmem_adopt places 1 0[6.12] 0[7.2] -- the same where only a slot that is created is bound
@@
symbol kvm, old, new, mem, change, r;
@@
+	r = kvm_userfault_gmem_adopt(old, new, mem, change);
+	if (r)
+		goto out;
	r = kvm_set_memslot(kvm, old, new, change);

//# rule gmem_keep_binding places 1 0[6.12] -- a slot with other flags has taken the binding over
@@
symbol old, change;
@@
-	if (WARN_ON_ONCE(old->flags & KVM_MEM_GUEST_MEMFD))
+	if (WARN_ON_ONCE(change == KVM_MR_MOVE && old->flags & KVM_MEM_GUEST_MEMFD))
		kvm_gmem_unbind(old);

//# rule gmem_rebind places 1 -- before it takes over, when nothing can fail any more
@@
identifier kvm, old, new;
@@
kvm_update_flags_memslot(struct kvm *kvm, struct kvm_memory_slot *old,
			 struct kvm_memory_slot *new)
{
+	kvm_userfault_gmem_rebind(new);
	kvm_replace_memslot(kvm, old, new);
	...
}

//# rule own_access places 1 -- for the tests only: the one place that all of KVM's own accesses pass
@@
identifier slot, gfn;
@@
__gfn_to_hva_many(const struct kvm_memory_slot *slot, gfn_t gfn, ...)
{
	...
+	if (kvm_userfault_break_own_access(slot, gfn))
+		return KVM_HVA_ERR_BAD;
	return __gfn_to_hva_memslot(slot, gfn);
}

//# rule check_extension places 1 -- tell userspace
@@
identifier kvm, arg;
statement S;
@@
kvm_vm_ioctl_check_extension_generic(struct kvm *kvm, long arg)
{
+	if (kvm_userfault_provides(arg))
+		return 1;
	S
	...
}
