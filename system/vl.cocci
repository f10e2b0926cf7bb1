// -accel NAME,help
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rule calls
@@ @@
 #include "qemu/accel.h"
+#include "system/accel-help.h"

//# rule help places 1 -- list the properties of one accelerator
@@
identifier accel_opts;
@@
 accel_opts = qemu_opts_parse_noisily(qemu_find_opts("accel"), optarg, true);
+if (accel_print_help(accel_opts)) {
+    exit(0);
+}
