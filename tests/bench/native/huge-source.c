/*
 * The source of the benchmark of huge pages
 *
 * QEMU's source has a thread for requests and one for the background stream,
 * each with a channel, and a lock between them.  Here one thread does the work
 * of both: a request goes before the background, between any two writes.
 *
 *   dirty        a bit for each piece that has not been sent.  Whoever clears
 *                it sends the piece, so each is sent once.
 *   urgent       the part of a host page that is being sent for a request; the
 *                next request waits for its end, as it does in QEMU.
 *   background   the part that the background sends.  A request for the host
 *                page that it is in is left to it, as in QEMU, unless it is one
 *                for a piece alone.  Here it then comes before other requests:
 *                in QEMU the two threads may take turns, or not.
 *
 * A write has up to WRITE_PIECES, on either channel.  A request may have to
 * wait for a write of the background; in QEMU it does not.  The link is a
 * clock: a write begins when what has been written before could have left.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "clock.h"
#include "huge-source.h"

#define WORDS (PAGE_BYTES / 8)
#define WRITE_PIECES 8
/* By how much the link may be made up for when the process came late */
#define LATE_NS 100000ull

typedef struct Span {
    uint64_t at, end;           /* pieces */
} Span;

typedef struct State {
    /* Set once */
    const HugeSource *spec;
    SourceReport *report;
    int sock;
    uint64_t pieces, per_page;
    unsigned long *dirty;
    /* Changing */
    Span urgent, background;
    bool hit;                   /* background: somebody waits for it */
    uint64_t scan;              /* where the background was before a request */
    GQueue requests;            /* the first piece of each */
    GQueue asked;               /* pieces by themselves */
    GQueue rest;                /* host pages the background goes to first */
    uint8_t buffer[64 * KiB];
    size_t have;
    uint64_t link_free_ns;
} State;

/* ------------------------------------------------------------------------- */
/* Sending */

static void send_pieces(State *s, int sock, const uint64_t *piece, unsigned n)
{
    static uint64_t page[WRITE_PIECES][WORDS];
    static uint8_t header[WRITE_PIECES][ANSWER_HEADER];
    struct iovec iov[2 * WRITE_PIECES];
    unsigned i, word;
    uint64_t now;

    for (i = 0; i < n; i++) {
        stq_be_p(header[i], piece[i] * PAGE_BYTES);
        for (word = 0; word < WORDS; word++) {
            page[i][word] = source_content(piece[i], word);
        }
        iov[2 * i] = (struct iovec) { header[i], ANSWER_HEADER };
        iov[2 * i + 1] = (struct iovec) { page[i], PAGE_BYTES };
    }
    source_write(sock, iov, 2 * n, s->report);
    s->report->answers += n;
    if (s->spec->link) {
        now = clock_ns(CLOCK_MONOTONIC);
        s->link_free_ns = MAX(s->link_free_ns, now - LATE_NS) +
                          n * ANSWER_BYTES * 1000000000ull / s->spec->link;
    }
}

/* The next pieces of a span, fewer than asked for at its end */
static unsigned take(State *s, Span *span, uint64_t *piece)
{
    unsigned n = 0;

    while (n < WRITE_PIECES && span->at < span->end) {
        span->at = find_next_bit(s->dirty, span->end, span->at);
        if (span->at < span->end) {
            clear_bit(span->at, s->dirty);
            piece[n++] = span->at++;
        }
    }
    return n;
}

static Span host_page_of(State *s, uint64_t piece)
{
    uint64_t begin = QEMU_ALIGN_DOWN(piece, s->per_page);

    return (Span) { begin, begin + s->per_page };
}

/* Begin with a request: false if there is nothing to send for it */
static bool next_urgent(State *s)
{
    uint64_t piece;

    if (g_queue_is_empty(&s->requests)) {
        return false;
    }
    piece = GPOINTER_TO_SIZE(g_queue_pop_head(&s->requests));
    if (s->background.at < s->background.end &&
        host_page_of(s, piece).end == s->background.end) {
        s->hit = true;
        return true;
    }
    s->urgent = host_page_of(s, piece);
    if (s->spec->order == HUGE_FROM_PIECE) {
        s->urgent.at = piece;
    }
    return true;
}

