/*
 * Recovery of a broken postcopy migration, on the destination
 *
 * Threads      the main thread accepts connections, and posts a semaphore for
 *              each preempt channel; the thread that reads the main channel
 *              waits for it before it goes on, and closes it when that breaks.
 *              The thread that reads the preempt channel shuts both down when
 *              its own fails.
 * Locks        mis->postcopy_prio_thread_mutex, mis->rp_mutex, in this order.
 * Failure      a recovery may break at any moment, and another one follow.  So
 *              a post may be that of a channel which has been closed since,
 *              and a channel may never come.  Neither may end the guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"
#include "postcopy-recover.h"
#include "qemu-file.h"

/* Milliseconds between two looks at the main channel. */
#define LOOK_INTERVAL 100
/*
 * Milliseconds until a channel is not expected any more.  The source has
 * connected it before it says "resume", so only the way can have lost it.  That
 * the main channel broke cannot always be seen: its end may stand behind data
 * that nobody reads meanwhile.
 */
#define CHANNEL_LIMIT 20000

int postcopy_channel_fd(QEMUFile *f)
{
    QIOChannel *ioc = qemu_file_get_ioc(f);
    QIOChannelTLS *tls =
        (QIOChannelTLS *)object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS);

    if (tls) {
        ioc = tls->master;
    }
    if (!object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_SOCKET)) {
        return -1;
    }
    return QIO_CHANNEL_SOCKET(ioc)->fd;
}

/* The peer has closed it, or somebody here has shut it down. */
static bool is_broken(QEMUFile *f)
{
    struct pollfd pfd = { .fd = postcopy_channel_fd(f), .events = POLLRDHUP };

    return poll(&pfd, 1, 0) == 1;
}

int postcopy_recover_wait_preempt(MigrationIncomingState *mis)
{
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + CHANNEL_LIMIT;

    do {
        while (qemu_sem_timedwait(&mis->postcopy_qemufile_dst_done,
                                  LOOK_INTERVAL)) {
            if (is_broken(mis->from_src_file) ||
                qemu_clock_get_ms(QEMU_CLOCK_REALTIME) > end) {
                error_report("postcopy: the preempt channel of this recovery "
                             "did not come");
                return -EIO;
            }
        }
        /* A post without a channel is that of a recovery that broke. */
    } while (!mis->postcopy_qemufile_dst);
    return 0;
}

void postcopy_recover_preempt_broke(MigrationIncomingState *mis)
{
    /*
     * First the source's thread that answers requests is let go, should it wait
     * for this channel: then whoever holds rp_mutex does not wait for it.
     */
    if (mis->postcopy_qemufile_dst) {
        qemu_file_shutdown(mis->postcopy_qemufile_dst);
    }
    postcopy_recover_break(mis);
}

void postcopy_recover_break(MigrationIncomingState *mis)
{
    /*
     * The main channel, by its other direction, which is not closed without
     * this mutex.  Without it the migration is being paused already.
     */
    QEMU_LOCK_GUARD(&mis->rp_mutex);
    if (mis->to_src_file) {
        qemu_file_shutdown(mis->to_src_file);
    }
}

bool postcopy_recover_source(MigrationState *s)
{
    if (s->state != MIGRATION_STATUS_POSTCOPY_ACTIVE) {
        return false;
    }
    /* The return path has an error, or the channel has one of its own. */
    if (!qemu_file_get_error(s->to_dst_file)) {
        qemu_file_set_error(s->to_dst_file, -EIO);
    }
    return true;
}
