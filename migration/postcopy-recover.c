/*
 * Recovery of a broken postcopy migration, on either side
 *
 * Threads      the main thread accepts connections, and posts a semaphore for
 *              each preempt channel; the thread that reads the main channel
 *              waits for it before it goes on, and closes it when that breaks.
 *              The thread that reads the preempt channel shuts both down when
 *              its own fails, and waits for the next one when it has come to its
 *              end.  On the source the migration thread, and the main thread for
 *              an operator.
 * Locks        mis->postcopy_prio_thread_mutex, mis->rp_mutex, in this order;
 *              on the source s->qemu_file_lock: the pointer to the preempt channel.
 *              Whoever finds something broken that the thread of the main channel
 *              does not see has that one broken, too, and says so: that thread
 *              may have read it to its end.
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
#include "postcopy-ram.h"
#include "postcopy-recover.h"
#include "postcopy-userfault.h"
#include "qemu-file.h"
#include "savevm.h"
#include "trace.h"
#include "yank_functions.h"

/* Milliseconds between two looks at the main channel. */
#define LOOK_INTERVAL 100
/*
 * Milliseconds until a channel is not expected any more.  The source has
 * connected it before it says "resume", so only the way can have lost it.  That
 * the main channel broke cannot always be seen: its end may stand behind data
 * that nobody reads meanwhile.
 */
#define CHANNEL_LIMIT 20000
/* Milliseconds between two looks at the pages that are still to come. */
#define DRAIN_INTERVAL 5

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

bool postcopy_recover_preempt_ended(MigrationIncomingState *mis)
{
    bool resumed = false;

    trace_postcopy_recover_preempt_ended();
    qemu_mutex_unlock(&mis->postcopy_prio_thread_mutex);
    while (!resumed && mis->preempt_thread_status != PREEMPT_THREAD_QUIT) {
        resumed = !qemu_sem_timedwait(&mis->postcopy_pause_sem_fast_load,
                                      DRAIN_INTERVAL);
    }
    qemu_mutex_lock(&mis->postcopy_prio_thread_mutex);
    return resumed;
}

/* Something has broken that is not read from any more, or was not by us. */
static bool broken;

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
    qatomic_set(&broken, true);
    /*
     * The main channel, by its other direction, which is not closed without
     * this mutex.  Without it the migration is being paused already.
     */
    QEMU_LOCK_GUARD(&mis->rp_mutex);
    if (mis->to_src_file) {
        qemu_file_shutdown(mis->to_src_file);
    }
}

/* Returns whether all pages that were asked for are there. */
static bool have_requested(MigrationIncomingState *mis)
{
    postcopy_userfault_account(mis);
    QEMU_LOCK_GUARD(&mis->page_request_mutex);
    while (qatomic_read(&mis->page_requested_count)) {
        if (qatomic_read(&broken) || is_broken(mis->from_src_file)) {
            return false;
        }
        qemu_cond_timedwait(&mis->page_request_cond, &mis->page_request_mutex,
                            DRAIN_INTERVAL);
    }
    return true;
}

void postcopy_recover_reset(void)
{
    qatomic_set(&broken, false);
}

bool postcopy_recover_drain(MigrationIncomingState *mis)
{
    if (mis->preempt_thread_status != PREEMPT_THREAD_CREATED ||
        have_requested(mis)) {
        return false;
    }
    trace_postcopy_recover_drain();
    postcopy_pause_incoming(mis);
    return true;
}

bool postcopy_recover_refuse(MigrationIncomingState *mis, QIOChannel *ioc)
{
    PostcopyState postcopy = postcopy_state_get();

    /* The main channel goes first, then the state changes. */
    if (mis->from_src_file || postcopy < POSTCOPY_INCOMING_LISTENING ||
        postcopy == POSTCOPY_INCOMING_END ||
        mis->state == MIGRATION_STATUS_POSTCOPY_PAUSED) {
        return false;
    }
    warn_report("postcopy: a connection is refused: the one before it is still "
                "being given up");
    migration_ioc_unregister_yank(ioc);
    return true;
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

void postcopy_recover_shut_preempt(MigrationState *s)
{
    QEMU_LOCK_GUARD(&s->qemu_file_lock);

    if (s->postcopy_qemufile_src) {
        qemu_file_shutdown(s->postcopy_qemufile_src);
    }
}

void postcopy_recover_expect_preempt(MigrationState *s)
{
    while (!qemu_sem_timedwait(&s->postcopy_qemufile_src_sem, 0)) {
        trace_postcopy_recover_forget_preempt();
    }
}

void postcopy_recover_close_preempt(MigrationState *s)
{
    QEMUFile *file;

    WITH_QEMU_LOCK_GUARD(&s->qemu_file_lock) {
        file = s->postcopy_qemufile_src;
        s->postcopy_qemufile_src = NULL;
    }
    if (!file) {
        return;
    }
    migration_ioc_unregister_yank_from_file(file);
    qemu_file_shutdown(file);
    qemu_fclose(file);
}
