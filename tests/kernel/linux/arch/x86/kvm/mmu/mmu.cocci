// SPDX-License-Identifier: GPL-2.0-or-later
// Purpose: no page of a slot with userfault is mapped unless a vCPU's fault has
// found its bit clear, and then only as a small page.

//# rule include places 1 -- the calls below
@@
@@
#include "mmu_internal.h"
+#include "userfault.h"

//# rule prefetch places 1 -- neighbours are mapped under mmu_lock, where the bitmap cannot be read
@@
identifier slot;
@@
gfn_to_memslot_dirty_bitmap(...)
{
	...
-	if (!slot || slot->flags & KVM_MEMSLOT_INVALID)
+	if (!slot || slot->flags & KVM_MEMSLOT_INVALID || kvm_userfault_enabled(slot))
		return NULL;
	...
}

//# rule max_level places 1 -- for faults and for the recovery of huge pages alike
@@
identifier fn, slot, max_level;
@@
fn(..., const struct kvm_memory_slot *slot, ...)
{
	...
+	max_level = kvm_mmu_userfault_max_level(slot, max_level);
	max_level = min(max_level, max_huge_page_level);
	...
}

//# rule fault places 1 -- before the host looks for the page
@@
identifier fn, vcpu, fault, ret;
@@
fn(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault, ...)
{
	...
+	ret = kvm_mmu_userfault(vcpu, fault);
+	if (ret != RET_PF_CONTINUE)
+		return ret;
	ret = \(__kvm_faultin_pfn\|__kvm_mmu_faultin_pfn\)(vcpu, fault);
	...
}
