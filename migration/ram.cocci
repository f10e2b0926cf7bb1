// Pages as they come in, on the destination.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rule calls
@@ @@
 #include "postcopy-ram.h"
+#include "postcopy-userfault.h"

//# rule received places 1 -- a source may wait for the acknowledgement before it sends the next page
@@
symbol f, ret, place_needed;
@@
 ram_load_postcopy(...)
 {
 <...
 if (!ret && place_needed) {
+    postcopy_userfault_received(f);
     ...
 }
 ...>
 }
