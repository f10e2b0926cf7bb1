// The postcopy userfault service: its policy, its requests, its statistics.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rules call
@@ @@
 #include "postcopy-ram.h"
+#include "postcopy-recover.h"
+#include "postcopy-urgent.h"
+#include "postcopy-userfault.h"

//# rule check places 1 -- a policy that cannot be kept is refused at start
@@ @@
 migration_object_check(current_migration, &error_fatal);
+postcopy_userfault_check(&error_fatal);

//# rule class places 1 -- the migration object's property
@@
symbol klass, dc;
@@
 migration_class_init(...)
 {
 ...
 dc->user_creatable = false;
+postcopy_userfault_class_init(klass);
 ...
 }

//# rule request places 1 -- requests of all threads leave by one way, which keeps last_rb and the stream in step
@@
symbol mis, rb, start;
@@
 migrate_send_rp_message_req_pages(...)
 {
 ...
 int rbname_len;
+int ret;
+
+QEMU_BUILD_BUG_ON(MIG_RP_MSG_REQ_PAGES_ID != POSTCOPY_WIRE_REQ_PAGES_ID);
+QEMU_BUILD_BUG_ON(MIG_RP_MSG_REQ_PAGES != POSTCOPY_WIRE_REQ_PAGES);
+if (postcopy_userfault_request(mis, rb, start, &ret)) {
+    return ret;
+}
 ...
 }

//# rule stamp places 1 -- remember when the fault thread asked for the page
@@
typedef gpointer;
expression tree, key;
@@
 migrate_send_rp_req_pages(...)
 {
 <...
-g_tree_insert(tree, key, (gpointer)1);
+g_tree_insert(tree, key, postcopy_userfault_stamp());
 ...>
 }

//# rule info places 1 -- query-migrate on the destination
@@ @@
+postcopy_userfault_fill_info(info);
 fill_destination_migration_info(info);

//# rule unfinished places 1 -- the guest runs on the destination: it must not be started here, too
@@
symbol s;
statement S;
@@
 migration_completion(...)
 {
 <...
-if (s->state != MIGRATION_STATUS_CANCELLING)
+if (s->state != MIGRATION_STATUS_CANCELLING &&
+    !postcopy_recover_source(s))
 S
 ...>
 }

//# rule pauses places 1 -- so that migration_detect_error() gets to pause it
@@
symbol s;
@@
 migration_iteration_run(...)
 {
 <...
 migration_completion(s);
+if (s->state == MIGRATION_STATUS_POSTCOPY_ACTIVE) {
+    return MIG_ITERATE_RESUME;
+}
 return MIG_ITERATE_BREAK;
 ...>
 }

//# rule asks places 1 -- whether the destination knows of further channels
@@
symbol ms;
@@
 postcopy_start(...)
 {
 <...
-qemu_savevm_send_ping(ms->to_dst_file, 4);
+qemu_savevm_send_ping(ms->to_dst_file, postcopy_urgent_ping(4));
 ...>
 }

//# rule asks_again places 1 -- and again when both have recovered
@@
symbol s, ret;
@@
 postcopy_do_resume(...)
 {
 ...
 ret = postcopy_resume_handshake(s);
 if (ret) {
 ...
 }
+postcopy_urgent_offer(s);
 ...
 }

//# rule agreed places 1 -- the answer
@@
symbol tmp32;
@@
 source_return_path_thread(...)
 {
 <...
 trace_source_return_path_thread_pong(tmp32);
+postcopy_urgent_agreed(tmp32);
 ...>
 }

//# rule ends places 1 -- before RAM's state goes, and before a recovery
@@
symbol ms;
@@
 close_return_path_on_source(...)
 {
 <...
 qemu_thread_join(&ms->rp_state.rp_thread);
+postcopy_urgent_end();
 ...>
 }

//# rule stuck places 1 -- it may be in a send on the preempt channel, and hear of nothing
@@
symbol ms;
@@
 close_return_path_on_source(...)
 {
 <...
+if (migrate_has_error(ms)) {
+    postcopy_recover_shut_preempt(ms);
+}
 qemu_thread_join(&ms->rp_state.rp_thread);
 ...>
 }

//# rule pauses_stuck places 1 -- likewise the migration thread, which may send its last word there
@@
symbol ms;
@@
 qmp_migrate_pause(...)
 {
 <...
 qemu_mutex_unlock(&ms->qemu_file_lock);
+postcopy_recover_shut_preempt(ms);
 ...>
 }

//# rule closes places 1 -- not while it is being shut down
@@
symbol ms;
@@
 migration_release_dst_files(...)
 {
 <...
-if (ms->postcopy_qemufile_src) { ... }
+postcopy_recover_close_preempt(ms);
 ...>
 }

//# rule answers places 1 -- for the threads of further channels
@@ @@
-static
 void migrate_handle_rp_req_pages(...)
 {
 ...
 }

//# rule all places 1 -- they come late, when the others have long been there
@@
symbol mis;
@@
 migration_has_all_channels(...)
 {
 <...
-return mis->postcopy_qemufile_dst != NULL;
+return mis->postcopy_qemufile_dst != NULL && !postcopy_urgent_expected();
 ...>
 }

//# rule refuse places 1 -- what comes while a broken channel is given up is neither a recovery nor a migration
@@
symbol mis, ioc, errp;
@@
 migration_ioc_process_incoming(...)
 {
 <...
+if (postcopy_recover_refuse(mis, ioc)) {
+    return;
+}
 if (multifd_recv_setup(errp) != 0) {
 ...
 }
 ...>
 }
