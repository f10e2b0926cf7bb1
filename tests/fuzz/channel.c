/*
 * Channels whose other end is the fuzz target
 *
 * The descriptor is only there to be polled: whether it has room the target
 * decides.  Nothing is ever written to it but what takes that room away.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "qapi/error.h"
#include "qemu/module.h"
#include "qemu/sockets.h"
#include "channel.h"
#include "fuzz.h"
#include "machine.h"

#define TYPE_FUZZ_CHANNEL "fuzz-channel"

static ssize_t fuzz_readv(QIOChannel *ioc, const struct iovec *iov,
                          size_t niov, int **fds, size_t *nfds, int flags,
                          Error **errp)
{
    FuzzChannel *c = (FuzzChannel *)ioc;

    return c->more ? c->more(c->opaque, iov[0].iov_base, iov[0].iov_len) : 0;
}

static ssize_t fuzz_writev(QIOChannel *ioc, const struct iovec *iov,
                           size_t niov, int *fds, size_t nfds, int flags,
                           Error **errp)
{
    FuzzChannel *c = (FuzzChannel *)ioc;
    size_t i, bytes = 0;

    if (c->broken) {
        error_setg(errp, "broken");
        return -1;
    }
    fuzz_check(machine_is_main || !c->full, "a vCPU waits in a write");
    for (i = 0; i < niov; i++) {
        g_byte_array_append(c->written, iov[i].iov_base, iov[i].iov_len);
        bytes += iov[i].iov_len;
    }
    return bytes;
}

static int fuzz_shutdown(QIOChannel *ioc, QIOChannelShutdown how, Error **errp)
{
    ((FuzzChannel *)ioc)->broken = true;
    return 0;
}

static int fuzz_set_blocking(QIOChannel *ioc, bool enabled, Error **errp)
{
    return 0;
}

static void fuzz_channel_finalize(Object *obj)
{
    FuzzChannel *c = (FuzzChannel *)obj;

    close(c->peer);
    g_byte_array_unref(c->written);
}

static void fuzz_channel_class_init(ObjectClass *klass, void *data)
{
    QIOChannelClass *ioc_klass = QIO_CHANNEL_CLASS(klass);

    ioc_klass->io_readv = fuzz_readv;
    ioc_klass->io_writev = fuzz_writev;
    ioc_klass->io_shutdown = fuzz_shutdown;
    ioc_klass->io_set_blocking = fuzz_set_blocking;
}

static const TypeInfo fuzz_channel_type = {
    .name = TYPE_FUZZ_CHANNEL,
    .parent = TYPE_QIO_CHANNEL_SOCKET,
    .instance_size = sizeof(FuzzChannel),
    .instance_finalize = fuzz_channel_finalize,
    .class_init = fuzz_channel_class_init,
};

void fuzz_channel_init(void)
{
    type_register_static(&fuzz_channel_type);
}

FuzzChannel *fuzz_channel_new(size_t (*more)(void *opaque, uint8_t *buffer,
                                             size_t size),
                              void *opaque)
{
    FuzzChannel *c = (FuzzChannel *)object_new(TYPE_FUZZ_CHANNEL);
    int pair[2], bytes = 1;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
        fuzz_fail("no sockets: %s", strerror(errno));
    }
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    c->parent.fd = pair[0];
    c->peer = pair[1];
    c->more = more;
    c->opaque = opaque;
    c->written = g_byte_array_new();
    qio_channel_set_feature(QIO_CHANNEL(c), QIO_CHANNEL_FEATURE_SHUTDOWN);
    return c;
}

void fuzz_channel_fill(FuzzChannel *c, bool full)
{
    char text[4096] = { 0 };
    struct pollfd pfd = { .fd = c->parent.fd, .events = POLLOUT };

    c->full = full;
    if (full) {
        while (send(c->parent.fd, text, sizeof(text), MSG_DONTWAIT) > 0) {
            continue;
        }
    } else {
        while (recv(c->peer, text, sizeof(text), MSG_DONTWAIT) > 0) {
            continue;
        }
    }
    fuzz_check((poll(&pfd, 1, 0) == 1) == !full, "the socket has %s room",
               full ? "still" : "no");
}
