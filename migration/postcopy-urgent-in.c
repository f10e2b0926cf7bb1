/*
 * Further channels for urgent pages, on the destination
 *
 * Threads      the thread that reads the main channel answers the source's
 *              question, and closes; the main thread accepts; each channel has one
 *              that loads its pages.
 * Owns         the connections.  How requests get into them is the business of
 *              postcopy-userfault-channel.c.
 * Locks        lock, then a channel's own mutex.
 * Orderings    vCPUs use further channels only when all of them are there, and
 *              the number of channels is 1 again before the first is closed.  A
 *              request that comes too late is dropped; its page has been claimed
 *              before that, and is asked for by the resume (see
 *              postcopy-userfault.c).
 * Failure      a channel that does not come, or ends before all are there, leaves
 *              the preempt channel in use alone.  When they are in use, one that
 *              breaks has the migration paused, as what it was to bring is lost.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "postcopy-recover.h"
#include "postcopy-urgent.h"
#include "postcopy-userfault-int.h"
#include "qemu-file.h"
#include "ram.h"
#include "trace.h"
#include "yank_functions.h"

typedef struct UrgentIn {
    unsigned index;
    MigrationIncomingState *mis;
    QEMUFile *pages;
    QemuThread thread;
} UrgentIn;

static struct {
    QemuMutex lock;
    /* Under the lock; [0] is the preempt channel, and unused */
    unsigned expected;              /* further channels agreed on, or 0 */
    unsigned n;                     /* of them have been accepted */
    unsigned ready;                 /* of them have said hello */
    UrgentIn channel[POSTCOPY_URGENT_MAX];
} urgent;

static void __attribute__((constructor)) postcopy_urgent_in_init(void)
{
    qemu_mutex_init(&urgent.lock);
}

uint32_t postcopy_urgent_pong(MigrationIncomingState *mis, uint32_t value)
{
    unsigned n = MIN(value & 0xff, postcopy_userfault.max_channels);

    if ((value & ~0xff) != POSTCOPY_URGENT_PING || n < 2 ||
        !qatomic_read(&postcopy_userfault.serving) ||
        !mis->postcopy_qemufile_dst) {
        return value;
    }
    QEMU_LOCK_GUARD(&urgent.lock);
    if (urgent.expected) {
        return value;               /* it has asked before */
    }
    urgent.expected = n - 1;
    urgent.ready = 0;               /* threads of earlier ones have ended */
    return POSTCOPY_URGENT_PONG | n;
}

bool postcopy_urgent_expected(void)
{
    QEMU_LOCK_GUARD(&urgent.lock);

    return urgent.n < urgent.expected;
}

static bool in_use(void)
{
    return urgent.expected && urgent.ready == urgent.expected;
}

/* The channel may be used; when it is the last one all are. */
static void become_ready(void)
{
    QEMU_LOCK_GUARD(&urgent.lock);

    urgent.ready++;
    if (in_use()) {
        postcopy_userfault_channels_open(urgent.expected);
        trace_postcopy_urgent_in_ready(urgent.expected + 1);
    }
}

static void *load_thread(void *opaque)
{
    UrgentIn *c = opaque;
    bool wanted = false;

    rcu_register_thread();
    if (qemu_get_be32(c->pages) == POSTCOPY_URGENT_HELLO) {
        become_ready();
        ram_load_postcopy(c->pages, RAM_CHANNEL_POSTCOPY + c->index);
        WITH_QEMU_LOCK_GUARD(&urgent.lock) {
            wanted = in_use();
        }
    }
    trace_postcopy_urgent_in_end(c->index, wanted);
    if (wanted) {
        /* First, so that nobody who asks goes on waiting for room in it. */
        qemu_file_shutdown(c->pages);
        postcopy_recover_break(c->mis);
    }
    rcu_unregister_thread();
    return NULL;
}

bool postcopy_urgent_new(MigrationIncomingState *mis, QEMUFile *file)
{
    char name[16];
    UrgentIn *c;

    QEMU_LOCK_GUARD(&urgent.lock);

    if (urgent.n >= urgent.expected || !mis->postcopy_qemufile_dst) {
        return false;
    }
    c = &urgent.channel[++urgent.n];
    c->index = urgent.n;
    c->mis = mis;
    c->pages = file;
    qemu_file_set_blocking(file, true);
    postcopy_userfault_channel_attach(c->index, qemu_file_get_return_path(file));
    snprintf(name, sizeof(name), "mig/dst/urgent%u", c->index);
    qemu_thread_create(&c->thread, name, load_thread, c, QEMU_THREAD_JOINABLE);
    return true;
}

void postcopy_urgent_close(void)
{
    unsigned i, n;

    WITH_QEMU_LOCK_GUARD(&urgent.lock) {
        n = urgent.n;
        urgent.expected = urgent.n = 0;
        postcopy_userfault_channels_shut();
    }
    for (i = 1; i <= n; i++) {
        UrgentIn *c = &urgent.channel[i];

        qemu_file_shutdown(c->pages);
        qemu_thread_join(&c->thread);
        postcopy_userfault_channel_detach(i);
        migration_ioc_unregister_yank_from_file(c->pages);
        qemu_fclose(c->pages);
    }
}
