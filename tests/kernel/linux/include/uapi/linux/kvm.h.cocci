// SPDX-License-Identifier: GPL-2.0-or-later
// Purpose: the user interface of KVM userfault: a memslot flag, the address of
// the bitmap, an exit flag, a capability.  Values: Documentation/virt/kvm/
// userfault.rst.

//# rule region2_bitmap places 1 -- the first reserved word of the region becomes the address of the bitmap
@@
typedef __u64;
@@
struct kvm_userspace_memory_region2 {
	...
-	__u64 pad2[14];
+	__u64 userfault_bitmap;
+	__u64 pad2[13];
};

//# rule memslot_flag places 1 -- the flag that switches userfault on for a memslot
@@
@@
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
+#define KVM_MEM_USERFAULT (1UL << 3)

//# rule exit_flag places 1 -- a memory fault exit says that the bitmap is its reason; beside the flag that asks for it, as a definition inside a structure cannot be matched
@@
@@
#define KVM_MEM_USERFAULT (1UL << 3)
+/* for kvm_run::memory_fault.flags */
+#define KVM_MEMORY_EXIT_FLAG_USERFAULT (1ULL << 4)

//# rule capability places 0 1[6.12] -- the number of the series; a hint only, later kernels use it for something else
@@
@@
#define KVM_CAP_X86_GUEST_MODE 238
+#define KVM_CAP_USERFAULT 243

//# rule capability_later places 1 0[6.12] -- in those a number far from those in use
@@
@@
#define KVM_CAP_X86_GUEST_MODE 238
+#define KVM_CAP_USERFAULT 1243
