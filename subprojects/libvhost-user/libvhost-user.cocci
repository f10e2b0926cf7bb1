// Postcopy with a vhost-user back end: page faults of the back end can only be
// served if QEMU knows where it has mapped the memory.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule table places 1 -- the addresses are filled into a copy of the message
@@
symbol dev, vmsg, memory;
@@
 vu_set_mem_table_exec(...)
 {
 <...
 if (dev->postcopy_listening) {
+    vmsg->payload.memory = *memory;
     vmsg->fd_num = 0;
     ...
 }
 ...>
 }

//# rule region places 1 -- likewise
@@
symbol dev, vmsg, msg_region;
@@
 vu_add_mem_reg(...)
 {
 <...
 if (dev->postcopy_listening) {
+    vmsg->payload.memreg.region = *msg_region;
     vmsg->fd_num = 0;
     ...
 }
 ...>
 }

//# rule end places 1 -- the end of the list has no file descriptor, and is shorter than a region
@@
symbol dev, vmsg;
@@
 vu_add_mem_reg(...)
 {
 ...
+if (dev->postcopy_listening && vmsg->size == sizeof(vmsg->payload.u64)) {
+    (void)generate_faults(dev);
+    return false;
+}
 if (vmsg->fd_num != 1) {
 ...
 }
 ...
 }
