/*
 * Answering requests for pages, on the source
 *
 * Requests that reach the source together, because many vCPUs wait, are answered
 * together: one system call here and one wake-up of the destination's thread
 * for the pages of several.  Nothing is waited for: when the last request that
 * has come is answered, what there is goes out.
 *
 * Threads      the one that reads the return path, one for each further channel;
 *              the migration thread says that all has been sent.
 * Owns         nothing.  The pages are in the channel's own queue, which sends
 *              by itself when it is full.
 * Locks        preempt_sends: what the preempt channel has queued.  Leaf.  Pages
 *              are queued under the bitmap's mutex.  When none is left, which the
 *              migration thread learns under that mutex, what has been queued may
 *              still be on its way out, or wait for that.
 * Failure      a channel that breaks loses its queue.  The destination has not
 *              seen these pages, and a recovery tells the source so.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "postcopy-answer.h"
#include "postcopy-wire.h"

/*
 * Bytes of pages that go out at the latest, though more requests are there: as
 * much as the destination reads at once.
 */
#define ANSWER_MAX (32 * KiB)

static QemuMutex preempt_sends;

static void __attribute__((constructor)) postcopy_answer_init(void)
{
    qemu_mutex_init(&preempt_sends);
}

/* Is the next message there, whole, and does it ask for pages? */
static bool request_follows(QEMUFile *requests)
{
    size_t there = qemu_file_buffered(requests);
    uint8_t *header;
    unsigned type;

    if (there < POSTCOPY_WIRE_HEADER) {
        return false;
    }
    qemu_peek_buffer(requests, &header, POSTCOPY_WIRE_HEADER, 0);
    type = lduw_be_p(header);
    return (type == POSTCOPY_WIRE_REQ_PAGES ||
            type == POSTCOPY_WIRE_REQ_PAGES_ID) &&
           there >= POSTCOPY_WIRE_HEADER + lduw_be_p(header + 2);
}

static void send_if_due(QEMUFile *pages, QEMUFile *requests)
{
    if (qemu_file_queued(pages) >= ANSWER_MAX || !request_follows(requests)) {
        qemu_fflush(pages);
    }
}

void postcopy_answer_end(QEMUFile *pages, QEMUFile *requests, bool preempt)
{
    if (!preempt) {
        send_if_due(pages, requests);
        return;
    }
    WITH_QEMU_LOCK_GUARD(&preempt_sends) {
        send_if_due(pages, requests);
    }
}

void postcopy_answer_last(QEMUFile *pages, uint64_t word)
{
    QEMU_LOCK_GUARD(&preempt_sends);

    qemu_put_be64(pages, word);
    qemu_fflush(pages);
}
