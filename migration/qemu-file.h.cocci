// How much a file holds, which nobody has asked for so far.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule amounts places 1 -- declares what qemu-file.c has
@@
typedef QEMUFile;
@@
 #include "migration/qemu-file-types.h"
+
+/* Bytes that can be read without waiting; 0 of a file for writing */
+size_t qemu_file_buffered(const QEMUFile *f);
+/* Bytes that were put and have not been sent; 0 of a file for reading */
+size_t qemu_file_queued(const QEMUFile *f);
