/*
 * What spatch must know of QEMU's macros beyond scripts/cocci-macro-file.h.
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define WITH_QEMU_LOCK_GUARD(x) for (;;)
#define WITH_RCU_READ_LOCK_GUARD() for (;;)
