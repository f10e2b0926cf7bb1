/*
 * Of a QEMUFile, what the tests have of their own
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_SHIM_QEMU_FILE_H
#define TESTS_UNIT_SHIM_QEMU_FILE_H

#include "qemu/typedefs.h"

size_t qemu_file_buffered(const QEMUFile *f);
size_t qemu_file_queued(const QEMUFile *f);
size_t qemu_peek_buffer(QEMUFile *f, uint8_t **buf, size_t size, size_t offset);
void qemu_put_be64(QEMUFile *f, uint64_t word);
int qemu_fflush(QEMUFile *f);

#endif
