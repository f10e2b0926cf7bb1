/*
 * QEMU's savevm.c, whose pause gives the target its turn
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/thread.h"
#include "peek.h"

static void (*while_paused)(void);

/* The one semaphore that is waited for is that of postcopy_pause_incoming(). */
static void wait_paused(QemuSemaphore *sem)
{
    while_paused();
    qemu_sem_wait(sem);
}

#define qemu_sem_wait wait_paused
#include "migration/savevm.c"

void peek_pause_incoming(MigrationIncomingState *mis, void (*paused)(void))
{
    while_paused = paused;
    postcopy_pause_incoming(mis);
}

int peek_handle_resume(MigrationIncomingState *mis)
{
    return loadvm_postcopy_handle_resume(mis);
}
