/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What several chores need; see chore-util.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chore-util.h"
#include "page.h"

uint64_t *chore_region(struct chore *c, uint64_t pages)
{
    void *mem = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED) {
        chore_fail(c, "memory", errno);
        return NULL;
    }
    /* Not zeroes: a page of zeroes would not be missed. */
    memset(mem, 0x5a, pages * PAGE_BYTES);
    return mem;
}

static void mount_sysfs(void)
{
    mkdir("/sys", 0755);
    mount("sys", "/sys", "sysfs", 0, NULL);
}

void chore_mount_sysfs(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, mount_sysfs);
}

int chore_open_disk(struct chore *c)
{
    int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);

    if (fd < 0) {
        chore_fail(c, "disk", errno);
    }
    return fd;
}

/* Errors mean fewer races, nothing else. */
static void be_prompt(pthread_t thread, long cpu)
{
    struct sched_param realtime = { .sched_priority = 1 };
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu > 0 ? cpu : 0, &set);
    pthread_setaffinity_np(thread, sizeof(set), &set);
    pthread_setschedparam(thread, SCHED_FIFO, &realtime);
}

bool chore_pair(struct chore *c, void *(*run)(void *opaque), void *opaque)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, opaque);

    if (error) {
        chore_fail(c, "thread", error);
        return false;
    }
    be_prompt(thread, cpus - 2);
    be_prompt(pthread_self(), cpus - 1);
    return true;
}
