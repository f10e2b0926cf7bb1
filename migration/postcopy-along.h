/*
 * Pages that come along with one: asked for, and mapped, ahead of a vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_ALONG_H
#define QEMU_MIGRATION_POSTCOPY_ALONG_H

#include "postcopy-userfault-int.h"

/**
 * postcopy_along_ask: queue requests for what a vCPU is about to walk to
 * @queue: where to
 * @v: the calling vCPU
 * @b: the block
 * @offset: byte offset of the page that it waits for
 *
 * Returns whether something was queued.  If @queue's channel is closed meanwhile
 * it may be lost: see postcopy_along_left_out().
 */
bool postcopy_along_ask(PostcopyRequestQueue *queue, PostcopyVcpu *v,
                        PostcopyBlock *b, uint64_t offset);

/**
 * postcopy_along_present: how much of that is there
 * @v: the calling vCPU, after postcopy_along_ask()
 * @b: the block
 * @offset: byte offset of the page that it has come to
 *
 * Returns the number of bytes behind that page.
 */
uint64_t postcopy_along_present(const PostcopyVcpu *v, const PostcopyBlock *b,
                                uint64_t offset);

/**
 * postcopy_along_left_out: whether a page may never come for the request that
 * was made ahead of need
 * @b: the block
 * @offset: byte offset of a page that is claimed, and not there
 *
 * With preempt a source may leave out the end of a range.  Whoever waits for
 * such a page asks for it by itself, which costs the source a look at its
 * bitmap if it has been sent.  Any thread.
 */
bool postcopy_along_left_out(const PostcopyBlock *b, uint64_t offset);

#endif
