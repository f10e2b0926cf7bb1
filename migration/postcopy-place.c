/*
 * Placing a page in postcopy, and what may go wrong with it
 *
 * Threads      those that load the stream; the fault thread and vCPUs for
 *              pages that are never sent.
 * Failure      the guest runs already, and this is the only copy of its page,
 *              so an error is not passed on if the page can be placed all the
 *              same:
 *
 *              EAGAIN, EINTR  the kernel wants to be asked again
 *              ENOMEM         of the host or of a limit for this process; it
 *                             may have some in a moment
 *              EEXIST         a page is there.  If it holds what was to be
 *                             placed nothing is lost, but those who wait for it
 *                             have not been woken.  If it does not, nobody can
 *                             tell which of the two is right.
 *
 *              After any other error, and if it takes too long, the migration
 *              is paused, and the page sent again by a recovery.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/userfaultfd.h>
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "postcopy-place.h"
#include "trace.h"

/* Milliseconds between two tries, and how many there are. */
#define PLACE_INTERVAL 2
#define PLACE_TRIES 1000

/* Returns 0 or a negative errno value. */
static int try_to_place(int uffd, void *host, const void *from, uint64_t size)
{
    struct uffdio_copy copy = {
        .dst = (uintptr_t)host,
        .src = (uintptr_t)from,
        .len = size,
    };
    struct uffdio_zeropage zero = {
        .range = { .start = (uintptr_t)host, .len = size },
    };
    int ret = from ? ioctl(uffd, UFFDIO_COPY, &copy)
                   : ioctl(uffd, UFFDIO_ZEROPAGE, &zero);

    return ret ? -errno : 0;
}

/* Whether it holds what was to be placed */
static bool is_same(const void *host, const void *from, uint64_t size)
{
    return from ? !memcmp(host, from, size) : buffer_is_zero(host, size);
}

static int wake(int uffd, void *host, uint64_t size)
{
    struct uffdio_range range = { .start = (uintptr_t)host, .len = size };

    return ioctl(uffd, UFFDIO_WAKE, &range) ? -errno : 0;
}

int postcopy_place(int uffd, void *host, const void *from, uint64_t size,
                   bool received)
{
    unsigned tries;
    int ret;

    for (tries = 1; tries <= PLACE_TRIES; tries++) {
        ret = try_to_place(uffd, host, from, size);
        if (ret != -EAGAIN && ret != -EINTR && ret != -ENOMEM) {
            break;
        }
        trace_postcopy_place_again(host, -ret);
        g_usleep(PLACE_INTERVAL * 1000);
    }
    if (ret == -EEXIST && !received && is_same(host, from, size)) {
        trace_postcopy_place_exists(host);
        ret = wake(uffd, host, size);
    }
    if (ret) {
        error_report("postcopy: cannot place a page at %p: %s", host,
                     ret != -EEXIST ? strerror(-ret) :
                     received ? "it came before" : "another one is there");
    }
    return ret;
}
