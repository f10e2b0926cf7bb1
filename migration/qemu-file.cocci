// How much a file holds, which nobody has asked for so far.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule queued places 1 -- whether to answer with more pages together
@@
typedef QEMUFile;
@@
+size_t qemu_file_queued(const QEMUFile *f)
+{
+    return iov_size(f->iov, f->iovcnt);
+}
+
 int qemu_file_get_error(QEMUFile *f)
 {
 ...
 }

//# rule buffered places 1 -- whether more requests have come together
@@
typedef QEMUFile;
@@
+size_t qemu_file_buffered(const QEMUFile *f)
+{
+    return f->is_writable ? 0 : f->buf_size - f->buf_index;
+}
+
 size_t qemu_file_queued(const QEMUFile *f)
 {
 ...
 }
