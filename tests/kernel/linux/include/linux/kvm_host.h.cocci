// SPDX-License-Identifier: GPL-2.0-or-later
// Purpose: a memslot carries the address of its userfault bitmap.

//# rule include_types places 1 -- the type of the field below
@@
@@
#include <linux/kvm_dirty_ring.h>
+#include <linux/kvm_userfault_types.h>

//# rule memslot_field places 1 -- a slot is self-contained: what a fault needs to know is in it
@@
@@
struct kvm_memory_slot {
	...
	unsigned long userspace_addr;
+	struct kvm_userfault_slot userfault;
	...
};
