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
 * postcopy_recover_preempt_ended: the source has said that nothing more comes
 * by the preempt channel
 * @mis: the incoming migration; its postcopy_prio_thread_mutex held, and given up
 *       meanwhile
 *
 * Sources of machines up to 7.2 say so when they have sent all, and may have to
 * send more if the main channel breaks after that.  Returns true when there is
 * another channel to read, false at the end.  For the thread that reads it.
 */
bool postcopy_recover_preempt_ended(MigrationIncomingState *mis);

/**
 * postcopy_recover_drain: wait for what is still to come by other channels
 * @mis: the incoming migration, whose main channel has been read to its end
 *
 * Pages that somebody asked for may be on their way.  If their channel breaks, or
 * the main one, as by migrate-pause, the migration is paused, since the source has
 * to send them again.  Returns false if all are there; true if the migration has
 * recovered meanwhile, and mis->from_src_file is to be read.  For the thread that
 * reads the main channel, without locks.
 */
bool postcopy_recover_drain(MigrationIncomingState *mis);

/**
 * postcopy_recover_reset: nothing is broken
 *
 * What broke before is no reason to pause.  For the thread that begins incoming
 * postcopy, or has paused it, with all channels closed.
 */
void postcopy_recover_reset(void);

/**
 * postcopy_pause_incoming: close all channels, and wait for a recovery
 * @mis: the incoming migration
 *
 * QEMU's own, in savevm.c.  Returns true.
 */
bool postcopy_pause_incoming(MigrationIncomingState *mis);

/**
 * postcopy_recover_refuse: turn away a connection that nobody waits for
 * @mis: the incoming migration
 * @ioc: the connection
 *
 * Between the end of a broken main channel and the pause of the migration a
 * connection would be taken for the begin of another migration, and QEMU end with
 * a guest that runs.  Returns whether it is refused.  For the main thread.
 */
bool postcopy_recover_refuse(MigrationIncomingState *mis, QIOChannel *ioc);

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

/**
 * postcopy_recover_shut_preempt: wake who is stuck in a send
 * @s: the outgoing migration
 *
 * Pages are sent on the preempt channel by the thread of the return path, which
 * has to end before the migration is paused.  If nobody takes them at the other
 * end, the end of the main channel does not reach it.  For the migration thread,
 * and for the main thread on behalf of an operator.  Takes s->qemu_file_lock.
 */
void postcopy_recover_shut_preempt(MigrationState *s);

/**
 * postcopy_recover_expect_preempt: the preempt channel is about to be made
 * @s: the outgoing migration
 *
 * One that was made before, and that nobody waited for, is not taken for this one.
 * For the thread that is about to connect, of the main and the migration thread.
 */
void postcopy_recover_expect_preempt(MigrationState *s);

/**
 * postcopy_recover_close_preempt: the source's preempt channel is over
 * @s: the outgoing migration, whose thread of the return path has ended
 *
 * Nothing if there is none.  Takes s->qemu_file_lock.
 */
void postcopy_recover_close_preempt(MigrationState *s);

#endif
