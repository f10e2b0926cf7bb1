/*
 * Channels whose other end is the fuzz target
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_CHANNEL_H
#define TESTS_FUZZ_CHANNEL_H

#include "io/channel-socket.h"

/*
 * A socket as far as anybody looks at its type or its descriptor.  What is read
 * from it and written to it the target sees.
 */
typedef struct FuzzChannel {
    QIOChannelSocket parent;
    int peer;                   /* the other end of the descriptor */
    /*
     * Next bytes to read: returns how many were put into @buffer, 0 for the
     * end of the connection.
     */
    size_t (*more)(void *opaque, uint8_t *buffer, size_t size);
    void *opaque;
    /* What was written; under rp_mutex, as all who write */
    GByteArray *written;
    bool broken;                /* writes fail */
    bool full;                  /* a write would wait */
} FuzzChannel;

/**
 * fuzz_channel_init: once
 */
void fuzz_channel_init(void);

/**
 * fuzz_channel_new: a channel
 * @more, @opaque: see FuzzChannel
 */
FuzzChannel *fuzz_channel_new(size_t (*more)(void *opaque, uint8_t *buffer,
                                             size_t size),
                              void *opaque);

/**
 * fuzz_channel_fill: have writes wait, or wait no longer
 */
void fuzz_channel_fill(FuzzChannel *c, bool full);

#endif
