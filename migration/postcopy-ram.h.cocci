// What the postcopy userfault service needs of postcopy-ram.c, and its channels.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule blocktime places 0 1[10.0] -- public in later versions
@@
typedef MigrationStatus, uintptr_t, uint32_t, RAMBlock;
identifier status;
@@
 bool postcopy_is_paused(MigrationStatus status);
+void mark_postcopy_blocktime_begin(uintptr_t addr, uint32_t ptid,
+                                   RAMBlock *rb);

//# rule max places 1 -- one for the background stream, and as many as there can be for urgent pages
@@
symbol RAM_CHANNEL_PRECOPY, RAM_CHANNEL_POSTCOPY, RAM_CHANNEL_MAX, RAM_CHANNEL_LAST, POSTCOPY_URGENT_MAX;
@@
 enum PostcopyChannels {
 RAM_CHANNEL_PRECOPY = 0,
 RAM_CHANNEL_POSTCOPY = 1,
+RAM_CHANNEL_LAST = POSTCOPY_URGENT_MAX,
 RAM_CHANNEL_MAX,
 };

//# rule include places 1 -- says how many there can be
@@ @@
 #include "qapi/qapi-types-migration.h"
+#include "postcopy-urgent.h"
