/*
 * How requests of pages get to the source, from any thread
 *
 * By the return path, or by as many channels as there are (postcopy-urgent.h).
 * Each has a mutex and a queue of its own, and a page's place in its block says
 * by which one it is asked for.
 *
 * Threads      any that asks for pages; whoever opens and closes a channel.
 * Owns         whether vCPUs may write, and the descriptor to poll before; the
 *              way back of further channels.
 * Locks        a channel's mutex, in all that writes: that of the return path is
 *              mis->rp_mutex.  A thread that may not wait takes it with trylock,
 *              and writes only if the socket has room.
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
#include "qemu/lockable.h"
#include "qemu/units.h"
#include "io/channel.h"
#include "migration.h"
#include "options.h"
#include "postcopy-recover.h"
#include "postcopy-userfault-int.h"
#include "qemu-file.h"
#include "trace.h"

/* A message of the return path begins with its type and its length. */
#define HEADER_BYTES 4
/* A request: offset and length, then the block's name if that is needed */
#define REQUEST_BYTES (8 + 4)

/* Bytes of a block whose pages are asked for by the same channel, one by one */
#define SPREAD (256 * KiB)

/* Those of further channels: their mutexes, and what these guard */
static struct {
    QemuMutex mutex;
    QEMUFile *to_src;
    RAMBlock *last_rb;
} further[POSTCOPY_URGENT_MAX];

static void __attribute__((constructor)) postcopy_userfault_channel_init(void)
{
    unsigned i;

    for (i = 1; i < POSTCOPY_URGENT_MAX; i++) {
        qemu_mutex_init(&further[i].mutex);
    }
}

static bool channel_writable(const PostcopyChannel *c)
{
    struct pollfd pfd = { .fd = c->fd, .events = POLLOUT };

    return c->fd >= 0 && poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLOUT);
}

/*
 * PostcopyRequestOps.lock().  A socket that polls as writable has at least a
 * third of its send buffer free, and a list has at most one request of 16
 * bytes for each vCPU, and POSTCOPY_REQUEST_AHEAD_MAX ahead of need: the write
 * that follows does not wait.
 */
static bool channel_lock(void *opaque, bool may_block)
{
    PostcopyChannel *c = opaque;

    if (may_block) {
        qemu_mutex_lock(c->mutex);
        return true;
    }
    if (qemu_mutex_trylock(c->mutex)) {
        return false;
    }
    if (c->open && *c->file && !channel_writable(c)) {
        qemu_mutex_unlock(c->mutex);
        return false;
    }
    return true;
}

static void channel_unlock(void *opaque)
{
    PostcopyChannel *c = opaque;

    qemu_mutex_unlock(c->mutex);
}

/*
 * The message leaves the block's name out if it is the last one named.  Both
 * sides keep that name, so choosing the form and writing the message are one
 * critical section of the channel's mutex.
 */
static void put_request(PostcopyChannel *c, const PostcopyRequest *req)
{
    const PostcopyBlock *b = req->block;
    const char *name = b->rb->idstr;
    bool named = *c->last_rb != b->rb;
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
    qemu_put_buffer(*c->file, message, HEADER_BYTES + REQUEST_BYTES + named);
    if (named) {
        qemu_put_buffer(*c->file, (const uint8_t *)name, name_len);
        *c->last_rb = b->rb;
    }
}

/* Returns how many were put. */
static unsigned put_requests(PostcopyChannel *c,
                             const PostcopyRequestList *list, bool ahead)
{
    PostcopyRequest *req;
    unsigned n = 0;

    QSLIST_FOREACH(req, list, next) {
        if (req->ahead == ahead) {
            put_request(c, req);
            n++;
        }
    }
    return n;
}

static bool channel_write(void *opaque, const PostcopyRequestList *list)
{
    PostcopyChannel *c = opaque;
    unsigned n;
    int ret;

    if (!c->open || !*c->file) {
        return false;
    }
    /* The source answers in this order, so first what somebody waits for. */
    n = put_requests(c, list, false);
    n += put_requests(c, list, true);
    ret = qemu_fflush(*c->file);
    postcopy_count(&c->flushes, 1);
    trace_postcopy_userfault_send(n, ret);
    return ret >= 0;
}

static const PostcopyRequestOps request_ops = {
    .lock = channel_lock,
    .write = channel_write,
    .unlock = channel_unlock,
};

void postcopy_userfault_channels_init(PostcopyUserfault *u)
{
    MigrationIncomingState *mis = u->mis;
    unsigned i;

    u->max_channels = migrate_postcopy_preempt() ? postcopy_urgent_channels : 1;
    for (i = 0; i < u->max_channels; i++) {
        PostcopyChannel *c = &u->channel[i];

        *c = (PostcopyChannel) {
            .mutex = i ? &further[i].mutex : &mis->rp_mutex,
            .file = i ? &further[i].to_src : &mis->to_src_file,
            .last_rb = i ? &further[i].last_rb : &mis->last_rb,
            .queue = postcopy_request_queue_new(&request_ops, c),
            .fd = -1,
        };
    }
}

void postcopy_userfault_channels_free(PostcopyUserfault *u)
{
    unsigned i;

    for (i = 0; i < u->max_channels; i++) {
        g_clear_pointer(&u->channel[i].queue, postcopy_request_queue_free);
    }
}

PostcopyRequestQueue *postcopy_userfault_queue(PostcopyUserfault *u,
                                               uint64_t offset)
{
    unsigned n = qatomic_read(&u->channels);

    return u->channel[n > 1 ? offset / SPREAD % n : 0].queue;
}

static bool is_tcp(int fd)
{
    int protocol = 0;
    socklen_t size = sizeof(protocol);

    return fd >= 0 &&
           !getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) &&
           protocol == IPPROTO_TCP;
}

static void open_locked(PostcopyChannel *c)
{
    QEMUFile *f = *c->file;

    c->fd = postcopy_channel_fd(f);
    /*
     * A request is small, and with preempt its page comes over another
     * connection: TCP must not keep it back until the one before it is
     * acknowledged, which the source's host has no hurry to do.
     */
    qio_channel_set_delay(qemu_file_get_ioc(f), false);
    c->open = true;
}

void postcopy_userfault_channel_open_locked(PostcopyUserfault *u)
{
    open_locked(&u->channel[0]);
    qatomic_set(&u->acknowledges, is_tcp(u->channel[0].fd));
}

void postcopy_userfault_channel_attach(unsigned index, QEMUFile *to_src)
{
    QEMU_LOCK_GUARD(&further[index].mutex);

    further[index].to_src = to_src;
    further[index].last_rb = NULL;
}

void postcopy_userfault_channel_detach(unsigned index)
{
    PostcopyChannel *c = &postcopy_userfault.channel[index];

    QEMU_LOCK_GUARD(&further[index].mutex);
    c->open = false;
    c->fd = -1;
    g_clear_pointer(&further[index].to_src, qemu_fclose);
}

void postcopy_userfault_channels_open(unsigned n)
{
    PostcopyUserfault *u = &postcopy_userfault;
    unsigned i;

    for (i = 1; i <= n; i++) {
        QEMU_LOCK_GUARD(&further[i].mutex);
        open_locked(&u->channel[i]);
    }
    qatomic_set(&u->channels, n + 1);
    qatomic_set(&u->most_channels, MAX(u->most_channels, n + 1));
}

void postcopy_userfault_channels_shut(void)
{
    qatomic_set(&postcopy_userfault.channels, 1);
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
    postcopy_userfault.channel[0].open = false;
    postcopy_userfault.channel[0].fd = -1;
    trace_postcopy_userfault_pause();
}
