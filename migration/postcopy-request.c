/*
 * Asking the source for pages: each page once, many requests in one write
 *
 * Threads      any: vCPUs, the fault thread, the thread that resumes.
 * Owns         the claimed bits of each block; a list of requests to send, in
 *              which there is room for so many that nobody needs yet.
 * Locks        send_lock, taken with trylock by threads that may not wait,
 *              then the channel's own lock (ops->lock).
 * Orderings    pusher: push, full barrier, trylock send_lock
 *              sender: unlock send_lock, full barrier, look at the list
 *              If the trylock fails, the sender had not unlocked yet and its
 *              look comes after the push: it takes another turn.  Otherwise
 *              a request could stay in the list with nobody to send it.
 * Failure      on a broken channel requests are dropped; their bits stay, and
 *              the bits are what a resume goes by.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bitmap.h"
#include "qemu/bitops.h"
#include "qemu/lockable.h"
#include "postcopy-request.h"

struct PostcopyRequestQueue {
    /* Set once */
    const PostcopyRequestOps *ops;
    void *opaque;
    /* Anybody, atomically; newest first */
    PostcopyRequestList pending;
    /* Anybody, atomically: requests ahead of need, queued or about to be */
    unsigned ahead;
    QemuMutex send_lock;
};

bool postcopy_request_map_init(PostcopyRequestMap *map, uint64_t bytes,
                               uint64_t page_size)
{
    assert(is_power_of_2(page_size));
    map->page_shift = ctz64(page_size);
    map->pages = bytes >> map->page_shift;
    map->requested = bitmap_try_new(MAX(map->pages, 1));
    map->ahead = bitmap_try_new(MAX(map->pages, 1));
    return map->requested && map->ahead;
}

void postcopy_request_map_destroy(PostcopyRequestMap *map)
{
    g_free(map->requested);
    map->requested = NULL;
    g_free(map->ahead);
    map->ahead = NULL;
}

static uint64_t page_index(const PostcopyRequestMap *map, uint64_t offset)
{
    uint64_t page = offset >> map->page_shift;

    assert(page < map->pages);
    return page;
}

bool postcopy_request_claim(PostcopyRequestMap *map, uint64_t offset)
{
    uint64_t page = page_index(map, offset);
    unsigned long mask = BIT_MASK(page);
    unsigned long *word = map->requested + BIT_WORD(page);

    return !(qatomic_fetch_or(word, mask) & mask);
}

bool postcopy_request_claim_ahead(PostcopyRequestMap *map, uint64_t offset)
{
    uint64_t page = page_index(map, offset);

    if (postcopy_request_claimed(map, offset)) {
        return false;
    }
    /* First, so that whoever finds the page claimed knows of this. */
    set_bit_atomic(page, map->ahead);
    return postcopy_request_claim(map, offset);
}

bool postcopy_request_claimed(const PostcopyRequestMap *map, uint64_t offset)
{
    uint64_t page = page_index(map, offset);

    return qatomic_read(&map->requested[BIT_WORD(page)]) & BIT_MASK(page);
}

bool postcopy_request_is_ahead(const PostcopyRequestMap *map, uint64_t offset)
{
    uint64_t page = page_index(map, offset);

    return qatomic_read(&map->ahead[BIT_WORD(page)]) & BIT_MASK(page);
}

uint64_t postcopy_request_next(const PostcopyRequestMap *map, uint64_t offset)
{
    uint64_t page = offset >> map->page_shift;
    unsigned long bits;

    while (page < map->pages) {
        bits = qatomic_read(&map->requested[BIT_WORD(page)]);
        bits &= BITMAP_FIRST_WORD_MASK(page);
        if (bits) {
            page = QEMU_ALIGN_DOWN(page, BITS_PER_LONG) + ctzl(bits);
            return page << map->page_shift;
        }
        page = QEMU_ALIGN_DOWN(page, BITS_PER_LONG) + BITS_PER_LONG;
    }
    return UINT64_MAX;
}

PostcopyRequestQueue *postcopy_request_queue_new(const PostcopyRequestOps *ops,
                                                 void *opaque)
{
    PostcopyRequestQueue *q = g_new0(PostcopyRequestQueue, 1);

    q->ops = ops;
    q->opaque = opaque;
    QSLIST_INIT(&q->pending);
    qemu_mutex_init(&q->send_lock);
    return q;
}

