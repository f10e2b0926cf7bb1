/*
 * A memfd of huge pages, mapped more than once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "huge-memory.h"

int huge_memfd(uint64_t size, uint64_t host_page)
{
    int fd = memfd_create("huge-bench", MFD_CLOEXEC | MFD_HUGETLB |
                          __builtin_ctzll(host_page) << MFD_HUGE_SHIFT);

    if (fd < 0 || ftruncate(fd, size)) {
        g_error("memfd of huge pages: %s", g_strerror(errno));
    }
    return fd;
}

uint8_t *huge_map(int fd, uint64_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED) {
        g_error("mapping of huge pages: %s", g_strerror(errno));
    }
    return memory;
}

int huge_guard(uint8_t *memory, uint64_t size, bool minor)
{
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_MISSING_HUGETLBFS |
                    UFFD_FEATURE_MINOR_HUGETLBFS,
    };
    /* A page that nobody has filled at all is missing, not minor. */
    struct uffdio_register reg = {
        .range = { (uintptr_t)memory, size },
        .mode = UFFDIO_REGISTER_MODE_MISSING |
                (minor ? UFFDIO_REGISTER_MODE_MINOR : 0),
    };
    int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) ||
        ioctl(fd, UFFDIO_REGISTER, &reg)) {
        g_error("userfaultfd for huge pages: %s", g_strerror(errno));
    }
    return fd;
}
