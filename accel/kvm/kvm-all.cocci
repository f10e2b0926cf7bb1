// KVM userfault: calls from KVM's memslot, exit and kick paths into
// accel/kvm/kvm-userfault.c.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rules call
@@ @@
 #include "kvm-cpus.h"
+#include "kvm-userfault.h"

//# rule set-region places 2 -- the one place where all memslots are set; keeps the flag and the bitmap of a slot over later changes
@@
typedef KVMSlot;
identifier s, ret, mem, slot;
@@
 kvm_set_user_memory_region(..., KVMSlot *slot, ...)
 {
 <...
-if (kvm_guest_memfd_supported) {
-    ret = kvm_vm_ioctl(s, KVM_SET_USER_MEMORY_REGION2, &mem);
-} else {
-    ret = kvm_vm_ioctl(s, KVM_SET_USER_MEMORY_REGION, &mem);
-}
+ret = kvm_userfault_set_region(s, slot, &mem, kvm_guest_memfd_supported);
 ...>
 }

//# rule exit places 1 -- a vCPU needs a page; a kick that breaks its wait ends as one that breaks KVM_RUN
@@
symbol cpu, run, ret, attrs;
@@
 kvm_cpu_exec(...)
 {
 <...
+if (kvm_userfault_is_exit(run)) {
+    ret = kvm_userfault_handle_exit(cpu, run, attrs);
+    if (ret == EXCP_INTERRUPT) {
+        kvm_eat_signals(cpu);
+    }
+    break;
+}
 if (run->memory_fault.flags & ~KVM_MEMORY_EXIT_FLAG_PRIVATE) {
 ...
 }
 ...>
 }

//# rule kick places 1 -- the kick's signal handler ends the wait too
@@ @@
 kvm_ipi_signal(...)
 {
 <...
 kvm_cpu_kick(current_cpu);
+kvm_userfault_kick();
 ...>
 }

//# rule init places 1 -- userfault=on refuses to start where it cannot be had
@@
symbol s, ret;
identifier ms, type;
@@
 kvm_init(...)
 {
 ...
+ret = kvm_userfault_init(s);
+if (ret < 0) {
+    goto err;
+}
+
 type = find_kvm_machine_type(ms);
 ...
 }

//# rule class places 1 -- the accelerator's property
@@
identifier oc;
@@
+kvm_userfault_class_init(oc);
 kvm_arch_accel_class_init(oc);
