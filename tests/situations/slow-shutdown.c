/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To be preloaded into QEMU (LD_PRELOAD): shutting a connection down takes a
 * while, as long as SLOW_SHUTDOWN says, in microseconds.
 */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int shutdown(int fd, int how)
{
    const char *wait = getenv("SLOW_SHUTDOWN");

    if (wait) {
        usleep(atoi(wait));
    }
    return syscall(SYS_shutdown, fd, how);
}
