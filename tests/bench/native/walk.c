/*
 * The way of a fault in a single thread, to count its instructions
 *
 * One vCPU faults, while all others wait for pages that do not come.  System
 * calls are no instructions of the process.  The vCPU's sleep finds the page
 * there, and the loader's wake finds nobody asleep: a tool that counts sees
 * the same as if they had been.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qemu/memalign.h"
#include "qemu/units.h"
#include "service.h"
#include "source.h"
#include "walk.h"

/* Of the one walk: functions without arguments are easy to name for a tool. */
static struct {
    Service service;
    Vcpu *vcpu;
    PostcopyWaiter waiter;
    uint64_t offset;
    uint8_t *page;
} walk;

void __attribute__((noinline)) walk_vcpu_exits(void)
{
    qemu_park_reset(&walk.vcpu->park);
    if (service_wait_begin(&walk.service, walk.vcpu, walk.offset,
                           &walk.waiter)) {
        service_ask(&walk.service, walk.vcpu, walk.offset);
    }
}

void __attribute__((noinline)) walk_vcpu_returns(void)
{
    if (!service_wait_end(&walk.service, walk.vcpu, &walk.waiter)) {
        g_error("the page was not announced");
    }
}

void __attribute__((noinline)) walk_loader_reads(void)
{
    service_arrived(&walk.service, walk.offset, walk.page, true);
}

/* Placing is a system call, and those are not counted. */
static void place(void *opaque, uint64_t offset, const uint8_t *from)
{
}

static void check_request(int sock)
{
    uint8_t request[REQUEST_BYTES];

    if (read(sock, request, sizeof(request)) != sizeof(request)) {
        g_error("no request was sent");
    }
}

void walk_run(unsigned vcpus, unsigned faults)
{
    uint64_t pages = (uint64_t)faults + vcpus, page;
    g_autofree PostcopyWaiter *other = g_new0(PostcopyWaiter, vcpus);
    Vcpu *all = qemu_memalign(64, sizeof(*all) * vcpus);
    int pair[2];
    unsigned i;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        g_error("socketpair: %s", g_strerror(errno));
    }
    memset(&walk, 0, sizeof(walk));
    memset(all, 0, sizeof(*all) * vcpus);
    /* Nobody looks at the memory: an address will do. */
    service_init(&walk.service, (uint8_t *)(uintptr_t)GiB, pages * PAGE_BYTES,
                 vcpus, pair[0], true);
    walk.service.place = place;
    walk.page = qemu_memalign(PAGE_BYTES, 2 * PAGE_BYTES);
    memset(walk.page, 0, 2 * PAGE_BYTES);
    walk.vcpu = &all[0];
    walk.vcpu->handover.page = walk.page + PAGE_BYTES;
    for (i = 1; i < vcpus; i++) {
        service_wait_begin(&walk.service, &all[i],
                           (faults + i) * PAGE_BYTES, &other[i]);
    }
    for (page = 0; page < faults; page++) {
        /* A prime as factor: each page once, unless faults is a multiple */
        walk.offset = page * 40507 % faults * PAGE_BYTES;
        walk_vcpu_exits();
        check_request(pair[1]);
        walk_loader_reads();
        walk_vcpu_returns();
    }
    postcopy_wait_wake_all(walk.service.waits);
    service_destroy(&walk.service);
    qemu_vfree(walk.page);
    qemu_vfree(all);
    close(pair[0]);
    close(pair[1]);
}
