/*
 * Trace events of the QEMU files the unit tests use: none
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define trace_qemu_memalign(...) ((void)0)
#define trace_qemu_vfree(...) ((void)0)
#define trace_qemu_mutex_lock(...) ((void)0)
#define trace_qemu_mutex_locked(...) ((void)0)
#define trace_qemu_mutex_unlock(...) ((void)0)
