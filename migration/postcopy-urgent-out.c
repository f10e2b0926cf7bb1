/*
 * Further channels for urgent pages, on the source
 *
 * Threads      the main thread connects; each channel has one that reads
 *              requests and sends their pages; the thread that has joined the
 *              one of the return path ends them.
 * Owns         the channels, and which of them a thread answers on.
 * Locks        lock: leaf.  Pages are taken from the dirty bitmap under its mutex,
 *              as on the preempt channel.
 * Orderings    those of the lock: a connection that is made after the end of the
 *              channels it was meant for is of an older generation, and closed.
 * Failure      a channel that breaks is closed.  What was to go over it is lost;
 *              the destination sees the end of it, and has the migration paused
 *              and recovered, unless it has all that it wants.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "io/channel-tls.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "channel.h"
#include "migration.h"
#include "options.h"
#include "postcopy-ram.h"
#include "postcopy-urgent.h"
#include "postcopy-wire.h"
#include "qemu-file.h"
#include "savevm.h"
#include "socket.h"
#include "tls.h"
#include "trace.h"
#include "yank_functions.h"

typedef struct UrgentOut {
    unsigned index;
    QEMUFile *pages;
    QEMUFile *requests;
    QemuThread thread;
} UrgentOut;

static struct {
    QemuMutex lock;
    /* Under the lock */
    unsigned offered;               /* channels, or 0 when that was answered */
    unsigned generation;
    unsigned n;
    /* [0] is the preempt channel, and unused */
    UrgentOut channel[POSTCOPY_URGENT_MAX];
} urgent;

uint32_t postcopy_urgent_channels = 1;

/* The calling thread's; NULL in all but those of further channels */
static __thread UrgentOut *own;

static void __attribute__((constructor)) postcopy_urgent_out_init(void)
{
    qemu_mutex_init(&urgent.lock);
}

unsigned postcopy_urgent_channel(void)
{
    return RAM_CHANNEL_POSTCOPY + (own ? own->index : 0);
}

QEMUFile *postcopy_urgent_pages(MigrationState *s)
{
    return own ? own->pages : s->postcopy_qemufile_src;
}

QEMUFile *postcopy_urgent_requests(MigrationState *s)
{
    return own ? own->requests : s->rp_state.from_dst_file;
}

uint32_t postcopy_urgent_ping(uint32_t otherwise)
{
    QEMU_LOCK_GUARD(&urgent.lock);

    if (!migrate_postcopy_preempt() || postcopy_urgent_channels < 2) {
        return otherwise;
    }
    urgent.offered = postcopy_urgent_channels;
    return POSTCOPY_URGENT_PING | urgent.offered;
}

void postcopy_urgent_offer(MigrationState *s)
{
    uint32_t value = postcopy_urgent_ping(0);

    if (value) {
        qemu_savevm_send_ping(s->to_dst_file, value);
    }
}

/* Returns false at the end of the channel, or if that is no request. */
static bool answer(UrgentOut *c, Error **errp)
{
    ERRP_GUARD();
    /* Offset, length, length of the name, name, and its end */
    uint8_t body[8 + 4 + 1 + UINT8_MAX + 1];
    const size_t unnamed = 8 + 4;
    unsigned type = qemu_get_be16(c->requests);
    size_t length = qemu_get_be16(c->requests);
    bool fits = length < sizeof(body);
    const char *name = NULL;

    if (qemu_file_get_error(c->requests)) {
        return false;
    }
    if (fits && qemu_get_buffer(c->requests, body, length) != length) {
        return false;
    }
    if (fits && type == POSTCOPY_WIRE_REQ_PAGES_ID && length > unnamed &&
        length == unnamed + 1 + body[unnamed]) {
        body[length] = '\0';
        name = (const char *)body + unnamed + 1;
    } else if (type != POSTCOPY_WIRE_REQ_PAGES || length != unnamed) {
        error_setg(errp, "message %u of %zu bytes is no request", type, length);
        return false;
    }
    migrate_handle_rp_req_pages(migrate_get_current(), name, ldq_be_p(body),
                                (uint32_t)ldl_be_p(body + 8), errp);
    return !*errp && !qemu_file_get_error(c->pages);
}