static void free_list(PostcopyRequestList *list)
{
    PostcopyRequest *req;

    while ((req = QSLIST_FIRST(list))) {
        QSLIST_REMOVE_HEAD(list, next);
        g_free(req);
    }
}

/* Take all that is queued, oldest first.  Returns false if there is nothing. */
static bool take_pending(PostcopyRequestQueue *q, PostcopyRequestList *fifo)
{
    PostcopyRequestList lifo;
    PostcopyRequest *req;
    unsigned ahead = 0;

    QSLIST_MOVE_ATOMIC(&lifo, &q->pending);
    QSLIST_INIT(fifo);
    while ((req = QSLIST_FIRST(&lifo))) {
        QSLIST_REMOVE_HEAD(&lifo, next);
        QSLIST_INSERT_HEAD(fifo, req, next);
        ahead += req->ahead;
    }
    postcopy_request_unreserve(q, ahead);
    return !QSLIST_EMPTY(fifo);
}

void postcopy_request_drop(PostcopyRequestQueue *q)
{
    PostcopyRequestList taken;

    take_pending(q, &taken);
    free_list(&taken);
}

void postcopy_request_queue_free(PostcopyRequestQueue *q)
{
    if (q) {
        postcopy_request_drop(q);
        qemu_mutex_destroy(&q->send_lock);
        g_free(q);
    }
}

unsigned postcopy_request_reserve(PostcopyRequestQueue *q, unsigned n)
{
    unsigned before = qatomic_fetch_add(&q->ahead, n);
    unsigned room = MIN(n, POSTCOPY_REQUEST_AHEAD_MAX -
                           MIN(before, POSTCOPY_REQUEST_AHEAD_MAX));

    postcopy_request_unreserve(q, n - room);
    return room;
}

void postcopy_request_unreserve(PostcopyRequestQueue *q, unsigned n)
{
    if (n) {
        qatomic_sub(&q->ahead, n);
    }
}

static void push(PostcopyRequestQueue *q, PostcopyRequest *req)
{
    PostcopyRequest *head, *next;

    head = qatomic_read(&q->pending.slh_first);
    do {
        next = head;
        req->next.sle_next = next;
        head = qatomic_cmpxchg(&q->pending.slh_first, next, req);
    } while (head != next);
    /* Pairs with smp_mb() in postcopy_request_flush(). */
    smp_mb();
}

void postcopy_request_push(PostcopyRequestQueue *q, void *block,
                           uint64_t offset, uint32_t length)
{
    PostcopyRequest *req = g_new(PostcopyRequest, 1);

    *req = (PostcopyRequest) {
        .block = block, .offset = offset, .length = length,
    };
    push(q, req);
}

void postcopy_request_push_ahead(PostcopyRequestQueue *q, void *block,
                                 uint64_t offset, uint32_t length)
{
    PostcopyRequest *req = g_new(PostcopyRequest, 1);

    *req = (PostcopyRequest) {
        .block = block, .offset = offset, .length = length, .ahead = true,
    };
    push(q, req);
}

/* Called with send_lock held. */
static PostcopySend send_locked(PostcopyRequestQueue *q, bool may_block)
{
    PostcopyRequestList list;
    bool ok = true;

    if (!q->ops->lock(q->opaque, may_block)) {
        return POSTCOPY_SEND_WOULD_BLOCK;
    }
    while (ok && take_pending(q, &list)) {
        ok = q->ops->write(q->opaque, &list);
        free_list(&list);
        if (!may_block) {
            break; /* it was asked about the room for one write */
        }
    }
    q->ops->unlock(q->opaque);
    return ok ? POSTCOPY_SEND_DONE : POSTCOPY_SEND_FAILED;
}

PostcopySend postcopy_request_flush(PostcopyRequestQueue *q, bool may_block)
{
    PostcopySend ret = POSTCOPY_SEND_DONE;

    do {
        if (may_block) {
            qemu_mutex_lock(&q->send_lock);
        } else if (qemu_mutex_trylock(&q->send_lock)) {
            return POSTCOPY_SEND_ELSEWHERE;
        }
        ret = send_locked(q, may_block);
        qemu_mutex_unlock(&q->send_lock);
        /* Pairs with smp_mb() in postcopy_request_push(). */
        smp_mb();
    } while (ret == POSTCOPY_SEND_DONE &&
             qatomic_read(&q->pending.slh_first));

    return ret;
}
