// SPDX-License-Identifier: GPL-2.0-or-later
// Purpose: the flags of a guest_memfd slot may change while it is in use.

//# rule include_rebind places 0 1[6.12] -- code about bindings needs struct kvm_gmem, which is private to this file
@@
@@
struct kvm_gmem { ... };
+#include "userfault_gmem.h"

//# rule include_rebind_file places 1 0[6.12] -- the structure by its later name
@@
@@
struct gmem_file { ... };
+#define kvm_gmem gmem_file
+#include "userfault_gmem.h"

//# rule is_bound places 1 -- while a slot is being replaced a vCPU may still hold the one before
@@
expression gmem, index, slot;
@@
-xa_load(&gmem->bindings, index) != slot
+!kvm_gmem_is_bound(gmem, index, slot)
