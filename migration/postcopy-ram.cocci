// The postcopy userfault service: start and stop, pages that are placed, the
// fault thread's part.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rules call
@@ @@
 #include "postcopy-ram.h"
+#include "postcopy-place.h"
+#include "postcopy-recover.h"
+#include "postcopy-urgent.h"
+#include "postcopy-userfault.h"

//# rule permission places 1 -- say which permission on what is missing
@@
symbol errp;
@@
 postcopy_ram_supported_by_host(...)
 {
 <...
-error_setg(errp, "Userfaultfd not available: %s", strerror(errno));
+postcopy_userfault_no_userfaultfd(errp, errno);
 ...>
 }

//# rule account places 1 -- requests of vCPUs delay the end of the preempt channel like those of the fault thread
@@
symbol mis;
@@
 postcopy_ram_incoming_cleanup(...)
 {
 trace_postcopy_ram_incoming_cleanup_entry();
+postcopy_userfault_account(mis);
 ...
 }

//# rule stop places 1 -- nobody else uses the service's requests after the fault thread
@@
symbol mis;
@@
 qemu_thread_join(&mis->fault_thread);
+postcopy_userfault_stop(mis);

//# rule unregister places 1 -- a block that was plugged in meanwhile was never registered; to unregister it failed, and all blocks after it stayed registered
@@
typedef RAMBlock;
identifier rb, opaque;
@@
 cleanup_range(RAMBlock *rb, void *opaque)
 {
 ...
+
+if (!rb->postcopy_length) {
+    return 0;
+}
 trace_postcopy_cleanup_range(...);
 ...
 }

//# rule unregistered places 1 -- a block that cannot be unregistered is when userfaultfd is closed; that used not to be done then, and the blocks after it kept theirs, too
@@
symbol block_name;
@@
 cleanup_range(...)
 {
 <...
 if (ioctl(...)) {
     error_report(...);
-    return -1;
 }
 ...>
 }

//# rule discarded places 1 -- a vCPU may come for the same discarded page
@@
symbol mis, rb, start, aligned, received;
@@
 postcopy_request_page(...)
 {
 <...
-bool received = ramblock_recv_bitmap_test_byte_offset(rb, start);
-
-return received ? 0 : postcopy_place_page_zero(mis, aligned, rb);
+return postcopy_userfault_place_discarded(mis, rb, aligned);
 ...>
 }

//# rule shared places 1 -- pages that were asked for are known by their address in this process; by that of the other one they would never be found again, and the preempt channel would not end
@@
typedef uintptr_t;
symbol mis, rb, aligned_rbo, client_addr;
@@
 postcopy_request_shared_page(...)
 {
 <...
 postcopy_request_page(mis, rb, aligned_rbo,
-                      client_addr
+                      (uintptr_t)rb->host + aligned_rbo
                       , ...)
 ...>
 }

//# rule blocktime places 0 1[10.0] -- a vCPU that waits in the service is as blocked as one that waits in userfaultfd; it is not static in later versions
@@ @@
-static
 void mark_postcopy_blocktime_begin(...)
 {
 ...
 }

//# rule flush places 1 -- requests that a vCPU could not send without waiting
@@
symbol mis;
@@
 postcopy_ram_fault_thread(...)
 {
 <...
 if (qatomic_read(&mis->fault_thread_quit)) {
 ...
 }
+if (postcopy_userfault_flush(mis)) {
+    postcopy_pause_fault_thread(mis);
+}
 ...>
 }

//# rule polls places 1 -- an interrupted poll is no reason to leave everybody without pages who waits in userfaultfd
@@
symbol poll_result;
@@
 postcopy_ram_fault_thread(...)
 {
 <...
 if (poll_result == -1) {
+    if (errno == EINTR) {
+        continue;
+    }
     ...
 }
 ...>
 }

//# rule reads places 2 -- nor is an interrupted read
@@ @@
 postcopy_ram_fault_thread(...)
 {
 <...
-errno == EAGAIN
+errno == EAGAIN || errno == EINTR
 ...>
 }

