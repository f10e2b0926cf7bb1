/*
 * Requests for pages, as they are on the wire
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_WIRE_H
#define QEMU_MIGRATION_POSTCOPY_WIRE_H

/*
 * Message types on the return path, as migration.c has them for itself, and
 * checks that they agree.  Each message is its type and the length of what
 * follows, both in 16 bits, big-endian.
 */
#define POSTCOPY_WIRE_REQ_PAGES_ID 3
#define POSTCOPY_WIRE_REQ_PAGES    4
#define POSTCOPY_WIRE_HEADER       4

#endif