static bool send_asked_pieces(State *s)
{
    uint64_t piece[WRITE_PIECES], next;
    unsigned n = 0;

    while (n < WRITE_PIECES && !g_queue_is_empty(&s->asked)) {
        next = GPOINTER_TO_SIZE(g_queue_pop_head(&s->asked));
        if (test_and_clear_bit(next, s->dirty)) {
            piece[n++] = next;
            g_queue_push_tail(&s->rest,
                              GSIZE_TO_POINTER(host_page_of(s, next).at));
        }
    }
    if (n) {
        send_pieces(s, s->sock, piece, n);
    }
    return n;
}

static bool send_urgent(State *s)
{
    uint64_t piece[WRITE_PIECES];
    unsigned n;
    int sock;

    if (send_asked_pieces(s)) {
        return true;
    }
    do {
        sock = s->hit ? s->spec->background : s->sock;
        n = take(s, s->hit ? &s->background : &s->urgent, piece);
        s->hit &= n > 0;
    } while (!n && next_urgent(s));
    if (n) {
        send_pieces(s, sock, piece, n);
    }
    return n;
}

static void send_background(State *s)
{
    uint64_t piece[WRITE_PIECES];
    unsigned n;

    while (!(n = take(s, &s->background, piece))) {
        if (!g_queue_is_empty(&s->rest)) {
            s->background = host_page_of(
                s, GPOINTER_TO_SIZE(g_queue_pop_head(&s->rest)));
            continue;
        }
        s->scan = find_next_bit(s->dirty, s->pieces, s->scan);
        if (s->scan >= s->pieces) {
            return;
        }
        s->background = host_page_of(s, s->scan);
    }
    send_pieces(s, s->spec->background, piece, n);
}

/* ------------------------------------------------------------------------- */
/* Requests */

static void read_requests(State *s)
{
    ssize_t ret = read(s->sock, s->buffer + s->have,
                       sizeof(s->buffer) - s->have);
    size_t used;
    uint64_t offset;

    if (ret <= 0) {
        _exit(s->have ? 2 : 0);
    }
    s->report->reads++;
    s->have += ret;
    for (used = 0; s->have - used >= REQUEST_BYTES; used += REQUEST_BYTES) {
        offset = ldq_be_p(s->buffer + used + 4);
        if (lduw_be_p(s->buffer + used) != REQUEST_TYPE ||
            lduw_be_p(s->buffer + used + 2) != REQUEST_BODY ||
            offset % PAGE_BYTES || offset >= s->spec->bytes) {
            _exit(2);
        }
        g_queue_push_tail(s->spec->order == HUGE_PIECE_FIRST &&
                          ldl_be_p(s->buffer + used + 12) == PAGE_BYTES ?
                          &s->asked : &s->requests,
                          GSIZE_TO_POINTER(offset / PAGE_BYTES));
    }
    s->have -= used;
    memmove(s->buffer, s->buffer + used, s->have);
}

/* Until the link is free: requests are read meanwhile, nothing is sent. */
static bool link_busy(State *s)
{
    struct pollfd pfd = { .fd = s->sock, .events = POLLIN };
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    struct timespec left = { 0 };

    if (!s->spec->link || s->link_free_ns <= now) {
        return false;
    }
    left.tv_nsec = MIN(s->link_free_ns - now, 999999999);
    if (ppoll(&pfd, 1, &left, NULL) == 1) {
        read_requests(s);
    }
    return true;
}

static bool anything_left(State *s)
{
    s->scan = find_next_bit(s->dirty, s->pieces, s->scan);
    return s->scan < s->pieces;
}

void huge_source_serve(int sock, SourceReport *report, void *opaque)
{
    HugeSource *spec = opaque;
    State *s = g_new0(State, 1);
    struct pollfd pfd = { .fd = sock, .events = POLLIN };

    close(spec->other_end);
    prctl(PR_SET_TIMERSLACK, 1);
    *s = (State) {
        .spec = spec, .report = report, .sock = sock,
        .pieces = spec->bytes / PAGE_BYTES,
        .per_page = spec->host_page / PAGE_BYTES,
    };
    s->dirty = bitmap_new(s->pieces);
    bitmap_set(s->dirty, 0, s->pieces);
    while (true) {
        if (link_busy(s)) {
            continue;
        }
        if (poll(&pfd, 1, anything_left(s) ? 0 : -1) < 0) {
            _exit(3);
        }
        if (pfd.revents) {
            read_requests(s);
        }
        if (!send_urgent(s)) {
            send_background(s);
        }
    }
}
