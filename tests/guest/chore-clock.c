/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chore "clock": says which pages of each CPU KVM itself reads and writes.
 *
 * Its notes are "cpu= time= steal= eoi=": the contents of the registers by
 * which the guest has told KVM where to keep the clock and the stolen time,
 * and where to ask for the end of an interrupt; 0 where there is none.  Needs
 * the msr device.  Then it watches time: that of any two looks must not go
 * back, nor forward by more than JUMP_S.
 *
 * Threads   the chore's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "chore.h"

#define MSR_SYSTEM_TIME 0x4b564d01
#define MSR_STEAL_TIME 0x4b564d03
#define MSR_PV_EOI 0x4b564d04
#define JUMP_S 60               /* more than any pause of a slow machine */

static uint64_t read_msr(int fd, off_t number)
{
    uint64_t value;

    return pread(fd, &value, sizeof(value), number) == sizeof(value) ?
           value : 0;
}

static void describe(struct chore *c, long cpu)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/dev/cpu/%ld/msr", cpu);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        chore_fail(c, "msr", errno);
        return;
    }
    chore_note(c, "cpu=%ld time=%#" PRIx64 " steal=%#" PRIx64 " eoi=%#" PRIx64,
               cpu, read_msr(fd, MSR_SYSTEM_TIME),
               read_msr(fd, MSR_STEAL_TIME), read_msr(fd, MSR_PV_EOI));
    close(fd);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void run(struct chore *c)
{
    int64_t last;

    for (long cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) {
        describe(c, cpu);
    }
    for (last = now_ns(); ; ) {
        int64_t now = now_ns();

        if (now < last || now - last > JUMP_S * 1000000000ll) {
            chore_fail(c, "time", now - last);
            return;
        }
        last = now;
        chore_done(c);
        usleep(2000);
    }
}

CHORE(clock, run);