//# rule start places 1 -- before the fault thread exists and before vCPUs run
@@
symbol mis;
@@
 postcopy_ram_incoming_setup(...)
 {
 <...
+postcopy_userfault_start(mis);
 postcopy_thread_create(mis, &mis->fault_thread, ...);
 ...>
 }

//# rule place places 1 -- an error that passes, or that comes after the page is there, does not fail the migration
@@
symbol mis, host_addr, from_addr, pagesize, rb, userfault_fd;
@@
 qemu_ufd_copy_ioctl(...)
 {
 <...
-if (from_addr) {
-    ret = uffd_copy_page(...);
-} else {
-    ret = uffd_zero_page(...);
-}
+ret = postcopy_place(userfault_fd, host_addr, from_addr, pagesize,
+                     ramblock_recv_bitmap_test(rb, host_addr));
 ...>
 }

//# rule placed places 3 -- every host page of postcopy is placed here; PRESENT is set first, the vCPUs' bits are cleared after it, without the mutex
@@
typedef gpointer;
symbol mis, userfault_fd;
@@
 qemu_ufd_copy_ioctl(...)
 {
 int userfault_fd = mis->userfault_fd;
+gpointer stamp;
 ...
 }
@@
symbol mis, host_addr;
@@
 qemu_ufd_copy_ioctl(...)
 {
 <...
 qemu_mutex_lock(&mis->page_request_mutex);
+stamp = postcopy_userfault_stamp_of_locked(mis, host_addr);
 ...>
 }
@@
symbol mis, host_addr, rb, stamp;
identifier ret;
@@
 qemu_ufd_copy_ioctl(...)
 {
 ...
 if (!ret) {
 ...
+postcopy_userfault_placed(mis, rb, host_addr, stamp);
 }
 ...
 }

//# rule nodelay places 1 -- TCP must not keep an urgent page back until those before it are acknowledged, which takes the destination's host up to 40 ms
@@
symbol ioc;
@@
 postcopy_preempt_send_channel_done(...)
 {
 <...
 migration_ioc_register_yank(ioc);
+qio_channel_set_delay(ioc, false);
 ...>
 }

//# rule broke places 1 -- the other channel may have nothing to say for long, or may end well; nobody would hear that vCPUs wait for ever
@@
symbol mis;
@@
 postcopy_preempt_thread(...)
 {
 <...
+postcopy_recover_preempt_broke(mis);
 postcopy_pause_ram_fast_load(mis);
 ...>
 }

//# rule pages places 1 -- each channel puts its pages together in a buffer of its own
@@
symbol mis;
@@
 postcopy_temp_pages_setup(...)
 {
 <...
-mis->postcopy_channels = RAM_CHANNEL_MAX;
+mis->postcopy_channels = RAM_CHANNEL_POSTCOPY + postcopy_urgent_channels;
 ...>
 }

//# rule further places 1 -- a connection that comes later than the preempt channel
@@
symbol mis, file;
@@
 postcopy_preempt_new_channel(...)
 {
+if (postcopy_urgent_new(mis, file)) {
+    return;
+}
 ...
 }

//# rule setup places 1 -- with machine types up to 7.2 a migration that is cancelled, or that has no postcopy, has made a channel that nobody waited for
@@
symbol s, postcopy_preempt_send_channel_new;
@@
 postcopy_preempt_setup(...)
 {
+postcopy_recover_expect_preempt(s);
 socket_send_channel_create(postcopy_preempt_send_channel_new, s);
 }

//# rule eos places 1 -- what a source says when it has sent all may not be its last word, if the main channel breaks after it
@@
symbol mis, ret;
@@
 postcopy_preempt_thread(...)
 {
 <...
 ret = ram_load_postcopy(...);
+if (!ret && postcopy_recover_preempt_ended(mis)) {
+    continue;
+}
 ...>
 }
