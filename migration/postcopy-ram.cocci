// The postcopy userfault service: start and stop, pages that are placed, the
// fault thread's part.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rules call
@@ @@
 #include "postcopy-ram.h"
+#include "postcopy-userfault.h"

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

//# rule blocktime places 1 -- a vCPU that waits in the service is as blocked as one that waits in userfaultfd
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

//# rule placed places 3 -- every host page of postcopy is placed here; PRESENT is set first, the vCPUs' bits are cleared after it
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
typedef uintptr_t;
symbol mis, host_addr, rb, stamp;
@@
 qemu_ufd_copy_ioctl(...)
 {
 <...
 mark_postcopy_blocktime_end((uintptr_t)host_addr);
+postcopy_userfault_placed(mis, rb, host_addr, stamp);
 ...>
 }
