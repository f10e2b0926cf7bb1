/*
 * Several channels for the pages that somebody waits for
 *
 * With postcopy-preempt these come over a connection of their own, and each page
 * goes through one thread on either side.  If both sides have been told to, and
 * have found that they know this, they use further connections.  Each of these is
 * a pair of threads: requests go one way over it, and their pages come back over
 * it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_URGENT_H
#define QEMU_MIGRATION_POSTCOPY_URGENT_H

#include "exec/cpu-common.h"

/* The preempt channel and further ones, at most */
#define POSTCOPY_URGENT_MAX 8

/*
 * The source asks by the value of the ping that follows the switchover or a
 * recovery; QEMUs without this send a ping there, too, and return the value of
 * any.  The last byte is the number of channels, of which the smaller one counts.
 */
#define POSTCOPY_URGENT_PING 0x75726700
#define POSTCOPY_URGENT_PONG 0x55524700
/* The source's first word on a further channel */
#define POSTCOPY_URGENT_HELLO 0x55524748

/* How many channels this QEMU would use; a property of the migration object */
extern uint32_t postcopy_urgent_channels;

/* ------------------------------------------------------------------------- */
/* On the source: postcopy-urgent-out.c */

/**
 * postcopy_urgent_ping: what to send with a ping
 * @otherwise: the value if there is nothing to ask for
 *
 * For the migration thread.
 */
uint32_t postcopy_urgent_ping(uint32_t otherwise);

/**
 * postcopy_urgent_offer: ask again, after a recovery
 * @s: the migration
 *
 * For the migration thread.
 */
void postcopy_urgent_offer(MigrationState *s);

/**
 * postcopy_urgent_agreed: connect further channels, if the destination wants some
 * @value: that of a pong
 *
 * A channel that cannot be connected is no error: what there is stays in use.
 * For the thread that reads the return path.
 */
void postcopy_urgent_agreed(uint32_t value);

/**
 * postcopy_urgent_end: end further channels and their threads
 *
 * For whoever has ended the thread that reads the return path.  Idempotent.
 */
void postcopy_urgent_end(void);

/**
 * postcopy_urgent_channel: which of RAM's channels the calling thread answers on
 *
 * Returns RAM_CHANNEL_POSTCOPY for the preempt channel, and what follows that for
 * further ones.
 */
unsigned postcopy_urgent_channel(void);

/**
 * postcopy_urgent_pages: where the calling thread sends pages
 * @s: the migration
 */
QEMUFile *postcopy_urgent_pages(MigrationState *s);

/**
 * postcopy_urgent_requests: where the calling thread reads requests
 * @s: the migration
 */
QEMUFile *postcopy_urgent_requests(MigrationState *s);

/**
 * migrate_handle_rp_req_pages: answer a request for pages
 * @ms: the migration
 * @rbname: name of the block, or NULL for the one of the channel's last request
 * @start: byte offset in it
 * @len: in bytes
 * @errp: what is wrong with the request, or that the channel is broken
 *
 * QEMU's own, in migration.c.
 */
void migrate_handle_rp_req_pages(MigrationState *ms, const char *rbname,
                                 ram_addr_t start, size_t len, Error **errp);

/* ------------------------------------------------------------------------- */
/* On the destination: postcopy-urgent-in.c */

/**
 * postcopy_urgent_pong: answer a ping
 * @mis: the incoming migration
 * @value: that of the ping
 *
 * Returns the value of the pong.  If that tells the source to connect further
 * channels they are accepted from now on.  For the thread that reads the main
 * channel.
 */
uint32_t postcopy_urgent_pong(MigrationIncomingState *mis, uint32_t value);

/**
 * postcopy_urgent_expected: whether further channels are still to come
 *
 * For the main thread.
 */
bool postcopy_urgent_expected(void);

/**
 * postcopy_urgent_new: take a connection, if it is a further channel
 * @mis: the incoming migration
 * @file: the connection
 *
 * Returns whether it was taken.  For the main thread.
 */
bool postcopy_urgent_new(MigrationIncomingState *mis, QEMUFile *file);

/**
 * postcopy_urgent_close: end further channels and their threads
 *
 * What they have brought is placed, or given to vCPUs.  For the thread that
 * pauses or ends incoming postcopy, without locks.  Idempotent.
 */
void postcopy_urgent_close(void);

#endif
