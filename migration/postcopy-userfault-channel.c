/*
 * How requests of pages get to the source: the return path, from any thread
 *
 * Threads      any that asks for pages; whoever opens and closes the channel.
 * Owns         whether vCPUs may write, and the descriptor to poll before.
 * Locks        mis->rp_mutex, in all that writes.  A thread that may not wait
 *              takes it with trylock, and writes only if the socket has room.
 * Orderings    those of the mutex; postcopy-userfault.c has the one of a
 *              request against a resume.
 * Failure      a closed or broken channel: the write says so, and the list of
 *              requests is dropped by the caller.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <netinet/tcp.h>
#include <poll.h>
#include "qemu/bswap.h"
#include "io/channel.h"
#include "postcopy-recover.h"
#include "postcopy-userfault-int.h"
#include "qemu-file.h"
#include "trace.h"

/* A message of the return path begins with its type and its length. */
#define HEADER_BYTES 4
/* A request: offset and length, then the block's name if that is needed */
#define REQUEST_BYTES (8 + 4)

static bool channel_writable(const PostcopyUserfault *u)
{
    struct pollfd pfd = { .fd = u->channel_fd, .events = POLLOUT };

    return u->channel_fd >= 0 && poll(&pfd, 1, 0) == 1 &&
           (pfd.revents & POLLOUT);
}

/*
 * PostcopyRequestOps.lock().  A socket that polls as writable has at least a
 * third of its send buffer free, and a list has at most one request of 16
 * bytes for each vCPU, and POSTCOPY_REQUEST_AHEAD_MAX ahead of need: the write
 * that follows does not wait.
 */
static bool channel_lock(void *opaque, bool may_block)
{
    PostcopyUserfault *u = opaque;
    MigrationIncomingState *mis = u->mis;

    if (may_block) {
        qemu_mutex_lock(&mis->rp_mutex);
        return true;
    }
    if (qemu_mutex_trylock(&mis->rp_mutex)) {
        return false;
    }
    if (u->channel_open && mis->to_src_file && !channel_writable(u)) {
        qemu_mutex_unlock(&mis->rp_mutex);
        return false;
    }
    return true;
}

static void channel_unlock(void *opaque)
{
    PostcopyUserfault *u = opaque;

    qemu_mutex_unlock(&u->mis->rp_mutex);
}

/*
 * The message leaves the block's name out if it is the last one named.  Both
 * sides keep that name, so choosing the form and writing the message are one
 * critical section of mis->rp_mutex.
 */
static void put_request(MigrationIncomingState *mis, const PostcopyRequest *req)
{
    const PostcopyBlock *b = req->block;
    const char *name = b->rb->idstr;
    bool named = mis->last_rb != b->rb;
    size_t name_len = named ? strlen(name) : 0;
    size_t length = REQUEST_BYTES + (named ? 1 + name_len : 0);
    uint8_t message[HEADER_BYTES + REQUEST_BYTES + 1];

    assert(name_len <= UINT8_MAX);
    stw_be_p(message, named ? POSTCOPY_WIRE_REQ_PAGES_ID :
                      POSTCOPY_WIRE_REQ_PAGES);
    stw_be_p(message + 2, length);
    stq_be_p(message + HEADER_BYTES, req->offset);
    stl_be_p(message + HEADER_BYTES + 8, req->length);
    message[HEADER_BYTES + REQUEST_BYTES] = name_len;
    /* In one piece: each has a price of its own, and the mutex is held. */
    qemu_put_buffer(mis->to_src_file, message,
                    HEADER_BYTES + REQUEST_BYTES + named);
    if (named) {
        qemu_put_buffer(mis->to_src_file, (const uint8_t *)name, name_len);
        mis->last_rb = b->rb;
    }
}

/* Returns how many were put. */
static unsigned put_requests(MigrationIncomingState *mis,
                             const PostcopyRequestList *list, bool ahead)
{
    PostcopyRequest *req;
    unsigned n = 0;

    QSLIST_FOREACH(req, list, next) {
        if (req->ahead == ahead) {
            put_request(mis, req);
            n++;
        }
    }
    return n;
}

static bool channel_write(void *opaque, const PostcopyRequestList *list)
{
    PostcopyUserfault *u = opaque;
    MigrationIncomingState *mis = u->mis;
    unsigned n;
    int ret;

    if (!u->channel_open || !mis->to_src_file) {
        return false;
    }
    /* The source answers in this order, so first what somebody waits for. */
    n = put_requests(mis, list, false);
    n += put_requests(mis, list, true);
    ret = qemu_fflush(mis->to_src_file);
    postcopy_count(&u->stats.flushes, 1);
    trace_postcopy_userfault_send(n, ret);
    return ret >= 0;
}

const PostcopyRequestOps postcopy_userfault_request_ops = {
    .lock = channel_lock,
    .write = channel_write,
    .unlock = channel_unlock,
};

static bool is_tcp(int fd)
{
    int protocol = 0;
    socklen_t size = sizeof(protocol);

    return fd >= 0 &&
           !getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) &&
           protocol == IPPROTO_TCP;
}

void postcopy_userfault_channel_open_locked(PostcopyUserfault *u)
{
    QEMUFile *f = u->mis->to_src_file;

    u->channel_fd = postcopy_channel_fd(f);
    qatomic_set(&u->acknowledges, is_tcp(u->channel_fd));
    /*
     * A request is small, and with preempt its page comes over another
     * connection: TCP must not keep it back until the one before it is
     * acknowledged, which the source's host has no hurry to do.
     */
    qio_channel_set_delay(qemu_file_get_ioc(f), false);
    u->channel_open = true;
}

/* The option holds for what is pending alone, so it is set again and again. */
void postcopy_userfault_received(QEMUFile *f)
{
    int on = 1;

    if (qatomic_read(&postcopy_userfault.acknowledges) &&
        qatomic_read(&postcopy_userfault.serving)) {
        setsockopt(postcopy_channel_fd(f), IPPROTO_TCP, TCP_QUICKACK, &on,
                   sizeof(on));
    }
}

void postcopy_userfault_pause_locked(MigrationIncomingState *mis)
{
    postcopy_userfault.channel_open = false;
    postcopy_userfault.channel_fd = -1;
    trace_postcopy_userfault_pause();
}
