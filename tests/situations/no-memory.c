/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To be preloaded into QEMU (LD_PRELOAD): allocations of bitmaps fail, or are
 * counted.
 *
 * NO_MEMORY=requests  those that QEMU can do without and takes from the heap:
 *                     the sets of requested pages
 * NO_MEMORY=slots     the bitmaps that KVM reads.  They are anonymous mappings
 *                     whose length is no multiple of a page, unlike any other.
 * NO_MEMORY=nothing   none fails; the number of the latter mappings goes to
 *                     stderr as "bitmaps N" whenever it changes
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096

static atomic_int bitmaps;

static bool fails(const char *what)
{
    const char *wanted = getenv("NO_MEMORY");

    return wanted && !strcmp(wanted, what);
}

static void count(int change)
{
    int now = atomic_fetch_add(&bitmaps, change) + change;

    if (fails("nothing")) {
        dprintf(STDERR_FILENO, "bitmaps %d\n", now);
    }
}

static void *map(void *addr, size_t length, int prot, int flags, int fd,
                 off_t offset)
{
    if ((flags & MAP_ANONYMOUS) && length % PAGE) {
        if (fails("slots")) {
            errno = ENOMEM;
            return MAP_FAILED;
        }
        count(1);
    }
    return (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);
}

/* QEMU is built for files of 64 bits, which calls the second name. */
void *mmap(void *addr, size_t length, int prot, int flags, int fd,
           off_t offset)
{
    return map(addr, length, prot, flags, fd, offset);
}

void *mmap64(void *addr, size_t length, int prot, int flags, int fd,
             off64_t offset)
{
    return map(addr, length, prot, flags, fd, offset);
}

int munmap(void *addr, size_t length)
{
    int result = syscall(SYS_munmap, addr, length);

    if (!result && length % PAGE) {
        count(-1);
    }
    return result;
}

/* GLib's; what QEMU asks for in this way it can do without. */
void *g_try_malloc0_n(size_t blocks, size_t bytes)
{
    return fails("requests") ? NULL : calloc(blocks, bytes);
}

void *g_try_malloc0(size_t bytes)
{
    return g_try_malloc0_n(1, bytes);
}
