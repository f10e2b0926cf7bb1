/*
 * Answering requests for pages, on the source
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_ANSWER_H
#define QEMU_MIGRATION_POSTCOPY_ANSWER_H

#include "qemu-file.h"

/**
 * postcopy_answer_end: the pages of a request are in the channel's queue
 * @pages: the preempt channel, or a further one
 * @requests: the return path, or that channel again, behind that request
 * @preempt: it is the preempt channel, which has another writer at the end
 *
 * Sends the queue, unless the next request has come already, whole, so that its
 * pages can go with them, and there are less than 32 KiB yet.  Errors are those of
 * the channel.  For the thread that reads the requests; without the bitmap's mutex,
 * for which the background stream and the threads of other channels would wait.
 */
void postcopy_answer_end(QEMUFile *pages, QEMUFile *requests, bool preempt);

/**
 * postcopy_answer_last: all pages have been sent, or are in the channel's queue
 * @pages: the preempt channel
 * @word: what says so
 *
 * Sends the queue and @word behind it.  Machine types up to 7.2 have it so, and the
 * thread that reads requests may still be about to send what it has queued.  Errors
 * are those of the channel.  For the migration thread, without the BQL, as it may
 * wait for room in the socket's buffer.
 */
void postcopy_answer_last(QEMUFile *pages, uint64_t word);

#endif
