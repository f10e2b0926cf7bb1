/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To be preloaded into QEMU (LD_PRELOAD): what the thread SLOW_THREAD sends goes
 * out in parts, as with a socket whose buffer is full, with SLOW_SEND microseconds
 * between them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIECES 64
#define SMALL 1000              /* bytes that go out at once */

static size_t bytes_of(const struct msghdr *message)
{
    size_t total = 0;

    for (size_t i = 0; i < message->msg_iovlen; i++) {
        total += message->msg_iov[i].iov_len;
    }
    return total;
}

/* The first half of @message; @pieces is where that is described. */
static struct msghdr half_of(const struct msghdr *message, struct iovec *pieces)
{
    struct msghdr half = *message;
    size_t left = bytes_of(message) / 2;
    size_t n;

    for (n = 0; left && n < message->msg_iovlen && n < PIECES; n++) {
        pieces[n] = message->msg_iov[n];
        if (pieces[n].iov_len > left) {
            pieces[n].iov_len = left;
        }
        left -= pieces[n].iov_len;
    }
    half.msg_iov = pieces;
    half.msg_iovlen = n;
    return half;
}

static int is_slow(void)
{
    const char *thread = getenv("SLOW_THREAD");
    char name[16] = "";

    return thread && !prctl(PR_GET_NAME, name) && !strcmp(name, thread);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    const char *wait = getenv("SLOW_SEND");
    struct iovec pieces[PIECES];
    struct msghdr half;
    ssize_t sent;
    int error;

    if (!wait || !is_slow() || bytes_of(message) <= SMALL) {
        return syscall(SYS_sendmsg, fd, message, flags);
    }
    half = half_of(message, pieces);
    sent = syscall(SYS_sendmsg, fd, &half, flags);
    error = errno;
    usleep(atoi(wait));
    errno = error;
    return sent;
}
