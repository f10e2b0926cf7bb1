// The postcopy userfault service over a broken channel.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rules call
@@ @@
 #include "postcopy-ram.h"
+#include "postcopy-recover.h"
+#include "postcopy-urgent.h"
+#include "postcopy-userfault.h"

//# rule pause places 1 -- no requests of vCPUs while the two sides find each other again
@@
symbol mis;
@@
 postcopy_pause_incoming(...)
 {
 ...
 qemu_mutex_lock(&mis->rp_mutex);
+postcopy_userfault_pause_locked(mis);
 ...
 qemu_fclose(mis->to_src_file);
 ...
 }

//# rule settle places 1 -- nothing reads the channels any more; what has come is placed before the source is told
@@
symbol mis;
@@
 postcopy_pause_incoming(...)
 {
 <...
+postcopy_urgent_close();
+postcopy_userfault_settle();
+postcopy_recover_reset();
 migrate_set_state(&mis->state, mis->state, MIGRATION_STATUS_POSTCOPY_PAUSED);
 ...>
 }

//# rule resume places 1 -- ask again for what vCPUs and the fault thread have asked for
@@
symbol mis;
@@
 loadvm_postcopy_handle_resume(...)
 {
 ...
-migrate_send_rp_req_pages_pending(mis);
+if (!postcopy_userfault_resume(mis)) {
+    migrate_send_rp_req_pages_pending(mis);
+}
 ...
 }

//# rule preempt places 1 -- a channel of an earlier recovery does not count, and one may never come
@@
symbol mis;
@@
 loadvm_postcopy_handle_resume(...)
 {
 <...
-qemu_sem_wait(&mis->postcopy_qemufile_dst_done);
-assert(mis->postcopy_qemufile_dst);
+if (postcopy_recover_wait_preempt(mis)) {
+    return -EIO;
+}
 ...>
 }

//# rule pong places 1 -- whether further channels are wanted here, too
@@
symbol mis, tmp32;
@@
 loadvm_process_command(...)
 {
 <...
-migrate_send_rp_pong(mis, tmp32);
+migrate_send_rp_pong(mis, postcopy_urgent_pong(mis, tmp32));
 ...>
 }

//# rule pauses places 1 -- also when the main channel has been read to its end
@@
typedef bool;
@@
-static
 bool postcopy_pause_incoming(...)
 {
 ...
 }

//# rule drain places 1 -- what somebody waits for may be on another channel, which may break
@@
symbol load_res, f, mis;
@@
 postcopy_ram_listen_thread(...)
 {
 <...
 load_res = qemu_loadvm_state_main(f, mis);
+while (load_res >= 0 && postcopy_recover_drain(mis)) {
+    load_res = qemu_loadvm_state_main(mis->from_src_file, mis);
+}
 ...>
 }
