/*
 * The hostile source's stream: what the destination's loaders read
 *
 * Both channels read the same bytes; which one does is decided by the step.
 * A loader that wants more than there is finds the connection closed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "migration/postcopy-ram.h"
#include "migration/qemu-file.h"
#include "migration/ram.h"
#include "stream.h"

static GByteArray *stream;
static size_t done;             /* of it has been read */

static size_t more(void *opaque, uint8_t *buffer, size_t size)
{
    size_t n = MIN(size, stream->len - done);

    if (n) {
        memcpy(buffer, stream->data + done, n);
        done += n;
    }
    return n;
}

void stream_init(void)
{
    stream = g_byte_array_new();
}

void stream_connect(Destination *d)
{
    d->main = fuzz_channel_new(more, NULL);
    memset(&d->wire, 0, sizeof(d->wire));
    d->mis->from_src_file = qemu_file_new_input(QIO_CHANNEL(d->main));
    object_unref(OBJECT(d->main));
}

void stream_connect_preempt(Destination *d)
{
    FuzzChannel *c = fuzz_channel_new(more, NULL);

    postcopy_preempt_new_channel(d->mis, qemu_file_new_input(QIO_CHANNEL(c)));
    object_unref(OBJECT(c));
}

void stream_begin(void)
{
    g_byte_array_set_size(stream, 0);
    done = 0;
}

void stream_put(const void *bytes, size_t n)
{
    g_byte_array_append(stream, bytes, n);
}

static void put_be64(uint64_t value)
{
    uint64_t be = cpu_to_be64(value);

    stream_put(&be, sizeof(be));
}

void stream_put_page(const RAMBlock *rb, uint64_t page, unsigned flags)
{
    static const uint8_t content[PAGE_BYTES] = { 1 };
    uint8_t length = strlen(rb->idstr);

    put_be64(page << PAGE_BITS | flags);
    if (!(flags & RAM_SAVE_FLAG_CONTINUE)) {
        stream_put(&length, 1);
        stream_put(rb->idstr, length);
    }
    if (flags & RAM_SAVE_FLAG_ZERO) {
        stream_put(content + 1, 1);
    } else {
        stream_put(content, sizeof(content));
    }
}

void stream_put_end(void)
{
    put_be64(RAM_SAVE_FLAG_EOS);
}
