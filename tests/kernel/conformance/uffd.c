/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * userfaultfd, as far as the conformance programs need it.  Duties: lib.h.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "lib.h"

int uffd_register(void *mem, unsigned long size)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register reg = {
        .range = { .start = (uintptr_t)mem, .len = size },
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (uffd < 0) {
        skip("no userfaultfd that sees faults of the kernel: %s",
             strerror(errno));
    }
    check(!ioctl(uffd, UFFDIO_API, &api), "UFFDIO_API: %s", strerror(errno));
    check(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s",
          strerror(errno));
    return uffd;
}

uint8_t *uffd_wait(int uffd, int ms)
{
    struct pollfd pfd = { .fd = uffd, .events = POLLIN };
    struct uffd_msg msg;

    if (poll(&pfd, 1, ms) <= 0 || read(uffd, &msg, sizeof(msg)) != sizeof(msg)) {
        return NULL;
    }
    check(msg.event == UFFD_EVENT_PAGEFAULT, "userfaultfd event %u", msg.event);
    return (uint8_t *)(uintptr_t)(msg.arg.pagefault.address & ~(PAGE - 1));
}

void uffd_place(int uffd, void *page, uint8_t value)
{
    static _Thread_local uint8_t content[PAGE];
    struct uffdio_copy copy = {
        .dst = (uintptr_t)page, .src = (uintptr_t)content, .len = PAGE,
    };

    memset(content, value, sizeof(content));
    check(!ioctl(uffd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s", strerror(errno));
}
