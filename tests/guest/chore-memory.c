/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chores on memory that comes and goes:
 *   churn      uses whatever the guest has left, so that pages which a balloon
 *              gave back, or which were plugged in, are written and verified
 *   unplugged  reads, once told to, what a virtio-mem device has and the guest
 *              has not: zeroes, at once
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "chore.h"
#include "chore-util.h"
#include "page.h"

#define KIB 1024u

/* Half of what the guest could still allocate, in pages. */
static uint64_t half_of_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    uint64_t kib = 0;
    char line[128];

    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1) {
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return kib / (PAGE_BYTES / KIB) / 2;
}

static bool verify(struct chore *c, const uint64_t *mem, uint64_t pages,
                   uint64_t seed)
{
    struct page_error err;

    for (uint64_t i = 0; i < pages; i++) {
        if (!page_check(mem + i * PAGE_WORDS, seed, i, 0, &err)) {
            chore_fail(c, "wrong-page", i);
            return false;
        }
    }
    return true;
}

/* Fill memory, verify it, give it back. */
static void churn(struct chore *c)
{
    for (uint64_t seed = 1;; seed++) {
        uint64_t pages = half_of_available();
        uint64_t *mem = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (mem == MAP_FAILED) {
            chore_fail(c, "no-memory", pages);
            return;
        }
        for (uint64_t i = 0; i < pages; i++) {
            page_fill(mem + i * PAGE_WORDS, seed, i, 0);
        }
        if (verify(c, mem, pages, seed)) {
            chore_done(c);
        }
        munmap(mem, pages * PAGE_BYTES);
    }
}
CHORE(churn, churn);

/* ------------------------------------------------------------------------- */

#define DRIVER "/sys/bus/virtio/drivers/virtio_mem"
#define READ_PAGES 64u

/* The first virtio-mem device, "virtio1"; @name: 32 bytes. */
static bool find_device(char *name)
{
    DIR *dir = opendir(DRIVER);
    struct dirent *entry;
    bool found = false;

    while (dir && !found && (entry = readdir(dir))) {
        found = !strncmp(entry->d_name, "virtio", 6);
        if (found) {
            snprintf(name, 32, "%.31s", entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return found;
}

/* Guest physical address of the region the kernel lists by @name; 0: none. */
static uint64_t region_of(const char *name)
{
    FILE *f = fopen("/proc/iomem", "r");
    uint64_t start = 0;
    char line[128];

    while (f && fgets(line, sizeof(line), f)) {
        uint64_t from, to;
        char label[64];

        if (sscanf(line, " %" SCNx64 "-%" SCNx64 " : %63s", &from, &to,
                   label) == 3 && !strcmp(label, name)) {
            start = from;
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return start;
}

/* While the driver has the region, nobody else may map it. */
static bool unbind(const char *name)
{
    int fd = open(DRIVER "/unbind", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, name, strlen(name)) > 0;

    if (fd >= 0) {
        close(fd);
    }
    return done;
}

static const uint64_t *map_physical(uint64_t address, uint64_t pages)
{
    int fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
    void *mem = MAP_FAILED;

    if (fd >= 0) {
        mem = mmap(NULL, pages * PAGE_BYTES, PROT_READ, MAP_SHARED, fd,
                   (off_t)address);
        close(fd);
    }
    return mem == MAP_FAILED ? NULL : mem;
}

static void unplugged(struct chore *c)
{
    const volatile uint64_t *mem;
    uint64_t address;
    char name[32];

    chore_mount_sysfs();
    if (!find_device(name)) {
        chore_fail(c, "no-device", 0);
        return;
    }
    address = region_of(name);
    mem = address && unbind(name) ? map_physical(address, READ_PAGES) : NULL;
    if (!mem) {
        chore_fail(c, "no-mapping", address);
        return;
    }
    chore_wait_for_go();
    for (uint64_t i = 0; i < READ_PAGES * PAGE_WORDS; i++) {
        if (mem[i]) {
            chore_fail(c, "not-zero", i);
            return;
        }
        if (i % PAGE_WORDS == PAGE_WORDS - 1) {
            chore_done(c);
        }
    }
}
CHORE(unplugged, unplugged);