static void *answer_thread(void *opaque)
{
    Error *err = NULL;

    own = opaque;
    rcu_register_thread();
    qemu_put_be32(own->pages, POSTCOPY_URGENT_HELLO);
    qemu_fflush(own->pages);
    while (answer(own, &err)) {
        continue;
    }
    if (err) {
        error_reportf_err(err, "postcopy: urgent channel %u: ", own->index);
    }
    trace_postcopy_urgent_out_end(own->index);
    /* The destination is to know. */
    qemu_file_shutdown(own->pages);
    rcu_unregister_thread();
    return NULL;
}

/* The connection is there, and so is TLS, if that is used.  Main thread. */
static void begin(QIOChannel *ioc, unsigned generation)
{
    char name[16];
    UrgentOut *c;

    QEMU_LOCK_GUARD(&urgent.lock);

    if (generation != urgent.generation || urgent.n + 1 == POSTCOPY_URGENT_MAX) {
        qio_channel_close(ioc, NULL);
        return;
    }
    c = &urgent.channel[++urgent.n];
    c->index = urgent.n;
    migration_ioc_register_yank(ioc);
    qio_channel_set_delay(ioc, false);
    c->pages = qemu_file_new_output(ioc);
    c->requests = qemu_file_get_return_path(c->pages);
    qemu_file_set_blocking(c->requests, true);
    snprintf(name, sizeof(name), "mig/src/urgent%u", c->index);
    qemu_thread_create(&c->thread, name, answer_thread, c, QEMU_THREAD_JOINABLE);
    trace_postcopy_urgent_out_begin(c->index);
}

/* The end of an attempt to connect; takes @err. */
static void connected(QIOChannel *ioc, gpointer opaque, Error *err)
{
    if (err) {
        warn_reportf_err(err, "postcopy: no further urgent channel: ");
    } else {
        begin(ioc, GPOINTER_TO_UINT(opaque));
    }
}

static void handshake_done(QIOTask *task, gpointer opaque)
{
    g_autoptr(QIOChannel) ioc = QIO_CHANNEL(qio_task_get_source(task));
    Error *err = NULL;

    qio_task_propagate_error(task, &err);
    connected(ioc, opaque, err);
}

static void connect_done(QIOTask *task, gpointer opaque)
{
    g_autoptr(QIOChannel) ioc = QIO_CHANNEL(qio_task_get_source(task));
    QIOChannelTLS *tls;
    Error *err = NULL;

    if (!qio_task_propagate_error(task, &err) &&
        migrate_channel_requires_tls_upgrade(ioc)) {
        tls = migration_tls_client_create(ioc, migrate_get_current()->hostname,
                                          &err);
        if (tls) {
            qio_channel_set_name(QIO_CHANNEL(tls), "migration-tls-urgent");
            qio_channel_tls_handshake(tls, handshake_done, opaque, NULL, NULL);
            return;
        }
    }
    connected(ioc, opaque, err);
}

void postcopy_urgent_agreed(uint32_t value)
{
    unsigned i, generation, n = value & 0xff;

    if ((value & ~0xff) != POSTCOPY_URGENT_PONG) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&urgent.lock) {
        /* Each offer is answered once. */
        n = MIN(n, urgent.offered);
        urgent.offered = 0;
        generation = urgent.generation;
    }
    trace_postcopy_urgent_agreed(n);
    for (i = 1; i < n; i++) {
        socket_send_channel_create(connect_done, GUINT_TO_POINTER(generation));
    }
}

void postcopy_urgent_end(void)
{
    unsigned i, n;

    WITH_QEMU_LOCK_GUARD(&urgent.lock) {
        urgent.offered = 0;
        urgent.generation++;
        n = urgent.n;
        urgent.n = 0;
    }
    for (i = 1; i <= n; i++) {
        UrgentOut *c = &urgent.channel[i];

        qemu_file_shutdown(c->pages);
        qemu_thread_join(&c->thread);
        migration_ioc_unregister_yank_from_file(c->pages);
        qemu_fclose(c->requests);
        qemu_fclose(c->pages);
    }
}
