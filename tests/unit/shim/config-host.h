/*
 * What QEMU's configure finds out, as far as the unit tests' files ask: a
 * 64-bit Linux host with glibc.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define CONFIG_ATOMIC64
#define CONFIG_INT128
#define CONFIG_IOVEC
#define CONFIG_LINUX
#define CONFIG_POSIX
#define CONFIG_POSIX_MEMALIGN
#define CONFIG_PTHREAD_CONDATTR_SETCLOCK
#define CONFIG_SYSMACROS
