// Pages as they come in, on the destination; urgent ones as they go out, on the
// source.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rule calls
@@ @@
 #include "postcopy-ram.h"
+#include "postcopy-answer.h"
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

//# rule page places 1 -- requests that have come together are answered together
@@
symbol pss;
@@
 ram_save_host_page_urgent(...)
 {
 <...
-qemu_fflush(pss->pss_channel);
+postcopy_answer_page(pss->pss_channel);
 ...>
 }

//# rule end places 1 -- when the last of them is; the background stream need not wait for that
@@
symbol pss, rs, ret;
@@
 ram_save_queue_pages(...)
 {
 <...
 qemu_mutex_unlock(&rs->bitmap_mutex);
+postcopy_answer_end(pss->pss_channel,
+                    migrate_get_current()->rp_state.from_dst_file);
 return ret;
 ...>
 }
