/*
 * QEMU's postcopy-ram.c, without the fault thread's loop
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "migration/postcopy-ram.c"
#include "peek.h"

void peek_temp_pages_setup(MigrationIncomingState *mis)
{
    postcopy_temp_pages_setup(mis);
}

void peek_temp_pages_cleanup(MigrationIncomingState *mis)
{
    postcopy_temp_pages_cleanup(mis);
}

int peek_request_page(MigrationIncomingState *mis, RAMBlock *rb,
                      uint64_t offset)
{
    return postcopy_request_page(mis, rb, offset,
                                 (uintptr_t)rb->host + offset);
}
