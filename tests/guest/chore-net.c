/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chore "net": a network device reads and writes the guest's memory.
 *
 * Sends the pages of a region to 10.77.0.1, port 7, which is to send them
 * back, and checks what comes.  The kernel does not copy what is sent, so that
 * the device is the first to look at a page since it was filled a pass ago.
 * What comes back is written to the buffers the guest has lent the device.
 *
 * Threads   the chore's.
 * Failure   A datagram may get lost: it is sent again.  A wrong one, or
 *           silence for GIVE_UP seconds, ends the chore.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "chore.h"
#include "chore-util.h"
#include "page.h"

#define SEED 0x4e7ull
#define PAGES 1024u
#define BURST 8u                /* pages on their way at a time */
#define WORDS 180u              /* sent of each: one frame */
#define AGAIN_MS 500            /* without an answer: send again */
#define GIVE_UP 60              /* seconds */

#define OWN_ADDRESS "10.77.0.2"
#define PEER_ADDRESS "10.77.0.1"
#define NETMASK "255.255.255.0"
#define ECHO_PORT 7

struct net {
    struct chore *chore;
    int fd;
    uint64_t *region;
    uint64_t pass;              /* the generation of all pages not yet sent */
    uint32_t sent;              /* datagrams */
    uint32_t released;          /* of these, the kernel has done with */
    uint64_t page[BURST];
    bool answered[BURST];
};

static struct sockaddr_in address(const char *text, uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

    inet_pton(AF_INET, text, &a.sin_addr);
    return a;
}

static int set_address(int fd, unsigned long request, const char *text)
{
    struct sockaddr_in a = address(text, 0);
    struct ifreq r = { .ifr_name = "eth0" };

    memcpy(&r.ifr_addr, &a, sizeof(a));
    return ioctl(fd, request, &r);
}

/* The interface is up; a socket that speaks to the peer alone, or -1. */
static int connect_peer(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in peer = address(PEER_ADDRESS, ECHO_PORT);
    struct ifreq r = { .ifr_name = "eth0", .ifr_flags = IFF_UP | IFF_RUNNING };
    int on = 1;

    if (fd < 0 || set_address(fd, SIOCSIFADDR, OWN_ADDRESS) ||
        set_address(fd, SIOCSIFNETMASK, NETMASK) ||
        ioctl(fd, SIOCSIFFLAGS, &r) ||
        setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) ||
        connect(fd, (struct sockaddr *)&peer, sizeof(peer))) {
        return -1;
    }
    return fd;
}

/* Take the kernel's messages about pages it does not look at any more. */
static void take_released(struct net *n)
{
    for (;;) {
        char control[256];
        struct msghdr m = { .msg_control = control,
                            .msg_controllen = sizeof(control) };
        struct sock_extended_err *e;
        struct cmsghdr *c;

        if (recvmsg(n->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
            return;
        }
        c = CMSG_FIRSTHDR(&m);
        e = c ? (struct sock_extended_err *)CMSG_DATA(c) : NULL;
        if (e && e->ee_origin == SO_EE_ORIGIN_ZEROCOPY) {
            n->released += e->ee_data - e->ee_info + 1;
        }
    }
}

/* Errors mean that nothing was sent; it is tried again later. */
static void send_missing(struct net *n)
{
    for (unsigned int k = 0; k < BURST; k++) {
        if (!n->answered[k] &&
            send(n->fd, n->region + n->page[k] * PAGE_WORDS,
                 WORDS * sizeof(uint64_t), MSG_ZEROCOPY | MSG_DONTWAIT) > 0) {
            n->sent++;
        }
    }
}

/* A datagram that was asked for and is right counts; an old one does not. */
static bool take_answer(struct net *n, const uint64_t *got, ssize_t length)
{
    for (unsigned int k = 0; k < BURST; k++) {
        if (got[0] != n->page[k] || got[1] != n->pass || n->answered[k]) {
            continue;
        }
        for (unsigned int i = 0; i < WORDS; i++) {
            if (length != WORDS * sizeof(uint64_t) ||
                got[i] != page_word(SEED, n->page[k], n->pass, i)) {
                chore_fail(n->chore, "content", n->page[k]);
                return false;
            }
        }
        n->answered[k] = true;
        return true;
    }
    return true;
}

static bool all_answered(const struct net *n)
{
    for (unsigned int k = 0; k < BURST; k++) {
        if (!n->answered[k]) {
            return false;
        }
    }
    return true;
}

/* Until all of the burst came back and the kernel has let go of it. */
static bool exchange(struct net *n)
{
    time_t end = time(NULL) + GIVE_UP;
    uint64_t got[WORDS + 1] = { 0 };

    send_missing(n);
    while (!all_answered(n) || n->released != n->sent) {
        struct pollfd p = { .fd = n->fd, .events = POLLIN };
        ssize_t length;

        if (time(NULL) > end) {
            chore_fail(n->chore, "silence", n->sent - n->released);
            return false;
        }
        if (poll(&p, 1, AGAIN_MS) == 0) {
            send_missing(n);
        }
        take_released(n);
        length = recv(n->fd, got, sizeof(got), MSG_DONTWAIT);
        if (length >= 16 && !take_answer(n, got, length)) {
            return false;
        }
    }
    return true;
}

static void run(struct chore *c)
{
    static struct net n;

    n.chore = c;
    n.region = chore_region(c, PAGES);
    n.fd = connect_peer();
    if (n.fd < 0) {
        chore_fail(c, "interface", errno);
    }
    if (n.fd < 0 || !n.region) {
        return;
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        page_fill(n.region + page * PAGE_WORDS, SEED, page, 0);
    }
    for (; ; n.pass++) {
        struct walk walk = walk_init(PAGES, mix64(SEED + n.pass));

        for (uint64_t i = 0; i < PAGES; i += BURST) {
            for (unsigned int k = 0; k < BURST; k++) {
                n.page[k] = walk_at(&walk, i + k);
                n.answered[k] = false;
            }
            if (!exchange(&n)) {
                return;
            }
            for (unsigned int k = 0; k < BURST; k++) {
                page_fill(n.region + n.page[k] * PAGE_WORDS, SEED, n.page[k],
                          n.pass + 1);
            }
            chore_done(c);
        }
    }
}

CHORE(net, run);
