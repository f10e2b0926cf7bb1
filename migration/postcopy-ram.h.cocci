// What the postcopy userfault service needs of postcopy-ram.c.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule blocktime places 0 1[10.0] -- public in later versions
@@
typedef MigrationStatus, uintptr_t, uint32_t, RAMBlock;
identifier status;
@@
 bool postcopy_is_paused(MigrationStatus status);
+void mark_postcopy_blocktime_begin(uintptr_t addr, uint32_t ptid,
+                                   RAMBlock *rb);
