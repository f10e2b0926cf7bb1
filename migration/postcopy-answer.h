/*
 * Answering requests for pages, on the source
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_ANSWER_H
#define QEMU_MIGRATION_POSTCOPY_ANSWER_H

#include "qemu-file.h"

/**
 * postcopy_answer_page: a host page is in the channel's queue
 * @pages: the preempt channel
 *
 * Sends the queue if there are 32 KiB in it.  Errors are those of the channel.
 * For the thread that reads the return path.
 */
void postcopy_answer_page(QEMUFile *pages);

/**
 * postcopy_answer_end: the pages of a request are in the channel's queue
 * @pages: the preempt channel
 * @requests: the return path, behind that request
 *
 * Sends the queue, unless the next request has come already, whole, so that its
 * pages can go with them.  Errors are those of the channel.  For the thread that
 * reads the return path; without the bitmap's mutex, for which the background
 * stream would wait.
 */
void postcopy_answer_end(QEMUFile *pages, QEMUFile *requests);

#endif
