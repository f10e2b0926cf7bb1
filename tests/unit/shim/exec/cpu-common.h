/*
 * Of QEMU's, what the files that are tested alone need
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_SHIM_EXEC_CPU_COMMON_H
#define TESTS_UNIT_SHIM_EXEC_CPU_COMMON_H

typedef uintptr_t ram_addr_t;

#endif
