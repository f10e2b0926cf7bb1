/*
 * What is static in QEMU's files and the targets need
 *
 * Each peek-NAME.c includes migration/NAME.c and is compiled in its place.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_PEEK_H
#define TESTS_FUZZ_PEEK_H

#include "migration/migration.h"

/**
 * peek_migration_init: the states of both directions, without the properties
 * and types that migration_object_init() would need
 */
void peek_migration_init(void);

/**
 * peek_forget_requests: what the destination knows of pages asked for
 */
void peek_forget_requests(MigrationIncomingState *mis);

/**
 * peek_return_path: what the source's thread for the return path does, until
 * that ends
 */
void peek_return_path(MigrationState *ms);

/**
 * peek_pause_incoming: what the loader does when the connection is broken
 * @paused: called when it waits; calls peek_try_recover() before it returns
 */
void peek_pause_incoming(MigrationIncomingState *mis, void (*paused)(void));

/**
 * peek_try_recover: what a new connection of a paused migration leads to
 */
void peek_try_recover(void);

/**
 * peek_handle_resume: what MIG_CMD_POSTCOPY_RESUME leads to
 */
int peek_handle_resume(MigrationIncomingState *mis);

/**
 * peek_temp_pages_setup, peek_temp_pages_cleanup: buffers of the loaders
 */
void peek_temp_pages_setup(MigrationIncomingState *mis);
void peek_temp_pages_cleanup(MigrationIncomingState *mis);

/**
 * peek_request_page: what the fault thread does for a fault
 * @offset: of the host page
 */
int peek_request_page(MigrationIncomingState *mis, RAMBlock *rb,
                      uint64_t offset);

/**
 * peek_received_maps: the destination's received bitmaps, all clear
 */
void peek_received_maps(void);

/**
 * peek_ram_begin, peek_ram_end: the source's state of RAM, all of it dirty
 */
void peek_ram_begin(void);
void peek_ram_end(void);

/**
 * peek_ram_last_requested: the block of a request that names none
 */
const RAMBlock *peek_ram_last_requested(void);

/**
 * peek_ram_answered: check that all pages of a request have been sent
 * @start, @length: of the request, in bytes; of the block of the last one
 *
 * But for those that the background stream is sending.
 */
void peek_ram_answered(uint64_t start, uint64_t length);

/**
 * peek_ram_send: one step of the background stream
 *
 * Takes what is first in the queue of requests, or goes on.  Returns false if
 * there was nothing to send.
 */
bool peek_ram_send(QEMUFile *f);

/**
 * peek_ram_check: whether the source's queue and counters hold together
 * @counted: whether the number of dirty pages must be right
 */
void peek_ram_check(bool counted);

/**
 * peek_ram_recount: what a resume does with the counters
 */
void peek_ram_recount(void);

/**
 * peek_urgent_answer: what the source's thread of a further channel does
 * @requests: is read until its end, or until what is no request
 * @pages: where their pages go
 */
void peek_urgent_answer(QEMUFile *requests, QEMUFile *pages);

/**
 * peek_urgent_sending: have the background stream be at a page
 */
void peek_urgent_sending(RAMBlock *rb, uint64_t page);

#endif
