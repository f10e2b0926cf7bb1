/*
 * The hostile source's stream: what the destination's loaders read
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_STREAM_H
#define TESTS_FUZZ_STREAM_H

#include "destination.h"

/**
 * stream_init: once
 */
void stream_init(void);

/**
 * stream_connect: a new connection, from which the loader will read
 */
void stream_connect(Destination *d);

/**
 * stream_connect_preempt: the preempt channel is there
 */
void stream_connect_preempt(Destination *d);

/**
 * stream_begin: forget what nobody has read
 */
void stream_begin(void);

/**
 * stream_put: append bytes
 */
void stream_put(const void *bytes, size_t n);

/**
 * stream_put_page: append a small page
 * @page: its number in the block, which it may be beyond
 * @flags: RAM_SAVE_FLAG_*
 */
void stream_put_page(const RAMBlock *rb, uint64_t page, unsigned flags);

/**
 * stream_put_end: append the end of a section
 */
void stream_put_end(void);

#endif
