// How much a file holds, which nobody has asked for so far; and the number in
// front of each page in one piece, not byte by byte.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the rules for numbers call
@@ @@
+#include "qemu/bswap.h"
 #include "qemu/iov.h"

//# rule put places 1 -- each call has a price, and threads that all pages pass pay it
@@
symbol f, v;
@@
 qemu_put_be64(...)
 {
-qemu_put_be32(f, v >> 32);
-qemu_put_be32(f, v);
+uint8_t buf[8];
+
+stq_be_p(buf, v);
+qemu_put_buffer(f, buf, sizeof(buf));
 }

//# rule get places 1 -- likewise; what is missing at the end of a file stays 0
@@
typedef uint64_t, uint8_t;
symbol f, v;
@@
 qemu_get_be64(...)
 {
-uint64_t v;
-v = (uint64_t)qemu_get_be32(f) << 32;
-v |= qemu_get_be32(f);
-return v;
+uint64_t v = 0;
+
+qemu_get_buffer(f, (uint8_t *)&v, sizeof(v));
+return be64_to_cpu(v);
 }

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
