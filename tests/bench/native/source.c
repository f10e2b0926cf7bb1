/*
 * The source of the native benchmark: a process that answers requests
 *
 * It reads what there is, and writes each page by itself, as QEMU's source
 * does on the preempt channel.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "source.h"

#define WORDS (PAGE_BYTES / 8)

uint64_t source_content(uint64_t page, unsigned word)
{
    return (page + 1) * 0x9e3779b97f4a7c15ull + word;
}

void source_write(int sock, struct iovec *iov, int n, SourceReport *report)
{
    ssize_t ret;

    while (n) {
        ret = writev(sock, iov, n);
        report->writes++;
        if (ret < 0) {
            _exit(errno == EPIPE || errno == ECONNRESET ? 0 : 3);
        }
        while (n && ret >= iov->iov_len) {
            ret -= iov->iov_len;
            iov++;
            n--;
        }
        if (n) {
            iov->iov_base = (uint8_t *)iov->iov_base + ret;
            iov->iov_len -= ret;
        }
    }
}

static void answer(int sock, const uint8_t *request, SourceReport *report)
{
    uint64_t offset = ldq_be_p(request + 4), page[WORDS];
    uint8_t header[ANSWER_HEADER];
    struct iovec iov[] = {
        { .iov_base = header, .iov_len = sizeof(header) },
        { .iov_base = page, .iov_len = sizeof(page) },
    };
    unsigned i;

    if (lduw_be_p(request) != REQUEST_TYPE ||
        lduw_be_p(request + 2) != REQUEST_BODY ||
        offset % PAGE_BYTES || ldl_be_p(request + 12) != PAGE_BYTES) {
        _exit(2);
    }
    stq_be_p(header, offset);
    for (i = 0; i < WORDS; i++) {
        page[i] = source_content(offset / PAGE_BYTES, i);
    }
    source_write(sock, iov, ARRAY_SIZE(iov), report);
    report->answers++;
}

static void serve(int sock, SourceReport *report, void *opaque)
{
    static uint8_t buffer[64 * KiB];
    size_t have = 0, used;
    ssize_t ret;

    while ((ret = read(sock, buffer + have, sizeof(buffer) - have)) > 0) {
        report->reads++;
        have += ret;
        for (used = 0; have - used >= REQUEST_BYTES; used += REQUEST_BYTES) {
            answer(sock, buffer + used, report);
        }
        have -= used;
        memmove(buffer, buffer + used, have);
    }
    _exit(have ? 2 : 0);
}

void source_start(Source *s)
{
    source_start_with(s, serve, NULL);
}

void source_start_with(Source *s, SourceServe *what, void *opaque)
{
    int pair[2];

    s->shared = mmap(NULL, sizeof(*s->shared), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert(s->shared != MAP_FAILED);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        g_error("socketpair: %s", g_strerror(errno));
    }
    s->pid = fork();
    if (s->pid < 0) {
        g_error("fork: %s", g_strerror(errno));
    }
    if (s->pid == 0) {
        close(pair[0]);
        signal(SIGPIPE, SIG_IGN);
        what(pair[1], s->shared, opaque);
        _exit(0);
    }
    close(pair[1]);
    s->sock = pair[0];
}

bool source_stop(Source *s)
{
    struct rusage usage;
    int status;

    close(s->sock);
    while (wait4(s->pid, &status, 0, &usage) < 0) {
        g_assert(errno == EINTR);
    }
    s->report = *s->shared;
    s->cpu_ns = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000ull
                + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000ull;
    munmap(s->shared, sizeof(*s->shared));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
