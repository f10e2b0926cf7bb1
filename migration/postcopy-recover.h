/*
 * Recovery of a broken postcopy migration, on the destination
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_RECOVER_H
#define QEMU_MIGRATION_POSTCOPY_RECOVER_H

#include "migration.h"

/**
 * postcopy_channel_fd: the socket of a channel, that below TLS if there is TLS
 * @f: either direction of the channel
 *
 * Returns -1 if it is no socket.  The file must not be closed meanwhile.
 */
int postcopy_channel_fd(QEMUFile *f);

/**
 * postcopy_recover_wait_preempt: wait for the preempt channel of this recovery
 * @mis: the incoming migration
 *
 * Returns 0 when it is there.  Returns -EIO if the main channel broke before,
 * or was shut down by migrate-pause, or if the preempt channel has not come
 * after 20 seconds: the migration has to be paused again, for another recovery.
 * For the thread that reads the main channel; no locks held.
 */
int postcopy_recover_wait_preempt(MigrationIncomingState *mis);

/**
 * postcopy_recover_preempt_broke: have the migration paused
 * @mis: the incoming migration
 *
 * The preempt channel, or a page that came by it, has failed.  Shuts both
 * channels down, so that both sides notice, and the migration can be recovered.
 * For the thread that reads the preempt channel, which holds
 * mis->postcopy_prio_thread_mutex.
 */
void postcopy_recover_preempt_broke(MigrationIncomingState *mis);

/**
 * postcopy_recover_break: likewise, for any other thread
 * @mis: the incoming migration
 *
 * Shuts down the main channel, whose reader then closes the other one.
 * Takes mis->rp_mutex.
 */
void postcopy_recover_break(MigrationIncomingState *mis);

/**
 * postcopy_recover_source: the source could not end the migration
 * @s: the outgoing migration
 *
 * In postcopy the guest runs on the destination by then, which may lack pages.
 * A migration that has failed would start it on the source again; so this one
 * is to be paused.  For the migration thread, which then has to look for errors
 * of the channels.
 *
 * Returns true in postcopy; false if the migration may fail.
 */
bool postcopy_recover_source(MigrationState *s);

#endif
