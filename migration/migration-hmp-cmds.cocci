// The postcopy userfault service's statistics in "info migrate".
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rule calls
@@ @@
 #include "options.h"
+#include "postcopy-userfault.h"

//# rule info places 1 -- after all that was printed before
@@
symbol mon, info;
@@
 hmp_info_migrate(...)
 {
 ...
+postcopy_userfault_hmp_info(mon, info);
 qapi_free_MigrationInfo(info);
 }
