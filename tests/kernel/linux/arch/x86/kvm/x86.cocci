// SPDX-License-Identifier: GPL-2.0-or-later
// Purpose: act on a memslot's userfault flag going on or off.

//# rule include places 1 -- the call below
@@
@@
#include "mmu.h"
+#include "mmu/userfault.h"

//# rule apply_flags places 1 -- read-only slots included, and no complaint about a change of flags that is not about dirty logging
@@
identifier kvm, old, new, change;
expression E;
@@
kvm_mmu_slot_apply_flags(struct kvm *kvm, struct kvm_memory_slot *old,
			 const struct kvm_memory_slot *new,
			 enum kvm_mr_change change)
{
	...
	if (E & KVM_MEM_LOG_DIRTY_PAGES)
		kvm_mmu_update_cpu_dirty_logging(...);
+	if (kvm_mmu_userfault_apply_flags(kvm, old, new, change))
+		return;
	...
}
